"""The endpoints of headless services, which clients dial by address: their data for listeners, routes and
clusters, in addition to load assignments."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain

from controlplane.model.service import Service, ServiceEndpoint, ServicePort
from controlplane.networking.build_cache import BuildCache, cached
from controlplane.networking.names import OutboundName
from controlplane.networking.scope import SidecarScope
from controlplane.resources.ip_addresses import is_ip_address


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadlessEndpoint:
    """An endpoint of the port ``service_port`` of the service ``service``. ``hostname`` is its own, fully
    qualified, or empty."""

    service: str
    service_port: str
    address: str
    hostname: str


HeadlessEndpoints = frozenset[HeadlessEndpoint]


@cached(latest=("endpoints",))
def headless_endpoints(
    cache: BuildCache, scope: SidecarScope, *, endpoints: Mapping[str, tuple[ServiceEndpoint, ...]]
) -> HeadlessEndpoints:
    """The endpoints of all services whose hosts the proxy may request, whether they are ready or not: a
    client chooses one deliberately. The result is the same object as long as it is equal."""
    services = (each for each in chain.from_iterable(scope.services.values()) if each.headless)
    found = (_of_service(service, endpoints.get(service.hostname, ())) for service in services)
    return _as_before(cache, scope, found=frozenset(chain.from_iterable(found)))


@cached(latest=("found",))
def _as_before(cache: BuildCache, scope: SidecarScope, *, found: HeadlessEndpoints) -> HeadlessEndpoints:
    """Returns the earlier result if it is equal: the builders compare it for each proxy, which is fast for
    the same object."""
    del cache, scope
    return found


def _of_service(service: Service, endpoints: Iterable[ServiceEndpoint]) -> Iterable[HeadlessEndpoint]:
    for endpoint in endpoints:
        if endpoint.declaration == service.declaration and is_ip_address(endpoint.address):
            yield HeadlessEndpoint(
                service=service.hostname,
                service_port=endpoint.service_port,
                address=endpoint.address,
                hostname=f"{endpoint.hostname}.{service.hostname}" if endpoint.hostname else "",
            )


def endpoints_with_hosts(
    endpoints: HeadlessEndpoints, service: Service, port: ServicePort
) -> list[HeadlessEndpoint]:
    """The endpoints of a service's port that have their own host: one for each host, sorted."""
    if not service.headless:
        return []
    found = {
        each.hostname: each
        for each in endpoints
        if each.hostname and (each.service, each.service_port) == (service.hostname, port.name)
    }
    return [found[hostname] for hostname in sorted(found)]


def endpoint_cluster(endpoint: HeadlessEndpoint, port: ServicePort) -> str:
    """The name of the cluster of one endpoint."""
    return str(OutboundName(port.number, "", endpoint.hostname))


def addresses_by_port(endpoints: HeadlessEndpoints) -> Mapping[tuple[str, str], list[str]]:
    """The addresses by service and name of its port, in a stable order."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for address, key in sorted({(each.address, (each.service, each.service_port)) for each in endpoints}):
        found[key].append(address)
    return found
