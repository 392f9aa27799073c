"""The ports on which a sidecar accepts traffic for its workload, and the clusters of the workload."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.address_pb2 import BindConfig

from controlplane.model.mesh_config import MeshConfig
from controlplane.model.protocol import select_protocol
from controlplane.model.proxy import InterceptionMode, Proxy
from controlplane.model.service import Protocol, Service, ServicePort
from controlplane.model.snapshot import MeshSnapshot
from controlplane.networking.addresses import local_addresses, socket_address, split_authority
from controlplane.networking.clusters import service_metadata
from controlplane.networking.names import (
    INBOUND_PASSTHROUGH_CLUSTER,
    inbound_cluster,
)
from controlplane.networking.scope import sidecar_of
from controlplane.networking.traffic_policy import apply_connection_pool, circuit_breakers, http_version
from controlplane.resources.sidecar import CaptureMode, IstioIngressListener
from protos.node import ISTIO_METADATA

_UNSPECIFIED: Final = frozenset(("0.0.0.0", "::"))
_LOOPBACK: Final = frozenset(("127.0.0.1", "::1"))


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundPort:
    """``number`` is the port that callers dial. ``bind`` is the address to listen on, or None if traffic is
    redirected to the sidecar. ``app`` is the address of the application, or None for the address that the
    caller dialled: an application that listens on loopback only stays private to its Pod."""

    number: int
    protocol: Protocol
    bind: str | None
    app: tuple[str, int] | None
    service: Service | None


def inbound_ports(snapshot: MeshSnapshot, proxy: Proxy) -> tuple[InboundPort, ...]:
    """The ports in the ``Sidecar`` resource (``ingress``), or else every port of every service of the
    workload."""
    sidecar = sidecar_of(snapshot, proxy)
    if sidecar is not None and sidecar.ingress:
        return tuple(_ingress_port(snapshot, proxy, listener) for listener in sidecar.ingress)
    if proxy.interception_mode is InterceptionMode.NONE:
        return ()  # the application itself listens on its ports
    ports: dict[int, InboundPort] = {}
    for service, port, number in _service_ports(snapshot, proxy):
        ports.setdefault(
            number,
            InboundPort(
                number=number,
                protocol=port.protocol,
                bind=None,
                app=None,
                service=service,
            ),
        )
    return tuple(ports[number] for number in sorted(ports))


def _ingress_port(snapshot: MeshSnapshot, proxy: Proxy, listener: IstioIngressListener) -> InboundPort:
    number = listener.port.number
    captured = (
        proxy.interception_mode is not InterceptionMode.NONE and listener.capture_mode is not CaptureMode.NONE
    )
    own = local_addresses(proxy)
    app = None if captured else (own.loopback, number)
    if listener.default_endpoint is not None:
        host, app_port = split_authority(listener.default_endpoint)
        assert app_port is not None  # the model has checked it
        # Istio: the unspecified address means the workload's own.
        app = (proxy.ip if host in _UNSPECIFIED else host, app_port)
    services = (service for service, _, target in _service_ports(snapshot, proxy) if target == number)
    return InboundPort(
        number=number,
        protocol=select_protocol(listener.port.name, listener.port.protocol, number),
        bind=None if captured else listener.bind or own.wildcard,
        app=app,
        service=next(services, None),
    )


def _service_ports(snapshot: MeshSnapshot, proxy: Proxy) -> Iterable[tuple[Service, ServicePort, int]]:
    """The ports of the services that select the proxy's workload, with their numbers on the workload."""
    for service in sorted(snapshot.all_services(), key=attrgetter("hostname")):
        selects = service.selector and service.selector.items() <= proxy.labels.items()
        if service.namespace == proxy.namespace and selects:
            for port in service.ports:
                number = _workload_port(snapshot, proxy, service, port)
                if number is not None:
                    yield service, port, number


def _workload_port(snapshot: MeshSnapshot, proxy: Proxy, service: Service, port: ServicePort) -> int | None:
    for endpoint in snapshot.endpoints.get(service.hostname, ()):
        workload = endpoint.workload
        if (
            endpoint.declaration == service.declaration
            and endpoint.service_port == port.name
            and (workload.namespace, workload.name) == (proxy.namespace, proxy.workload)
        ):
            return endpoint.port
    return port.target_port if isinstance(port.target_port, int) else None


def inbound_clusters(snapshot: MeshSnapshot, proxy: Proxy) -> dict[str, Cluster]:
    intercepted = proxy.interception_mode is not InterceptionMode.NONE
    source = local_addresses(proxy).inbound_source if intercepted else ""
    clusters = [_app_cluster(snapshot.mesh_config, port, source) for port in inbound_ports(snapshot, proxy)]
    if intercepted:
        clusters.append(_passthrough_cluster(snapshot.mesh_config, source))
    return {cluster.name: cluster for cluster in clusters}


def _app_cluster(mesh_config: MeshConfig, port: InboundPort, source: str) -> Cluster:
    name = inbound_cluster(port.number)
    if port.app is None:
        cluster = Cluster(name=name, type=Cluster.ORIGINAL_DST, lb_policy=Cluster.CLUSTER_PROVIDED)
    else:
        cluster = Cluster(name=name, type=Cluster.STATIC)
        endpoint = {"endpoint": {"address": socket_address(*port.app)}}
        cluster.load_assignment.cluster_name = name
        cluster.load_assignment.endpoints.add(lb_endpoints=[endpoint])
    if source and not (port.app and port.app[0] in _LOOPBACK):
        cluster.upstream_bind_config.CopyFrom(_from(source))
    # The application speaks the version that its port declares, whatever its callers' proxies speak.
    version = http_version(None, port.protocol, mesh_upgrades=False)
    apply_connection_pool(cluster, None, version, mesh_config.connect_timeout)
    if port.service is not None:
        metadata = service_metadata(port.service)
        cluster.metadata.filter_metadata[ISTIO_METADATA].CopyFrom(metadata)
    return cluster


def _from(source: str) -> BindConfig:
    return BindConfig(source_address={"address": source, "port_value": 0})


def _passthrough_cluster(mesh_config: MeshConfig, source: str) -> Cluster:
    return Cluster(
        name=INBOUND_PASSTHROUGH_CLUSTER,
        type=Cluster.ORIGINAL_DST,
        lb_policy=Cluster.CLUSTER_PROVIDED,
        connect_timeout=mesh_config.connect_timeout,
        circuit_breakers=circuit_breakers(None),
        upstream_bind_config=_from(source),
    )
