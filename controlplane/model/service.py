"""Services and their endpoints, whether a Service, a ServiceEntry or a WorkloadEntry declares them, or a
cluster reports them (a Pod, an EndpointSlice)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Protocol(Enum):
    """The protocol of a port's traffic: Istio's protocol selection, by ``appProtocol`` or the port's name."""

    HTTP = "HTTP"
    HTTP2 = "HTTP2"
    GRPC = "GRPC"
    GRPC_WEB = "GRPC-WEB"
    HTTPS = "HTTPS"
    TLS = "TLS"
    TCP = "TCP"
    UNSUPPORTED = "UNSUPPORTED"  # not declared: Istio would detect it

    @property
    def is_http(self) -> bool:
        return self is Protocol.HTTP or self.is_http2

    @property
    def is_http2(self) -> bool:
        return self in (Protocol.HTTP2, Protocol.GRPC, Protocol.GRPC_WEB)

    @property
    def is_tls(self) -> bool:
        return self in (Protocol.HTTPS, Protocol.TLS)


class Resolution(Enum):
    """Istio's ``ServiceEntry.Resolution``. A Kubernetes Service is STATIC, also a headless one."""

    NONE = "NONE"
    STATIC = "STATIC"
    DNS = "DNS"
    DNS_ROUND_ROBIN = "DNS_ROUND_ROBIN"


class Registry(Enum):
    KUBERNETES = "Kubernetes"
    EXTERNAL = "External"  # a ServiceEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePort:
    """``target_port`` is the workload's port number, or the name by which workloads know it."""

    name: str
    number: int
    protocol: Protocol
    target_port: int | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A destination. ``hostname`` is fully qualified and may be a wildcard (``*.example.com``). ``addresses``
    are its virtual IPs or CIDRs. One host may have several declarations: for other namespaces, or, in one
    namespace, for other ports. ``declaration`` identifies them: the ServiceEntry's ``namespace/name``, or ""
    for a Kubernetes Service. ``automatic_address``: a ServiceEntry without addresses gets a virtual IP, for
    proxies that capture DNS."""

    hostname: str
    name: str
    namespace: str
    registry: Registry
    ports: tuple[ServicePort, ...]
    addresses: tuple[str, ...] = ()
    resolution: Resolution = Resolution.STATIC
    mesh_external: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    selector: Mapping[str, str] = field(default_factory=dict)
    export_to: tuple[str, ...] = ("*",)  # "*", "." or namespaces
    subject_alt_names: tuple[str, ...] = ()
    creation: str = ""  # the oldest wins conflicts: RFC 3339, or "" in folders
    external_name: str = ""
    headless: bool = False  # Kubernetes' `clusterIP: None`: clients choose an endpoint, and dial its address
    declaration: str = ""
    automatic_address: bool = False

    @property
    def seniority(self) -> tuple[bool, str, str, str]:
        """The order of services that claim one host or address: a cluster's own come first, then the
        oldest."""
        return self.registry is not Registry.KUBERNETES, self.creation, self.hostname, self.declaration

    def port(self, number: int) -> ServicePort | None:
        return next((port for port in self.ports if port.number == number), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """An application at an address: a WorkloadEntry, an inline endpoint of a ServiceEntry, or a pod (whose
    ``registry`` is KUBERNETES). ``ports`` maps the name of a port to its number on this workload.
    ``mesh_tls``: it has a sidecar that speaks mesh TLS (the label ``security.istio.io/tlsMode: istio``).
    ``uid``, ``node`` (its name) and ``addresses`` are those of a pod, whose ``address`` is empty until it has
    one. ``owner`` is the name of the Deployment, or other controller, of the pod; empty without one."""

    name: str
    namespace: str
    address: str
    owner: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)
    service_account: str = ""
    locality: str = ""  # region/zone/sub-zone
    weight: int = 1
    mesh_tls: bool = False
    healthy: bool = True
    registry: Registry = Registry.EXTERNAL
    uid: str = ""
    node: str = ""
    addresses: tuple[str, ...] = ()  # all addresses, including the first


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceEndpoint:
    """A workload as an endpoint of one port of a service; ``port`` is the number to dial. ``declaration`` is
    that of the service. ``hostname`` is the endpoint's own name below the service's host, as pods of a
    StatefulSet have it."""

    service_port: str
    address: str
    port: int
    workload: Workload
    declaration: str = ""
    hostname: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSlice:
    """Some of the endpoints of a Kubernetes Service, as the cluster selects them. An endpoint that is not
    ready has an unhealthy workload."""

    hostname: str
    endpoints: tuple[ServiceEndpoint, ...]
