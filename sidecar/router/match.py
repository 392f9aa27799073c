"""Finds the route of a request: a route configuration is compiled once, and used for every request. Pure.

Source: ``envoy.config.route.v3.RouteConfiguration`` and ``RouteMatch``: the virtual host by the authority,
then the first of its routes that matches.
"""

from __future__ import annotations

from sidecar.config.route import (
    DirectResponseAction,
    ForwardAction,
    HeaderOperations,
    PathMatchKind,
    RedirectAction,
    Route,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from sidecar.errors import ConfigError
from sidecar.http.message import Request
from sidecar.http.tracing import RouteTraceRules
from sidecar.router.domain_index import DomainIndex
from sidecar.router.filter_config import CompileFilterConfig, FilterLevels
from sidecar.router.forward import Forward
from sidecar.router.header_operations import HeaderMutations, compile_header_operations
from sidecar.router.immediate_response import DirectResponse, Redirect
from sidecar.router.path_match import PathMatch, compile_path_match
from sidecar.router.request_match import RequestPredicate, compile_header_match, compile_query_matches

Action = Forward | Redirect | DirectResponse


class CompiledRoute:
    """A compiled route: its conditions, its action, and the header operations and filters that apply. A
    request matches if its path satisfies `path` and the request satisfies `condition`. A route that only
    has a condition on the path has None as `condition`."""

    __slots__ = (
        "action",
        "condition",
        "headers",
        "idle_timeout_s",
        "include_attempt_count",
        "name",
        "path",
        "per_filter_config",
        "trace_rules",
        "virtual_host",
    )

    def __init__(
        self,
        route: Route,
        virtual_host: VirtualHost,
        configuration: RouteConfiguration,
        filter_levels: FilterLevels,
    ) -> None:
        filter_levels = filter_levels.with_level(route.per_filter_config)
        levels = (route.headers, virtual_host.headers, configuration.headers)
        if configuration.most_specific_header_mutations_wins:
            levels = levels[::-1]
        self.name = route.name
        self.virtual_host = virtual_host.name
        self.include_attempt_count = virtual_host.include_request_attempt_count
        self.headers: HeaderMutations = compile_header_operations(levels)
        self.idle_timeout_s = route.action.idle_timeout_s if isinstance(route.action, ForwardAction) else None
        self.per_filter_config = filter_levels.merge()
        self.trace_rules: RouteTraceRules | None = None
        if route.decorator is not None or route.tracing is not None:
            self.trace_rules = RouteTraceRules(route.decorator, route.tracing)
        self.action: Action = _compile_action(route, virtual_host, levels, filter_levels)
        self.path: PathMatch = compile_path_match(route.match)
        self.condition = _compile_condition(route.match)


def _compile_action(
    route: Route,
    virtual_host: VirtualHost,
    levels: tuple[HeaderOperations, ...],
    filter_levels: FilterLevels,
) -> Action:
    action = route.action
    if isinstance(action, ForwardAction):
        return Forward(action, route.match, levels, virtual_host.retry_policy, filter_levels=filter_levels)
    if isinstance(action, RedirectAction):
        return Redirect(action, route.match)
    assert isinstance(action, DirectResponseAction)
    return DirectResponse(action)


def _compile_condition(match: RouteMatch) -> RequestPredicate | None:
    """The conditions on the rest of the request; None if the path is the only condition."""
    conditions = [compile_header_match(header) for header in match.headers]
    query = compile_query_matches(match.query_parameters)
    if query is not None:
        conditions.append(query)
    if len(conditions) <= 1:
        return conditions[0] if conditions else None
    return lambda request: all(accepts(request) for accepts in conditions)


class _VirtualHostRoutes:
    """The routes of a virtual host. CONNECT requests have no path, and therefore their own routes."""

    __slots__ = ("connect", "ordinary")

    def __init__(
        self,
        virtual_host: VirtualHost,
        configuration: RouteConfiguration,
        filter_levels: FilterLevels,
        path: str,
    ) -> None:
        self.ordinary: list[CompiledRoute] = []
        self.connect: list[CompiledRoute] = []
        filter_levels = filter_levels.with_level(virtual_host.per_filter_config)
        for index, route in enumerate(virtual_host.routes):
            try:
                compiled = CompiledRoute(route, virtual_host, configuration, filter_levels)
            except ConfigError as error:
                raise ConfigError(f"{path}.routes[{index}].{error.path}", error.reason) from error
            is_connect = route.match.path_kind is PathMatchKind.CONNECT
            (self.connect if is_connect else self.ordinary).append(compiled)


class RouteTable:
    """A compiled route configuration. `compile_filter_config` compiles the entries of its
    `per_filter_config`. Raises `ConfigError` at construction, naming the field."""

    __slots__ = ("_virtual_hosts", "name")

    def __init__(
        self, configuration: RouteConfiguration, compile_filter_config: CompileFilterConfig | None = None
    ) -> None:
        self.name = configuration.name
        filter_levels = FilterLevels(compile_filter_config)
        self._virtual_hosts = DomainIndex(
            (
                (domain, routes)
                for index, virtual_host in enumerate(configuration.virtual_hosts)
                for routes in [
                    _VirtualHostRoutes(virtual_host, configuration, filter_levels, f"virtual_hosts[{index}]")
                ]
                for domain in virtual_host.domains
            ),
            ignore_port=configuration.ignore_port_in_host_matching,
        )

    def match(self, request: Request) -> CompiledRoute | None:
        routes = self._virtual_hosts.find(request.authority)
        if routes is None:
            return None
        path = request.path
        candidates = routes.connect if request.method == b"CONNECT" else routes.ordinary
        for route in candidates:
            if route.path.matches(path) and (route.condition is None or route.condition(request)):
                return route
        return None


class RouteTableRef:
    """The table in force, replaced by one assignment; a request reads it each time that its route is
    resolved. `current` is None until the table has arrived (RDS)."""

    __slots__ = ("current",)

    def __init__(self, current: RouteTable | None = None) -> None:
        self.current = current
