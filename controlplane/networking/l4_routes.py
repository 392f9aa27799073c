"""The routes of connections to a port without plain HTTP: a VirtualService's ``tcp`` and ``tls`` routes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from controlplane.model.service import Service, ServicePort
from controlplane.networking.destinations import destination_cluster, service_cluster, with_a_share
from controlplane.networking.scope import SidecarScope
from controlplane.resources.route_destination import WeightedDestination, is_for_mesh
from controlplane.resources.virtual_service import VirtualService


@dataclass(frozen=True, slots=True, kw_only=True)
class L4Route:
    """``clusters`` with their weights. Empty ``server_names`` and ``subnets`` match every connection."""

    clusters: tuple[tuple[str, int], ...]
    server_names: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()


def l4_routes(scope: SidecarScope, service: Service, port: ServicePort, dialled: str) -> list[L4Route]:
    """Returns the routes in the order in which they are tried. The last one matches every connection; if the
    VirtualService has no such route, it leads to the service itself. ``dialled`` is the service's host, or ""
    through the explicit proxy."""
    spec = scope.virtual_service(service.hostname)
    found: list[L4Route] = []
    if spec is not None:
        routes = _tls_routes if port.protocol.is_tls else _tcp_routes
        found.extend(routes(scope, spec, port.number, dialled))
    if not any(not route.server_names and not route.subnets for route in found):
        found.append(L4Route(clusters=((service_cluster(scope, service.hostname, port.number, dialled), 1),)))
    return found


def _tls_routes(scope: SidecarScope, spec: VirtualService, port: int, dialled: str) -> Iterable[L4Route]:
    for rule in spec.tls:
        for match in rule.match:
            names = tuple(name for name in match.sni_hosts if _decides(scope, spec, name))
            if names and match.port in (None, port) and is_for_mesh(match.gateways):
                yield L4Route(
                    clusters=_clusters(scope, rule.route, port, dialled),
                    server_names=names,
                    subnets=match.destination_subnets,
                )


def _decides(scope: SidecarScope, spec: VirtualService, server_name: str) -> bool:
    """Whether the VirtualService decides for the name: no other one has a more specific host for it. A short
    name is not a host."""
    decisive = scope.virtual_service(server_name)
    return decisive is None or decisive is spec


def _tcp_routes(scope: SidecarScope, spec: VirtualService, port: int, dialled: str) -> Iterable[L4Route]:
    for rule in spec.tcp:
        clusters = _clusters(scope, rule.route, port, dialled)
        if not rule.match:
            yield L4Route(clusters=clusters)
        for match in rule.match:
            if match.port in (None, port) and is_for_mesh(match.gateways):
                yield L4Route(clusters=clusters, subnets=match.destination_subnets)


def _clusters(
    scope: SidecarScope, route: Sequence[WeightedDestination], port: int, dialled: str
) -> tuple[tuple[str, int], ...]:
    return tuple(
        (destination_cluster(scope, each.destination, port, dialled), each.weight or 1)
        for each in with_a_share(route)
    )
