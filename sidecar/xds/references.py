"""The resources that a resource refers to, for warming, subscriptions and validation. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Set

from sidecar.config.listener import FilterChain, HttpConnectionManager, Listener
from sidecar.config.route import ForwardAction, RouteConfiguration


def clusters_of_route(route: RouteConfiguration) -> frozenset[str]:
    """The clusters that its routes name. Clusters that a request header names are not known here."""
    return frozenset(
        cluster.name
        for host in route.virtual_hosts
        for entry in host.routes
        if isinstance(entry.action, ForwardAction)
        for cluster in entry.action.clusters
    )


def clusters_of_listener(listener: Listener) -> frozenset[str]:
    """The clusters of its TCP proxies, its HTTP filters, and the route configurations inside it."""
    names: set[str] = set()
    for chain in _chains(listener):
        if not isinstance(chain.filter, HttpConnectionManager):
            names.update(cluster.name for cluster in chain.filter.clusters)
            continue
        names.update(name for http_filter in chain.filter.http_filters for name in http_filter.clusters)
        if chain.filter.route_config is not None:
            names |= clusters_of_route(chain.filter.route_config)
    return frozenset(names)


def routes_of_listener(listener: Listener) -> dict[str, float]:
    """The route configurations to discover, with the seconds to wait for the first version (0: no limit)."""
    return {
        chain.filter.rds_name: chain.filter.rds_initial_fetch_timeout_s
        for chain in _chains(listener)
        if isinstance(chain.filter, HttpConnectionManager) and chain.filter.rds_name
    }


def unknown_cluster(route: RouteConfiguration, known: Set[str], *, in_place: bool) -> str:
    """The first cluster that does not exist; empty if all exist or ``validate_clusters`` disables the check.
    By default, only a route configuration ``in_place``, inside its listener, is checked."""
    validate = route.validate_clusters
    if not (in_place if validate is None else validate):
        return ""
    return min(clusters_of_route(route) - known, default="")


def unknown_cluster_in_listener(listener: Listener, known: Set[str]) -> str:
    """The same as `unknown_cluster`, for the route configurations inside the listener."""
    for chain in _chains(listener):
        if isinstance(chain.filter, HttpConnectionManager) and chain.filter.route_config is not None:
            missing = unknown_cluster(chain.filter.route_config, known, in_place=True)
            if missing:
                return missing
    return ""


def _chains(listener: Listener) -> Iterator[FilterChain]:
    yield from listener.filter_chains
    if listener.default_filter_chain is not None:
        yield listener.default_filter_chain
