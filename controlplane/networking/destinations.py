"""What a VirtualService's destinations are to a proxy: clusters, and their shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from controlplane.networking.names import OutboundName
from controlplane.networking.scope import SidecarScope
from controlplane.resources.route_destination import Destination, WeightedDestination

WeightedT = TypeVar("WeightedT", bound=WeightedDestination)


def destination_cluster(
    scope: SidecarScope, destination: Destination, request_port: int, dialled: str
) -> str:
    """The cluster of a destination. One that names no port means its service's only port, or else the one
    that the request came to. ``dialled`` is the host whose address the client has chosen: see
    `service_cluster`."""
    ports = [port for each in scope.destinations.get(destination.host, ()) for port in each.ports]
    if destination.port is not None:
        port = destination.port.number
    elif len(ports) == 1:
        port = ports[0].number
    else:
        port = request_port
    if destination.subset:
        return str(OutboundName(port, destination.subset, destination.host))
    return service_cluster(scope, destination.host, port, dialled)


def service_cluster(scope: SidecarScope, hostname: str, port: int, dialled: str) -> str:
    """What a client sends to an endpoint of a headless service, by its address, goes there; what comes to it
    otherwise, through a route of another host or the explicit proxy, is balanced."""
    name = OutboundName(port, "", hostname)
    is_headless = any(each.headless for each in scope.destinations.get(hostname, ()))
    return name.balanced if scope.redirected and is_headless and dialled != hostname else str(name)


def with_a_share(route: Sequence[WeightedT]) -> list[WeightedT]:
    """Without those that get nothing. The only destination gets all, whatever its weight."""
    return list(route) if len(route) == 1 else [each for each in route if each.weight]
