"""The ports on which a sidecar accepts traffic for its workload, and the clusters of the workload."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter

from envoy.config.cluster.v3.cluster_pb2 import Cluster

from controlplane.model.mesh_config import MeshConfig
from controlplane.model.protocol import select_protocol
from controlplane.model.proxy import InterceptionMode, Proxy
from controlplane.model.service import Protocol, Service, ServicePort
from controlplane.model.snapshot import MeshSnapshot
from controlplane.networking.addresses import socket_address, split_authority
from controlplane.networking.clusters import service_metadata
from controlplane.networking.names import (
    INBOUND_PASSTHROUGH_CLUSTER,
    WILDCARD_ADDRESS,
    inbound_cluster,
)
from controlplane.networking.scope import sidecar_of
from controlplane.networking.traffic_policy import apply_connection_pool, circuit_breakers
from controlplane.resources.sidecar import CaptureMode, IstioIngressListener
from protos.node import ISTIO_METADATA

_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundPort:
    """``number`` is the port that callers dial. ``bind`` is the address to listen on, or None if traffic is
    redirected to the sidecar. ``app`` is the address of the application."""

    number: int
    protocol: Protocol
    bind: str | None
    app: tuple[str, int]
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
                app=(_LOOPBACK, number),
                service=service,
            ),
        )
    return tuple(ports[number] for number in sorted(ports))


def _ingress_port(snapshot: MeshSnapshot, proxy: Proxy, listener: IstioIngressListener) -> InboundPort:
    number = listener.port.number
    captured = (
        proxy.interception_mode is not InterceptionMode.NONE and listener.capture_mode is not CaptureMode.NONE
    )
    host, app_port = split_authority(listener.default_endpoint or f"{_LOOPBACK}:{number}")
    assert app_port is not None  # the model has checked it
    services = (service for service, _, target in _service_ports(snapshot, proxy) if target == number)
    return InboundPort(
        number=number,
        protocol=select_protocol(listener.port.name, listener.port.protocol, number),
        bind=None if captured else listener.bind or WILDCARD_ADDRESS,
        # Istio: the unspecified address means the workload's own.
        app=(proxy.ip if host in (WILDCARD_ADDRESS, "::") else host, app_port),
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
    clusters = [_app_cluster(snapshot.mesh_config, port) for port in inbound_ports(snapshot, proxy)]
    if proxy.interception_mode is not InterceptionMode.NONE:
        clusters.append(_passthrough_cluster(snapshot.mesh_config))
    return {cluster.name: cluster for cluster in clusters}


def _app_cluster(mesh_config: MeshConfig, port: InboundPort) -> Cluster:
    name = inbound_cluster(port.number)
    cluster = Cluster(name=name, type=Cluster.STATIC)
    endpoint = {"endpoint": {"address": socket_address(*port.app)}}
    cluster.load_assignment.cluster_name = name
    cluster.load_assignment.endpoints.add(lb_endpoints=[endpoint])
    apply_connection_pool(cluster, None, port.protocol, mesh_config.connect_timeout)
    if port.service is not None:
        metadata = service_metadata(port.service)
        cluster.metadata.filter_metadata[ISTIO_METADATA].CopyFrom(metadata)
    return cluster


def _passthrough_cluster(mesh_config: MeshConfig) -> Cluster:
    return Cluster(
        name=INBOUND_PASSTHROUGH_CLUSTER,
        type=Cluster.ORIGINAL_DST,
        lb_policy=Cluster.CLUSTER_PROVIDED,
        connect_timeout=mesh_config.connect_timeout,
        circuit_breakers=circuit_breakers(None),
        # Istio's redirection rules exempt this source address: other connections would be redirected back to
        # here.
        upstream_bind_config={"source_address": {"address": "127.0.0.6", "port_value": 0}},
    )
