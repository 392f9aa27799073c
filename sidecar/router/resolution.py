"""Where a request goes. This is decided once, before the filters: the route, its destination, and the
cluster.

The request keeps the result: a change of the configuration has no effect on a request that a filter still
holds. A filter that changes a property on which routes match calls `Request.resolve_again`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from sidecar.config.listener import HttpConnectionManager
from sidecar.errors import UpgradeRejectedError
from sidecar.http.headers import Headers
from sidecar.http.message import Request
from sidecar.router.filter_config import RouteFilterConfigs
from sidecar.router.forward import Destination, Forward
from sidecar.router.match import CompiledRoute, RouteTableRef
from sidecar.upstream.cluster import Cluster

FindCluster = Callable[[str], Cluster | None]


class ResolvedRoute:
    """`destination` is None if the route itself answers. `cluster` is the running cluster; it is None
    then, and if no cluster has the destination's name."""

    __slots__ = ("cluster", "destination", "per_filter_config", "route")

    def __init__(
        self, route: CompiledRoute, destination: Destination | None, cluster: Cluster | None
    ) -> None:
        self.route = route
        self.destination = destination
        self.cluster = cluster
        self.per_filter_config: RouteFilterConfigs = (
            route.per_filter_config if destination is None else destination.per_filter_config
        )

    def finish(self, headers: Headers) -> None:
        """Applies the route's operations on the headers of a reply that the proxy makes itself. Envoy: a
        route that answers by itself has operations for its own answers only."""
        if self.destination is not None:
            for mutation in self.destination.headers.response:
                mutation.apply(headers)

    def filter_configs(self, name: str) -> tuple[object, ...]:
        """The compiled configurations of the filter `name`, the most specific level first."""
        config = self.per_filter_config.get(name)
        return () if config is None else config.configs


class RouteResolver:
    """Resolves the routes of a connection manager's requests, by the route table in force."""

    __slots__ = ("_find_cluster", "_idle_timeout_s", "_max_duration_s", "_routes", "_upgrades")

    def __init__(
        self, config: HttpConnectionManager, routes: RouteTableRef, find_cluster: FindCluster
    ) -> None:
        self._routes = routes
        self._find_cluster = find_cluster
        self._upgrades = config.upgrades
        self._idle_timeout_s = config.stream_idle_timeout_s
        self._max_duration_s = config.max_stream_duration_s or math.inf

    def resolve(self, request: Request) -> ResolvedRoute | None:
        """Resolves the route, and does not change the request. Returns None: no route matches, or the route
        configuration has not arrived yet."""
        table = self._routes.current
        route = table.match(request) if table is not None else None
        if route is None:
            return None
        action = route.action
        if not isinstance(action, Forward):
            return ResolvedRoute(route, None, None)
        destination = action.only_destination or action.choose()
        name = destination.cluster or action.cluster_from_header(request.headers)
        return ResolvedRoute(route, destination, self._find_cluster(name))

    def apply(self, request: Request) -> None:
        """Resolves the route of `request`, and notes it there. Raises `UpgradeRejectedError`."""
        resolved = request.route = self.resolve(request)
        if resolved is None:
            return
        info, route, cluster = request.info, resolved.route, resolved.cluster
        info.route_name = route.name
        info.virtual_host = route.virtual_host
        if cluster is not None:  # metrics must not grow with the names that requests have in a header
            info.cluster = cluster.name
            info.service = cluster.config.service
        if route.idle_timeout_s is not None and request.limit_idle_time is not None:
            request.limit_idle_time(route.idle_timeout_s)
        action = route.action
        if isinstance(action, Forward) and (action.duration is not None or self._max_duration_s != math.inf):
            self._limit_duration(request, action)
        if request.upgrade is not None:
            self._check_upgrade(request.upgrade, route)

    def apply_again(self, request: Request) -> None:
        """`apply`, for a request whose route was resolved before."""
        info = request.info
        info.route_name = info.virtual_host = info.cluster = ""
        info.service = None
        if request.limit_idle_time is not None:
            request.limit_idle_time(self._idle_timeout_s)
        if request.limit_duration is not None:
            request.limit_duration(math.inf)
        self.apply(request)

    def _limit_duration(self, request: Request, action: Forward) -> None:
        limit_s = self._max_duration_s
        if action.duration is not None:
            limit_s = action.duration.apply(request, limit_s)
        if limit_s != math.inf and request.limit_duration is not None:
            request.limit_duration(limit_s)

    def _check_upgrade(self, upgrade: bytes, route: CompiledRoute) -> None:
        """The route decides first, then the connection manager."""
        name = upgrade.decode("latin-1")
        allowed = name in self._upgrades
        if isinstance(route.action, Forward):
            allowed = route.action.upgrades.get(name, allowed)
        if not allowed:
            raise UpgradeRejectedError(f"an upgrade to {name!r} is not allowed")
