"""Services and their endpoints, from whatever declared them (a Service, a ServiceEntry, a WorkloadEntry), and
what a cluster tells of both (a Pod, an EndpointSlice)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Protocol(Enum):
    """How a port's traffic is treated: Istio's protocol selection, by ``appProtocol`` or the port's name."""

    HTTP = "HTTP"
    HTTP2 = "HTTP2"
    GRPC = "GRPC"
    HTTPS = "HTTPS"
    TLS = "TLS"
    TCP = "TCP"
    UNSUPPORTED = "UNSUPPORTED"  # neither says: Istio would sniff

    @property
    def is_http(self) -> bool:
        return self in (Protocol.HTTP, Protocol.HTTP2, Protocol.GRPC)

    @property
    def is_http2(self) -> bool:
        return self in (Protocol.HTTP2, Protocol.GRPC)

    @property
    def is_tls(self) -> bool:
        return self in (Protocol.HTTPS, Protocol.TLS)


class Resolution(Enum):
    """Istio's ``ServiceEntry.Resolution``; a Kubernetes Service is STATIC, a headless one too."""

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
    """A destination. ``hostname`` is fully qualified and may be a wildcard (``*.example.com``).
    ``addresses`` are the virtual IPs, or CIDRs, that stand for it. One host may have several declarations:
    for other namespaces, or, in one namespace, for other ports. ``declaration`` tells them apart: the
    ServiceEntry's ``namespace/name``, "" for a Service of Kubernetes."""

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
    creation: str = ""  # who came first decides conflicts: RFC 3339, or "" for folders
    external_name: str = ""
    headless: bool = False  # Kubernetes' `clusterIP: None`: clients choose an endpoint, and dial its address
    declaration: str = ""

    @property
    def seniority(self) -> tuple[bool, str, str, str]:
        """Of services that claim one host or address, the least counts: a cluster's own, then the oldest."""
        return self.registry is not Registry.KUBERNETES, self.creation, self.hostname, self.declaration

    def port(self, number: int) -> ServicePort | None:
        return next((port for port in self.ports if port.number == number), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What runs at an address: a WorkloadEntry, an inline endpoint of a ServiceEntry, or a pod (whose
    ``registry`` is KUBERNETES). ``ports`` maps a port's name to its number here. ``mesh_tls``: a sidecar is
    there and speaks mesh TLS (the label ``security.istio.io/tlsMode: istio``). ``uid``, ``node`` (its name)
    and ``addresses`` are a pod's; one that has no address yet has an empty ``address``.
    ``owner`` is the name of the Deployment, or whatever else, that it belongs to; empty where it is on its
    own."""

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
    addresses: tuple[str, ...] = ()  # all of them, the first too


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceEndpoint:
    """One workload as one port of a service sees it; ``port`` is the number to dial. ``declaration`` is the
    service's; ``hostname`` is the endpoint's own below the service's, as a pod of a StatefulSet has one."""

    service_port: str
    address: str
    port: int
    workload: Workload
    declaration: str = ""
    hostname: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSlice:
    """Some of the endpoints of a Kubernetes Service, as the cluster itself chose them. One that is not ready
    is there, with an unhealthy workload."""

    hostname: str
    endpoints: tuple[ServiceEndpoint, ...]
