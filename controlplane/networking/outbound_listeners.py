"""The listeners of a sidecar for its workload's outgoing traffic: transparent ones, by the original
destination, and an explicit HTTP proxy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from ipaddress import ip_address, ip_network
from operator import attrgetter, itemgetter
from typing import Final

from envoy.config.listener.v3.listener_components_pb2 import FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener

from controlplane.model.proxy import Proxy
from controlplane.model.service import Service, ServicePort
from controlplane.networking.addresses import cidr_range, normal_range, socket_address
from controlplane.networking.build_cache import BuildCache, cached
from controlplane.networking.destination_rules import effective_policy
from controlplane.networking.headless import HeadlessEndpoints, addresses_by_port
from controlplane.networking.http_connection_manager import outbound_http_filter
from controlplane.networking.l4_routes import L4Route, l4_routes
from controlplane.networking.names import (
    BLACK_HOLE_CLUSTER,
    HTTP_PROXY_ROUTES,
    PASSTHROUGH_CLUSTER,
    VIRTUAL_OUTBOUND,
    listener_name,
)
from controlplane.networking.network_filters import TLS_INSPECTOR, tcp_proxy
from controlplane.networking.own_workload import tell_workload
from controlplane.networking.scope import SidecarScope
from controlplane.resources.destination_rule import TCPSettings
from controlplane.resources.ip_addresses import is_ip_address
from protos.type_urls import LISTENER

_LOOPBACK: Final = "127.0.0.1"
_Addresses = Mapping[tuple[str, str], Sequence[str]]  # of headless services, by host and the port's name


# If a port of a headless service has more endpoints, they share a listener.
_MOST_LISTENERS: Final = 100


def outbound_listeners(
    cache: BuildCache,
    scope: SidecarScope,
    headless: HeadlessEndpoints,
    proxy: Proxy,
    own_metadata: str = "",
) -> dict[str, Listener]:
    """``own_metadata`` is the result of `own_workload_metadata`."""
    listeners: dict[str, Listener] = {}
    if scope.redirected:
        listeners.update(_transparent_listeners(cache, scope, headless=headless))
    port = explicit_proxy_port(scope, proxy)
    if port:
        explicit = _http_proxy_listener(cache, port, own_metadata)
        listeners[explicit.name] = explicit
    return listeners


def explicit_proxy_port(scope: SidecarScope, proxy: Proxy) -> int:
    """0 means that the proxy has no explicit listener."""
    return proxy.http_proxy_port or scope.mesh_config.proxy_http_port


@cached(types=[LISTENER])
def _http_proxy_listener(cache: BuildCache, port: int, own_metadata: str) -> Listener:
    del cache
    name = listener_name(_LOOPBACK, port)
    http = outbound_http_filter(f"outbound_{name}", HTTP_PROXY_ROUTES, connect=True)
    listener = Listener(
        name=name,
        address=socket_address(_LOOPBACK, port),
        filter_chains=[FilterChain(name=name, filters=[http])],
        traffic_direction="OUTBOUND",
    )
    tell_workload(listener, own_metadata)
    return listener


@cached(latest=("headless",), types=[LISTENER])
def _transparent_listeners(
    cache: BuildCache, scope: SidecarScope, *, headless: HeadlessEndpoints
) -> Mapping[str, Listener]:
    del cache
    first = _virtual_outbound(scope)
    binds = _binds(scope, addresses_by_port(headless))
    others = (_port_listener(scope, address, port, bind) for (address, port), bind in binds)
    return {listener.name: listener for listener in (first, *others)}


def _virtual_outbound(scope: SidecarScope) -> Listener:
    """Accepts every redirected connection, and hands it to the listener of its original destination. It
    handles the connections that match no other listener."""
    port = scope.mesh_config.outbound_port
    # A connection to the port itself was not redirected: forwarding it would be an endless loop.
    black_hole = FilterChain(
        name=f"{VIRTUAL_OUTBOUND}-blackhole",
        filter_chain_match={"destination_port": {"value": port}},
        filters=[tcp_proxy(((BLACK_HOLE_CLUSTER, 1),), BLACK_HOLE_CLUSTER)],
    )
    return Listener(
        name=VIRTUAL_OUTBOUND,
        address=socket_address(scope.wildcard_address, port),
        use_original_dst={"value": True},
        filter_chains=[black_hole],
        default_filter_chain=_unknown_destinations(scope),
        traffic_direction="OUTBOUND",
    )


def _unknown_destinations(scope: SidecarScope) -> FilterChain:
    cluster = PASSTHROUGH_CLUSTER if scope.allow_any_outbound else BLACK_HOLE_CLUSTER
    return FilterChain(name=f"{VIRTUAL_OUTBOUND}-catchall-tcp", filters=[tcp_proxy(((cluster, 1),), cluster)])


@dataclass(slots=True)
class _Bind:
    """The services that share one address and port. ``taken`` has every pair of a server name and a range
    ("": any) that a chain matches: Envoy rejects a listener with a duplicate match, so the first service
    counts."""

    http: bool = False
    chains: list[FilterChain] = field(default_factory=list)
    taken: set[tuple[str, str]] = field(default_factory=set)

    def claim(self, names: Sequence[str], ranges: Sequence[str]) -> Iterable[tuple[list[str], list[str]]]:
        """Claims the pairs of these names and ranges that are still free, and returns the fewest matches that
        cover them. No names, or no ranges, means any."""
        free: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for each in dict.fromkeys(ranges or ("",)):
            free_names = [name for name in dict.fromkeys(names or ("",)) if (name, each) not in self.taken]
            self.taken.update((name, each) for name in free_names)
            free[tuple(free_names)].append(each)
        for of_names, of_ranges in free.items():
            if of_names:
                yield [name for name in of_names if name], [each for each in of_ranges if each]


def _binds(scope: SidecarScope, headless: _Addresses) -> Iterable[tuple[tuple[str, int], _Bind]]:
    binds: dict[tuple[str, int], _Bind] = defaultdict(_Bind)
    # The ports on which redirected connections arrive cannot have listeners of services.
    own_ports = {scope.mesh_config.outbound_port, scope.mesh_config.inbound_port}
    services = sorted(scope.all_services(), key=attrgetter("seniority"))
    ports = [(each, port) for each in services for port in each.ports if port.number not in own_ports]
    # HTTP takes precedence over connections that cannot be distinguished from it.
    for service, port in sorted(ports, key=lambda each: not each[1].protocol.is_http):
        if port.protocol.is_http:
            bind = binds[scope.wildcard_address, port.number]
            bind.http = True
            bind.taken.add(("", ""))
        elif service.headless:
            addresses = headless.get((service.hostname, port.name), [])
            _add_endpoints(binds, scope, service, port, addresses)
        else:
            _add_connections(binds, scope, service, port)
    return sorted(binds.items(), key=itemgetter(0))


def _add_connections(
    binds: dict[tuple[str, int], _Bind], scope: SidecarScope, service: Service, port: ServicePort
) -> None:
    """A service with virtual IPs has a listener on each. A service without virtual IPs is distinguished from
    the others of its port by SNI, by its CIDRs, or not at all. A TLS service whose virtual IPs are automatic
    is also found by SNI: a client may have its real address from elsewhere."""
    automatic = scope.automatic_addresses.get(service.hostname, ())
    virtual_ips = [*filter(is_ip_address, service.addresses), *automatic]
    ranges = tuple(address for address in service.addresses if not is_ip_address(address))
    settings = _tcp_settings(scope, service, port)
    for route in l4_routes(scope, service, port, dialled=service.hostname):
        for address in virtual_ips:
            _add_chains(binds[address, port.number], route, service, settings)
        if ranges or not virtual_ips or (automatic and port.protocol.is_tls):
            names = route.server_names or ((service.hostname,) if port.protocol.is_tls and not ranges else ())
            narrowed = replace(route, server_names=names, subnets=route.subnets or ranges)
            _add_chains(binds[scope.wildcard_address, port.number], narrowed, service, settings)


def _add_endpoints(
    binds: dict[tuple[str, int], _Bind],
    scope: SidecarScope,
    service: Service,
    port: ServicePort,
    addresses: Sequence[str],
) -> None:
    """A headless service has a listener on each address of its endpoints, or, if there are very many, a chain
    for each in one listener. If one endpoint is removed, connections to the others stay."""
    share = len(addresses) > _MOST_LISTENERS
    settings = _tcp_settings(scope, service, port)
    for route in l4_routes(scope, service, port, dialled=service.hostname):
        subnets = [ip_network(subnet, strict=False) for subnet in route.subnets]
        for address in addresses:
            if not share:
                _add_chains(binds[address, port.number], route, service, settings)
            elif not subnets or any(ip_address(address) in subnet for subnet in subnets):
                # Envoy uses the longest prefix only, so a wider one would never match.
                narrowed = replace(route, subnets=(address,))
                _add_chains(binds[scope.wildcard_address, port.number], narrowed, service, settings)


def _tcp_settings(scope: SidecarScope, service: Service, port: ServicePort) -> TCPSettings | None:
    rule = scope.destination_rules.find(service)
    pool = effective_policy(rule, None, port.number).connection_pool
    return pool.tcp if pool else None


def _add_chains(bind: _Bind, route: L4Route, service: Service, settings: TCPSettings | None) -> None:
    names = [name for name in route.server_names if _is_server_name(name)]
    if route.server_names and not names:
        return
    for free_names, free_ranges in bind.claim(names, [normal_range(subnet) for subnet in route.subnets]):
        match = {"server_names": free_names, "prefix_ranges": [cidr_range(each) for each in free_ranges]}
        chain = FilterChain(
            name=service.hostname,
            filter_chain_match=match,
            filters=[tcp_proxy(route.clusters, route.clusters[0][0], settings)],
        )
        bind.chains.append(chain)


def _is_server_name(name: str) -> bool:
    """Envoy supports wildcards for whole labels only: ``*.example.com``, but not ``*-v1.example.com``."""
    return not name.startswith("*") or name.startswith("*.")


def _port_listener(scope: SidecarScope, address: str, port: int, bind: _Bind) -> Listener:
    name = listener_name(address, port)
    by_name = any(chain.filter_chain_match.server_names for chain in bind.chains)
    listener = Listener(
        name=name,
        address=socket_address(address, port),
        bind_to_port={"value": False},
        filter_chains=bind.chains,
        listener_filters=[TLS_INSPECTOR] if by_name else [],
        traffic_direction="OUTBOUND",
    )
    if by_name:
        # Istio's protocolDetectionTimeout: a connection may be opened long before its ClientHello is sent.
        listener.listener_filters_timeout.FromTimedelta(timedelta(0))
    if bind.http:
        http = outbound_http_filter(f"outbound_{name}", str(port))
        listener.filter_chains.add(name=name, filters=[http])
    if ("", "") not in bind.taken:
        listener.default_filter_chain.CopyFrom(_unknown_destinations(scope))
    return listener
