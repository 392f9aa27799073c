"""The listeners of a sidecar for its workload: mutual TLS, plaintext or both, by policy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from envoy.config.listener.v3.listener_components_pb2 import FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_components_pb2 import RetryPolicy, Route, VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration

from controlplane.model.proxy import InterceptionMode, Proxy
from controlplane.model.service import Protocol
from controlplane.model.snapshot import MeshSnapshot
from controlplane.networking.addresses import local_addresses, socket_address
from controlplane.networking.http_connection_manager import inbound_http_filter
from controlplane.networking.inbound import InboundPort, inbound_ports
from controlplane.networking.messages import uint32
from controlplane.networking.names import (
    BLACK_HOLE_CLUSTER,
    INBOUND_PASSTHROUGH_CLUSTER,
    VIRTUAL_INBOUND,
    inbound_cluster,
    listener_name,
)
from controlplane.networking.network_filters import ORIGINAL_DST, ORIGINAL_SRC, TLS_INSPECTOR, tcp_proxy
from controlplane.networking.own_workload import tell_workload
from controlplane.networking.peer_authentication import PeerAuthentications
from controlplane.networking.route_match import EVERYTHING
from controlplane.networking.routes import DEFAULT_ROUTE_NAME, NO_TIMEOUT, forward_within
from controlplane.networking.tls import MESH_ALPNS, mesh_server_tls
from controlplane.resources.peer_authentication import MutualTLSMode

# The time to wait for a first byte, which distinguishes TLS from plaintext. After this time the connection
# counts as plaintext, which only a chain for plaintext accepts: the policy never fails open.
_INSPECTION_TIMEOUT: Final = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """The target of one port. ``port`` None means every port that no service has. ``match`` distinguishes the
    port's connections from others of the same listener."""

    name: str
    cluster: str
    protocol: Protocol
    port: int | None
    match: dict[str, Any]


def inbound_listeners(
    snapshot: MeshSnapshot, proxy: Proxy, policies: PeerAuthentications, own_metadata: str = ""
) -> dict[str, Listener]:
    """``own_metadata`` is the result of `own_workload_metadata`."""
    ports = inbound_ports(snapshot, proxy)
    listeners = [_bound_listener(snapshot, proxy, policies, port) for port in ports if port.bind is not None]
    if proxy.interception_mode is not InterceptionMode.NONE:
        captured = [port for port in ports if port.bind is None]
        listeners.append(_virtual_inbound(snapshot, proxy, policies, captured))
    for listener in listeners:
        tell_workload(listener, own_metadata)
    return {listener.name: listener for listener in listeners}


def _bound_listener(
    snapshot: MeshSnapshot, proxy: Proxy, policies: PeerAuthentications, port: InboundPort
) -> Listener:
    bind = port.bind or local_addresses(proxy).wildcard
    name = listener_name(bind, port.number)
    target = _Target(
        name=name,
        cluster=inbound_cluster(port.number),
        protocol=port.protocol,
        port=port.number,
        match={},
    )
    listener = Listener(
        name=name,
        address=socket_address(bind, port.number),
        filter_chains=_filter_chains(snapshot, proxy, policies, target),
        traffic_direction="INBOUND",
    )
    if policies.mode(proxy.namespace, proxy.labels, target.port) is not MutualTLSMode.DISABLE:
        _inspect_tls(listener)
    return listener


def _virtual_inbound(
    snapshot: MeshSnapshot, proxy: Proxy, policies: PeerAuthentications, ports: list[InboundPort]
) -> Listener:
    """Accepts every redirected connection, for all of the workload's ports. With TPROXY, the application sees
    the client's address."""
    own_port = snapshot.mesh_config.inbound_port
    listener = Listener(
        name=VIRTUAL_INBOUND,
        address=socket_address(local_addresses(proxy).wildcard, own_port),
        listener_filters=[ORIGINAL_DST],
        traffic_direction="INBOUND",
    )
    if proxy.interception_mode is InterceptionMode.TPROXY:
        listener.transparent.value = True
        listener.listener_filters.add(**ORIGINAL_SRC)
    # A connection to the port itself was not redirected: forwarding it would be an endless loop.
    listener.filter_chains.add(
        name=f"{VIRTUAL_INBOUND}-blackhole",
        filter_chain_match={"destination_port": {"value": own_port}},
        filters=[tcp_proxy(((BLACK_HOLE_CLUSTER, 1),), BLACK_HOLE_CLUSTER)],
    )
    for target in _captured_targets(proxy, policies, ports):
        listener.filter_chains.extend(_filter_chains(snapshot, proxy, policies, target))
    _inspect_tls(listener)
    return listener


def _captured_targets(
    proxy: Proxy, policies: PeerAuthentications, ports: list[InboundPort]
) -> Iterable[_Target]:
    wildcard = local_addresses(proxy).wildcard
    for port in ports:
        yield _Target(
            name=listener_name(wildcard, port.number),
            cluster=inbound_cluster(port.number),
            protocol=port.protocol,
            port=port.number,
            match={"destination_port": {"value": port.number}},
        )
    known = {port.number for port in ports}
    named = policies.ports_with_own_mode(proxy.namespace, proxy.labels)
    # A port may have its own mode without belonging to a service.
    for number in (*(port for port in named if port not in known), None):
        yield _Target(
            name=f"{VIRTUAL_INBOUND}-{number or 'catchall'}",
            cluster=INBOUND_PASSTHROUGH_CLUSTER,
            protocol=Protocol.TCP,
            port=number,
            match={"destination_port": {"value": number}} if number else {},
        )


def _inspect_tls(listener: Listener) -> None:
    listener.listener_filters.add(**TLS_INSPECTOR)
    listener.listener_filters_timeout.FromTimedelta(_INSPECTION_TIMEOUT)
    listener.continue_on_listener_filters_timeout = True


def _filter_chains(
    snapshot: MeshSnapshot, proxy: Proxy, policies: PeerAuthentications, target: _Target
) -> list[FilterChain]:
    """STRICT accepts mesh TLS only. DISABLE accepts everything as it is. PERMISSIVE recognizes mesh TLS by
    its ALPN, and accepts plaintext and the application's own TLS too, which is passed through. As in Istio, a
    port that declares HTTP does not accept the latter: no policy or route for HTTP would apply to it."""
    mode = policies.mode(proxy.namespace, proxy.labels, target.port)
    app = _app_filter(target)
    if mode is MutualTLSMode.DISABLE:
        return [FilterChain(name=target.name, filter_chain_match=target.match, filters=[app])]
    tls = {**target.match, "transport_protocol": "tls"}
    mesh_match = tls if mode is MutualTLSMode.STRICT else {**tls, "application_protocols": MESH_ALPNS}
    mesh = FilterChain(
        name=f"{target.name}-mtls",
        filter_chain_match=mesh_match,
        filters=[app],
        transport_socket=mesh_server_tls(snapshot.mesh_config.trust_domain, http=target.protocol.is_http),
    )
    if mode is MutualTLSMode.STRICT:
        return [mesh]
    plaintext = FilterChain(
        name=f"{target.name}-plaintext",
        filter_chain_match={**target.match, "transport_protocol": "raw_buffer"},
        filters=[app],
    )
    if target.protocol.is_http:
        return [mesh, plaintext]
    own_tls = FilterChain(name=f"{target.name}-tls", filter_chain_match=tls, filters=[app])
    return [mesh, own_tls, plaintext]


def _app_filter(target: _Target) -> dict[str, Any]:
    if not target.protocol.is_http:
        return tcp_proxy(((target.cluster, 1),), target.cluster)
    # The application did not read the request if it closed an idle connection: one retry is safe.
    retry = RetryPolicy(retry_on="reset-before-request", num_retries=uint32(1))
    action = forward_within(NO_TIMEOUT, cluster=target.cluster)
    action.retry_policy.CopyFrom(retry)
    host = VirtualHost(
        name=f"inbound|http|{target.port}",
        domains=["*"],
        routes=[Route(name=DEFAULT_ROUTE_NAME, match=EVERYTHING, route=action)],
    )
    routes = RouteConfiguration(name=target.cluster, virtual_hosts=[host], validate_clusters={"value": False})
    grpc_web = target.protocol is Protocol.GRPC_WEB
    return inbound_http_filter(f"inbound_{target.name}", routes, grpc_web=grpc_web)
