"""HTTP filters: each handles a request before the router, and the response after it.

A filter is a few lines of Python. It may answer a request itself, change the request or the response, wrap a
body, or raise a `RequestError`, which becomes a local reply:

    class RequireUser:
        async def __call__(self, request: Request, proceed: Service) -> Response:
            if get_header(request.headers, b"end-user") is None:
                return Response(401, [])
            response = await proceed(request)
            response.headers.append((b"x-checked", b"yes"))
            return response

        def close(self) -> None:
            pass

One filter serves all requests of a connection manager. The chain is composed when the connection manager is
made; a request costs one coroutine for each filter that it passes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Protocol

from sidecar.config.endpoint import WorkloadMetadata
from sidecar.config.http_filters import RouterConfig
from sidecar.config.listener import HttpConnectionManager, HttpFilter
from sidecar.errors import ConfigError
from sidecar.http.filter_output import check_request
from sidecar.http.message import Request, Response, Service
from sidecar.http.tracing import RequestTracing
from sidecar.observability.stats import CountersT, Stats
from sidecar.router.client import ClusterClient
from sidecar.router.exchange import RouterEnvironment
from sidecar.router.filter_config import RouteFilterConfigs
from sidecar.router.resolution import FindCluster, ResolvedRoute, RouteResolver
from sidecar.timers import Timers


class Filter(Protocol):
    def __call__(self, request: Request, proceed: Service) -> Awaitable[Response]:
        """`proceed` is the rest of the chain, and is called once at most. A filter that answers with another
        response than `proceed` returned closes the body of that one. Header names are lower-case. It is an
        ``async def``, unless it returns what `proceed` returns: then a request costs no coroutine."""

    def close(self) -> None:
        """Ends timers and tasks: the connection manager has no connection left, and gets no other."""


_UNKNOWN_WORKLOAD: Final = WorkloadMetadata()


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterContext:
    """The objects that a filter can use. `name` is the filter's name in the chain, by which a route's
    configuration refers to it. `stat_prefix` is the connection manager's. `local_cluster` is the cluster of
    this proxy's node, `node_id` its id, and `local_workload` the workload that it serves. Values for other
    filters and logs are set with `StreamInfo.set_metadata`."""

    find_cluster: FindCluster
    stats: Stats
    router_env: RouterEnvironment
    local_cluster: str = ""
    node_id: str = ""
    local_workload: WorkloadMetadata = _UNKNOWN_WORKLOAD
    name: str = ""
    stat_prefix: str = ""

    @property
    def timers(self) -> Timers:
        return self.router_env.timers

    def client(self, cluster_name: str, *, timeout_s: float) -> ClusterClient:
        """Returns a client for requests that the filter itself sends."""
        return ClusterClient(
            cluster_name, timeout_s=timeout_s, find_cluster=self.find_cluster, env=self.router_env
        )

    def counters(self, kind: type[CountersT]) -> CountersT:
        """Counters under ``http.<stat_prefix>.``, the same for each filter that asks for this `kind`."""
        return self.stats.counters(f"http.{self.stat_prefix}", kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterKind:
    """An entry of a registry. `config` and `route_config` are the classes of a filter's configuration in a
    chain, and on a route (None: only a `FilterSwitch`). `compile_route_config` compiles the latter into
    the value that the filter finds in `Request.route.filter_configs`. `acts_alone`: whether a filter with
    this configuration does anything for a request whose route has none for it. If not, such requests do not
    pass the filter, and so do not pay for it."""

    config: type
    make: Callable[[Any, FilterContext], Filter]
    route_config: type | None = None
    compile_route_config: Callable[[Any], object] | None = None
    acts_alone: Callable[[Any], bool] = lambda config: True


class FilterRegistry:
    """The kinds of filters, by the class of their configuration. Immutable."""

    __slots__ = ("_by_config", "_by_route_config")

    def __init__(self, *kinds: FilterKind) -> None:
        self._by_config = {kind.config: kind for kind in kinds}
        self._by_route_config = {kind.route_config: kind for kind in kinds if kind.route_config is not None}

    def with_kinds(self, *kinds: FilterKind) -> FilterRegistry:
        """Returns a registry with these kinds added."""
        return FilterRegistry(*self._by_config.values(), *kinds)

    def acts_alone(self, config: object) -> bool:
        """`FilterKind.acts_alone` of the filter with this configuration. Raises `ConfigError`."""
        return bool(self._kind(config).acts_alone(config))

    def _kind(self, config: object) -> FilterKind:
        kind = self._by_config.get(type(config))
        if kind is None:
            raise ConfigError("typed_config", f"no filter has a configuration of {type(config).__name__}")
        return kind

    def make(self, config: object, context: FilterContext) -> Filter:
        """Raises `ConfigError`."""
        return self._kind(config).make(config, context)

    def compile_route_config(self, config: object) -> object:
        """A `CompileFilterConfig`."""
        kind = self._by_route_config.get(type(config))
        if kind is None:
            reason = f"no filter has a configuration of {type(config).__name__} on a route"
            raise ConfigError("typed_per_filter_config", reason)
        return config if kind.compile_route_config is None else kind.compile_route_config(config)


class HttpFilterChain:
    """The service of one connection manager: resolves the route, then passes the request through the
    filters to the router. `close` it after its last request."""

    def __init__(
        self,
        config: HttpConnectionManager,
        *,
        resolver: RouteResolver,
        router: Service,
        registry: FilterRegistry,
        context: FilterContext,
        tracing: RequestTracing | None = None,
    ) -> None:
        """`tracing` as in `ConnectionManager`. Raises `ConfigError` for a filter that the registry does not
        know, and for a chain that does not end with the router."""
        self._resolve = resolver.apply
        self._resolve_again = resolver.apply_again
        self._router = router
        self._tracing = tracing
        self._configured = _without_router(config.http_filters)
        context = replace(context, stat_prefix=config.stat_prefix)
        self._filters = tuple(
            _make(http_filter, index, registry, context) for index, http_filter in enumerate(self._configured)
        )
        self._by_default = tuple(
            not http_filter.disabled and registry.acts_alone(http_filter.config)
            for http_filter in self._configured
        )
        self._first = self._compose(self._by_default)
        self._variants: dict[tuple[bool, ...], Service] = {self._by_default: self._first}

    def __call__(self, request: Request) -> Awaitable[Response]:
        """Raises `UpgradeRejectedError`, as Envoy does before its filters."""
        self._resolve(request)
        service = self._first
        resolved = request.route
        if resolved is None:
            if self._tracing is not None:
                self._tracing.begin(request, None)
        else:
            assert isinstance(resolved, ResolvedRoute)
            if self._tracing is not None:
                self._tracing.begin(request, resolved.route.trace_rules)
            configs = resolved.per_filter_config
            if configs:
                service = self._variant(configs)
        if service is not self._router:
            request.resolver = self._resolve_again
        return service(request)

    def close(self) -> None:
        for http_filter in self._filters:
            http_filter.close()

    def _variant(self, configs: RouteFilterConfigs) -> Service:
        """The chain of the filters that the route, resolved before the first filter, enables."""
        enabled = tuple(
            configs[http_filter.name].enabled if http_filter.name in configs else by_default
            for http_filter, by_default in zip(self._configured, self._by_default, strict=True)
        )
        variant = self._variants.get(enabled)
        if variant is None:
            variant = self._variants[enabled] = self._compose(enabled)
        return variant

    def _compose(self, enabled: tuple[bool, ...]) -> Service:
        if not any(enabled):
            return self._router
        service: Service = self._enter_router
        for http_filter, is_enabled in zip(reversed(self._filters), reversed(enabled), strict=True):
            if is_enabled:
                service = partial(http_filter, proceed=service)
        return service

    def _enter_router(self, request: Request) -> Awaitable[Response]:
        check_request(request)
        return self._router(request)


def _without_router(filters: tuple[HttpFilter, ...]) -> tuple[HttpFilter, ...]:
    routers = [index for index, entry in enumerate(filters) if isinstance(entry.config, RouterConfig)]
    if routers != [len(filters) - 1]:
        raise ConfigError("http_filters", "the last filter, and no other, must be envoy.filters.http.router")
    return filters[:-1]


def _make(http_filter: HttpFilter, index: int, registry: FilterRegistry, context: FilterContext) -> Filter:
    try:
        return registry.make(http_filter.config, replace(context, name=http_filter.name))
    except ConfigError as error:
        raise ConfigError(f"http_filters[{index}].{error.path}", error.reason) from error
