"""The route configurations of a sidecar's outbound side: one virtual host for each port of each service.

``9080`` serves the transparent listener of that port, ``http_proxy`` the explicit proxy of all ports.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import Final

from envoy.config.route.v3.route_components_pb2 import Route, RouteAction, RouteMatch, VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration

from controlplane.model.hosts import HTTP_PORT, HostIndex
from controlplane.model.service import Protocol, Service, ServicePort
from controlplane.networking.build_cache import BuildCache, cached
from controlplane.networking.destinations import destination_cluster, service_cluster
from controlplane.networking.headless import (
    HeadlessEndpoint,
    HeadlessEndpoints,
    endpoint_cluster,
    endpoints_with_hosts,
)
from controlplane.networking.l4_routes import l4_routes
from controlplane.networking.messages import uint32
from controlplane.networking.names import HTTP_PROXY_ROUTES, PASSTHROUGH_CLUSTER, parse_port
from controlplane.networking.route_match import EVERYTHING
from controlplane.networking.routes import (
    NO_TIMEOUT,
    RouteContext,
    default_route,
    forward_within,
    virtual_service_routes,
)
from controlplane.networking.scope import SidecarScope
from controlplane.resources.hosts import covers
from controlplane.resources.ip_addresses import is_ip_address
from controlplane.resources.virtual_service import VirtualService
from protos.type_urls import ROUTE

_CONNECT: Final = RouteMatch(connect_matcher={})  # no other match matches CONNECT
# Envoy rejects longer direct responses unless the route configuration sets a higher limit.
_DIRECT_RESPONSE_LIMIT_BYTES: Final = 4096


@cached(latest=("headless",), types=[ROUTE])
def outbound_route_config(
    cache: BuildCache, scope: SidecarScope, name: str, *, headless: HeadlessEndpoints
) -> RouteConfiguration | None:
    """Returns None if no listener has a route configuration of this name."""
    port, explicit = parse_port(name), name == HTTP_PROXY_ROUTES
    if port is None and not explicit:
        return None
    mesh = _VisibleMesh(
        scope=scope, headless=headless, domains=_Domains(scope), undeclared=_undeclared_hosts(cache, scope)
    )
    of_services = _service_hosts_of_all_ports(mesh) if port is None else _service_hosts_of_port(mesh, port)
    hosts = sorted(of_services, key=lambda host: host.name.rpartition(":")[0])
    if port in (None, HTTP_PORT):
        hosts += _hosts_without_service(mesh)
    hosts.append(_unknown_hosts(scope, connect=explicit))
    config = RouteConfiguration(name=name, virtual_hosts=hosts, validate_clusters={"value": False})
    longest = max((_body_size(route) for host in hosts for route in host.routes), default=0)
    if longest > _DIRECT_RESPONSE_LIMIT_BYTES:
        config.max_direct_response_body_size_bytes.value = longest
    return config


@dataclass(frozen=True, slots=True, kw_only=True)
class _VisibleMesh:
    """The input of the virtual hosts of one route configuration. ``undeclared`` are the hosts that
    VirtualServices route although no service declares them; ``domains`` are allocated as the hosts are
    made."""

    scope: SidecarScope
    headless: HeadlessEndpoints
    domains: _Domains
    undeclared: HostIndex[str]

    def is_of_others(self, host: str, port: ServicePort) -> bool:
        """Whether a host below a headless service's host belongs to another service, or to a VirtualService
        for a host that no service declares, whose port is 80."""
        by_route = port.number == HTTP_PORT and self.undeclared.find(host.removesuffix(".")) is not None
        return by_route or host in self.scope.services


def http_routes(
    scope: SidecarScope, service: Service, port: int, retry_attempts: int, dialled: str
) -> list[Route]:
    """The routes of requests to one port of a service, by its VirtualService. ``retry_attempts`` is the
    default; ``dialled`` is the service's host, or "" through the explicit proxy."""
    spec = scope.virtual_service(service.hostname)
    routes = _routes_of(scope, spec, port, retry_attempts, dialled) if spec else []
    own = service_cluster(scope, service.hostname, port, dialled)
    return routes or [default_route(own, retry_attempts)]


def _service_hosts_of_port(mesh: _VisibleMesh, number: int) -> Iterable[VirtualHost]:
    scope = mesh.scope
    for service in _by_seniority(scope):
        port = service.port(number)
        if port is not None and port.protocol.is_http:
            aliases = list(_aliases(scope, service))
            below = [
                name
                for name in _hosts_of_endpoints(
                    service, aliases, endpoints_with_hosts(mesh.headless, service, port)
                )
                if not mesh.is_of_others(name, port)
            ]
            names = mesh.domains.take(service.hostname, [*aliases, *below], number, bare=True)
            attempts = scope.mesh_config.default_retry_attempts
            routes = http_routes(scope, service, number, attempts, dialled=service.hostname)
            yield from _virtual_host(service.hostname, number, names, routes)


def _by_seniority(scope: SidecarScope) -> Iterable[Service]:
    """A domain that two services have, such as an address, belongs to the senior one."""
    return sorted(scope.all_services(), key=attrgetter("seniority"))


def _hosts_of_endpoints(
    service: Service, aliases: Sequence[str], endpoints: Iterable[HeadlessEndpoint]
) -> Iterable[str]:
    """Istio: a request to an endpoint of a headless service is routed like one to the service. But ``*.es``
    is a top-level domain too: below a name of one label, only the hosts of known endpoints count."""
    if not service.headless:
        return
    labels = [endpoint.hostname.removesuffix(f".{service.hostname}") for endpoint in endpoints]
    for name in (service.hostname, f"{service.hostname}.", *aliases):
        yield from (f"*.{name}",) if "." in name else (f"{label}.{name}" for label in labels)


def _service_hosts_of_all_ports(mesh: _VisibleMesh) -> Iterable[VirtualHost]:
    scope = mesh.scope
    for service in _by_seniority(scope):
        # A name without a port means port 80, or the first port of a service that has no port 80.
        ports = [port for each in scope.services[service.hostname] for port in each.ports]
        by_number = next((port for port in ports if port.number == HTTP_PORT), None)
        bare_port = by_number or next(filter(_takes_requests, ports), None)
        for port in service.ports:
            aliases, bare = list(_aliases(scope, service)), port is bare_port
            names = mesh.domains.take(service.hostname, aliases, port.number, bare=bare)
            routes = [_service_connect_route(scope, service, port)]
            if _takes_requests(port):
                attempts = scope.mesh_config.default_retry_attempts
                routes += http_routes(scope, service, port.number, attempts, dialled="")
            yield from _virtual_host(service.hostname, port.number, names, routes)
            own = service_cluster(scope, service.hostname, port.number, dialled="")
            for endpoint in endpoints_with_hosts(mesh.headless, service, port):
                if mesh.is_of_others(endpoint.hostname, port):
                    continue
                label = endpoint.hostname.removesuffix(service.hostname)
                names = mesh.domains.take(
                    endpoint.hostname, [label + alias for alias in aliases], port.number, bare=bare
                )
                its_routes = [_instead(route, own, endpoint_cluster(endpoint, port)) for route in routes]
                yield from _virtual_host(endpoint.hostname, port.number, names, its_routes)


def _instead(route: Route, cluster: str, other: str) -> Route:
    """The route, with one cluster replaced by another."""
    if not route.HasField("route"):
        return route
    copy = Route()
    copy.CopyFrom(route)
    if copy.route.cluster == cluster:
        copy.route.cluster = other
    for weighted in copy.route.weighted_clusters.clusters:
        if weighted.name == cluster:
            weighted.name = other
    return copy


def _takes_requests(port: ServicePort) -> bool:
    """Whether requests to the port are routed. A request that arrives as HTTP is HTTP even if the port
    declares no protocol."""
    return port.protocol.is_http or port.protocol is Protocol.UNSUPPORTED


def _hosts_without_service(mesh: _VisibleMesh) -> Iterable[VirtualHost]:
    """VirtualServices may route hosts that no service declares. A wildcard that covers services belongs to
    the services."""
    scope = mesh.scope
    for config in scope.virtual_services:
        for host in config.spec.hosts:
            if mesh.undeclared.find(host) == host:
                names = mesh.domains.take(host, (), HTTP_PORT, bare=True)
                attempts = scope.mesh_config.default_retry_attempts
                routes = _routes_of(scope, config.spec, HTTP_PORT, attempts, dialled="")
                yield from _virtual_host(host, HTTP_PORT, names, routes)


@cached(types=[ROUTE])
def _undeclared_hosts(cache: BuildCache, scope: SidecarScope) -> HostIndex[str]:
    del cache
    hosts = chain.from_iterable(config.spec.hosts for config in scope.virtual_services)
    return HostIndex((host, host) for host in hosts if not _is_answered(scope, host))


def _is_answered(scope: SidecarScope, host: str) -> bool:
    return host in scope.services or (
        host.startswith("*") and any(covers(host, hostname) for hostname in scope.services)
    )


def _routes_of(
    scope: SidecarScope, spec: VirtualService, port: int, retry_attempts: int, dialled: str
) -> list[Route]:
    context = RouteContext(
        port=port,
        cluster_of=partial(destination_cluster, scope, request_port=port, dialled=dialled),
        retry_attempts=retry_attempts,
    )
    return virtual_service_routes(spec, context)


def _virtual_host(
    host: str, port: int, domains: Sequence[str], routes: Sequence[Route]
) -> Iterable[VirtualHost]:
    """Returns no host if other hosts have all of its domains."""
    if domains and routes:
        yield VirtualHost(
            name=f"{host}:{port}", domains=domains, routes=routes, include_request_attempt_count=True
        )


class _Domains:
    """Allocates each domain to one virtual host: Envoy rejects a configuration with a duplicate domain. A
    short name never takes the full name of another host."""

    def __init__(self, scope: SidecarScope) -> None:
        self._full_names = scope.services.keys()
        self._taken: set[str] = set()

    def take(self, host: str, aliases: Iterable[str], port: int, *, bare: bool) -> list[str]:
        names = [host, *(alias for alias in aliases if alias not in self._full_names)]
        if not is_ip_address(host):
            names.insert(1, f"{host}.")  # a fully qualified name (RFC 1034 section 3.1)
        forms = [
            form for name in names for form in ((name, f"{name}:{port}") if bare else (f"{name}:{port}",))
        ]
        free = [form for form in dict.fromkeys(forms) if form not in self._taken]
        self._taken.update(free)
        return free


def _aliases(scope: SidecarScope, service: Service) -> Iterable[str]:
    """A cluster's short names for a service, from its DNS search path, and its virtual IPs."""
    suffix = f".{service.namespace}.svc.{scope.mesh_config.dns_domain}"
    name = service.hostname.removesuffix(suffix)
    if name != service.hostname:
        if service.namespace == scope.namespace:
            yield name
        yield f"{name}.{service.namespace}"
        yield f"{name}.{service.namespace}.svc"
    for address in (*service.addresses, *scope.automatic_addresses.get(service.hostname, ())):
        if is_ip_address(address):
            yield f"[{address}]" if ":" in address else address


def _service_connect_route(scope: SidecarScope, service: Service, port: ServicePort) -> Route:
    """CONNECT carries raw bytes, so it follows the routes for connections, never those for HTTP."""
    if port.protocol.is_http:
        return _connect_route(((service_cluster(scope, service.hostname, port.number, dialled=""), 1),))
    for route in l4_routes(scope, service, port, dialled=""):
        by_name = not route.server_names or any(covers(each, service.hostname) for each in route.server_names)
        if by_name and not route.subnets:
            return _connect_route(route.clusters)
    raise AssertionError("the last route takes every connection")


def _connect_route(clusters: Sequence[tuple[str, int]]) -> Route:
    action = RouteAction(
        timeout=timedelta(0), upgrade_configs=[{"upgrade_type": "CONNECT", "connect_config": {}}]
    )
    if len(clusters) == 1:
        action.cluster = clusters[0][0]
    else:
        for name, weight in clusters:
            action.weighted_clusters.clusters.add(name=name, weight=uint32(weight))
    return Route(name="connect", match=_CONNECT, route=action)


def _unknown_hosts(scope: SidecarScope, *, connect: bool) -> VirtualHost:
    """Traffic to unknown hosts passes through or is rejected: Istio's ``outboundTrafficPolicy``."""
    if scope.allow_any_outbound:
        pass_through = forward_within(NO_TIMEOUT, cluster=PASSTHROUGH_CLUSTER)
        routes = [Route(name="allow_any", match=EVERYTHING, route=pass_through)]
        if connect:
            routes.insert(0, _connect_route(((PASSTHROUGH_CLUSTER, 1),)))
        return VirtualHost(name="allow_any", domains=["*"], routes=routes, include_request_attempt_count=True)
    matches = (_CONNECT, EVERYTHING) if connect else (EVERYTHING,)
    routes = [Route(name="block_all", match=each, direct_response={"status": 502}) for each in matches]
    return VirtualHost(name="block_all", domains=["*"], routes=routes)


def _body_size(route: Route) -> int:
    return len(route.direct_response.body.inline_string.encode())
