"""The clusters of the destinations of a VirtualService, and the destinations that get requests."""

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
    """The cluster of a destination. Without a port, it is the service's only port, or else the port of the
    request. ``dialled`` is the host whose address the client has chosen: see `service_cluster`."""
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
    """Traffic that a client sends to the address of an endpoint of a headless service goes to that endpoint.
    Other traffic, through a route of another host or through the explicit proxy, is balanced."""
    name = OutboundName(port, "", hostname)
    is_headless = any(each.headless for each in scope.destinations.get(hostname, ()))
    return name.balanced if scope.redirected and is_headless and dialled != hostname else str(name)


def with_a_share(route: Sequence[WeightedT]) -> list[WeightedT]:
    """The destinations except those of weight 0. A single destination gets all requests, whatever its
    weight."""
    return list(route) if len(route) == 1 else [each for each in route if each.weight]
