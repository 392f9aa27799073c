"""What a VirtualService's destinations are to a proxy: clusters, and their shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from controlplane.networking.names import OutboundName
from controlplane.networking.scope import SidecarScope
from controlplane.resources.virtual_service import Destination, WeightedDestination

WeightedT = TypeVar("WeightedT", bound=WeightedDestination)


def destination_cluster(scope: SidecarScope, destination: Destination, request_port: int) -> str:
    """The cluster of a destination. One that names no port means its service's only port, or else the one
    that the request came to."""
    ports = [port for each in scope.destinations.get(destination.host, ()) for port in each.ports]
    if destination.port is not None:
        port = destination.port.number
    elif len(ports) == 1:
        port = ports[0].number
    else:
        port = request_port
    return str(OutboundName(port, destination.subset or "", destination.host))


def with_a_share(route: Sequence[WeightedT]) -> list[WeightedT]:
    """Without those that get nothing. The only destination gets all, whatever its weight."""
    return list(route) if len(route) == 1 else [each for each in route if each.weight]
