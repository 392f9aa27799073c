from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from sidecar.config.listener import HttpConnectionManager, HttpFilter
from sidecar.config.route import FilterSwitch, ForwardAction, WeightedCluster
from sidecar.errors import ConfigError, InternalError, UpgradeRejectedError
from sidecar.filters.chain import FilterContext, FilterKind, FilterRegistry, HttpFilterChain
from sidecar.http.headers import get_header
from sidecar.http.message import Request, Response, Service
from sidecar.router.match import RouteTable, RouteTableRef
from sidecar.router.resolution import ResolvedRoute
from tests.support.filter_chains import ROUTER, filter_chain, filter_context
from tests.support.requests import make_request
from tests.support.routes import configuration, exact, prefix, route, virtual_host


@dataclass(frozen=True)
class TagConfig:
    """Adds a header ``tag`` to the request."""

    value: bytes = b""


@dataclass(frozen=True)
class CallConfig:
    """Calls `call` as the filter."""

    call: Callable[[Request, Service], Awaitable[Response]]


@dataclass(frozen=True)
class TagOfRoute:
    value: bytes


@dataclass
class Tag:
    config: TagConfig
    context: FilterContext
    closed: list[str] = field(default_factory=list)

    async def __call__(self, request: Request, proceed: Service) -> Response:
        configs = request.route.filter_configs(self.context.name) if request.route is not None else ()
        for value in (self.config.value, *configs):
            assert isinstance(value, bytes)
            request.headers.append((b"tag", value))
        return await proceed(request)

    def close(self) -> None:
        CLOSED.append(self.context.name)


CLOSED: list[str] = []


class Call:
    def __init__(self, config: CallConfig, context: FilterContext) -> None:
        self._call = config.call

    async def __call__(self, request: Request, proceed: Service) -> Response:
        return await self._call(request, proceed)

    def close(self) -> None:
        pass


REGISTRY = FilterRegistry(
    FilterKind(
        config=TagConfig,
        make=Tag,
        route_config=TagOfRoute,
        compile_route_config=lambda config: config.value.upper(),
    ),
    FilterKind(config=CallConfig, make=Call),
)


async def echo_router(request: Request) -> Response:
    return Response(200, list(request.headers))


def manager(*filters: HttpFilter, upgrades: frozenset[str] = frozenset()) -> HttpConnectionManager:
    return HttpConnectionManager(stat_prefix="x", http_filters=(*filters, ROUTER), upgrades=upgrades)


def table(*routes: Any, **options: Any) -> RouteTableRef:
    config = configuration(virtual_host(*routes, **options))
    return RouteTableRef(RouteTable(config, REGISTRY.compile_route_config))


def chain(
    *filters: HttpFilter, routes: RouteTableRef | None = None, router: Service = echo_router
) -> HttpFilterChain:
    routes = routes or table(route(prefix(), name="all"))
    return filter_chain(manager(*filters), routes=routes, router=router, registry=REGISTRY)


def tag(value: bytes, name: str = "", *, disabled: bool = False) -> HttpFilter:
    return HttpFilter(name=name or value.decode(), config=TagConfig(value), disabled=disabled)


def call(function: Callable[[Request, Service], Awaitable[Response]]) -> HttpFilter:
    return HttpFilter(name="call", config=CallConfig(function))


async def tags(chain: HttpFilterChain, path: bytes = b"/") -> list[bytes]:
    response = await chain(make_request(path))
    return [value for name, value in response.headers if name == b"tag"]


async def test_a_filter_may_answer_itself_and_sees_the_response() -> None:
    async def require_user(request: Request, proceed: Service) -> Response:
        if get_header(request.headers, b"end-user") is None:
            return Response(401, [])
        response = await proceed(request)
        response.headers.append((b"x-checked", b"yes"))
        return response

    stack = chain(call(require_user))
    assert (await stack(make_request())).status == 401
    response = await stack(make_request(headers=[(b"end-user", b"jason")]))
    assert (b"x-checked", b"yes") in response.headers


async def test_filters_run_in_the_order_of_the_configuration() -> None:
    assert await tags(chain(tag(b"1"), tag(b"2"))) == [b"1", b"2"]


async def test_a_filter_costs_one_coroutine_for_each_request() -> None:
    depths: list[int] = []

    async def router(request: Request) -> Response:
        frame = inspect.currentframe()
        depths.append(0)
        while frame is not None:
            depths[-1] += bool(frame.f_code.co_flags & inspect.CO_COROUTINE)
            frame = frame.f_back
        return Response(200, [])

    for filters in ((), (tag(b"1"),), (tag(b"1"), tag(b"2"), tag(b"3"))):
        await chain(*filters, router=router)(make_request())
    assert depths == [depths[0], depths[0] + 1, depths[0] + 3]


async def test_names_that_a_filter_leaves_reach_the_router_in_lower_case() -> None:
    """Otherwise the codec does not recognize its own: ``Transfer-Encoding`` would change the framing."""
    assert (await chain(leave((b"Transfer-Encoding", b"chunked")))(make_request())).headers == [
        (b"transfer-encoding", b"chunked")
    ]


def leave(*fields: tuple[bytes, bytes], **parts: bytes) -> HttpFilter:
    async def change(request: Request, proceed: Service) -> Response:
        request.headers += fields
        for name, value in parts.items():
            setattr(request, name, value)
        return await proceed(request)

    return call(change)


@pytest.mark.parametrize("field", [(b"x-a", b"1\r\nx-b: 2"), (b"x-a: 1\nx-b", b"2"), (b"x-a", b"\0")])
async def test_a_filter_cannot_end_a_line(field: tuple[bytes, bytes]) -> None:
    with pytest.raises(InternalError, match="x-a"):
        await chain(leave(field))(make_request())


@pytest.mark.parametrize("part", ["method", "path", "authority"])
@pytest.mark.parametrize("value", [b"/ HTTP/1.1\r\nx: y", b"/a\0", b"/\n"])
async def test_a_filter_cannot_end_the_request_line(part: str, value: bytes) -> None:
    with pytest.raises(InternalError):
        await chain(leave(**{part: value}))(make_request())


@pytest.mark.parametrize("filters", [(), (ROUTER, tag(b"1")), (tag(b"1"),), (ROUTER, ROUTER)])
async def test_the_router_comes_last_and_only_last(filters: tuple[HttpFilter, ...]) -> None:
    config = HttpConnectionManager(stat_prefix="x", http_filters=filters)
    with pytest.raises(ConfigError, match=r"envoy\.filters\.http\.router"):
        filter_chain(config, routes=RouteTableRef(), router=echo_router, registry=REGISTRY)


async def test_a_filter_that_is_not_in_the_registry_is_named() -> None:
    with pytest.raises(ConfigError, match=r"http_filters\[1\]\.typed_config: no filter .* str"):
        chain(tag(b"1"), HttpFilter(name="x", config="y"))


async def test_filters_run_for_a_request_without_a_route() -> None:
    """Envoy: it is the router that answers 404."""
    assert await tags(chain(tag(b"1"), routes=table(route(exact("/a")))), b"/b") == [b"1"]
    assert await tags(chain(tag(b"1"), routes=RouteTableRef())) == [b"1"]


async def test_a_refused_upgrade_reaches_no_filter() -> None:
    async def never(request: Request, proceed: Service) -> Response:
        raise AssertionError

    request = make_request()
    request.upgrade = b"websocket"
    with pytest.raises(UpgradeRejectedError):
        await chain(call(never))(request)


async def test_a_filter_may_let_the_route_be_resolved_again() -> None:
    async def rewrite(request: Request, proceed: Service) -> Response:
        request.path = b"/b"
        request.resolve_again()
        return await proceed(request)

    seen: list[str] = []

    async def router(request: Request) -> Response:
        assert isinstance(request.route, ResolvedRoute)
        seen.append(request.route.route.name)
        return Response(200, [])

    routes = table(route(exact("/a"), name="a"), route(exact("/b"), name="b"))
    request = make_request(b"/a")
    await chain(call(rewrite), routes=routes, router=router)(request)
    assert (seen, request.info.route_name) == (["b"], "b")


class TestConfigurationOfARoute:
    FILTERS = (tag(b"1"), tag(b"2", disabled=True))

    def chain(self, *routes: Any, **of_virtual_host: Any) -> HttpFilterChain:
        return chain(*self.FILTERS, routes=table(*routes, **of_virtual_host))

    async def test_a_disabled_filter_does_not_run(self) -> None:
        assert await tags(self.chain(route(prefix()))) == [b"1"]

    async def test_a_route_enables_and_disables_filters(self) -> None:
        stack = self.chain(
            route(exact("/on"), per_filter_config={"2": FilterSwitch.ENABLED}),
            route(exact("/off"), per_filter_config={"1": FilterSwitch.DISABLED}),
            route(prefix()),
        )
        assert await tags(stack, b"/on") == [b"1", b"2"]
        assert await tags(stack, b"/off") == []
        assert await tags(stack, b"/other") == [b"1"]

    async def test_a_configuration_enables_the_filter(self) -> None:
        stack = self.chain(route(prefix(), per_filter_config={"2": TagOfRoute(b"two")}))
        assert await tags(stack) == [b"1", b"2", b"TWO"]

    async def test_the_most_specific_level_decides(self) -> None:
        weighted = WeightedCluster(name="a", per_filter_config={"1": TagOfRoute(b"cluster")})
        stack = self.chain(
            route(prefix("/a"), ForwardAction(clusters=(weighted,))),
            route(prefix(), per_filter_config={"1": TagOfRoute(b"route")}),
            per_filter_config={"1": FilterSwitch.DISABLED, "unknown": FilterSwitch.ENABLED},
        )
        assert await tags(stack, b"/a") == [b"1", b"CLUSTER"]
        assert await tags(stack, b"/b") == [b"1", b"ROUTE"]

    async def test_the_configurations_of_all_levels_are_there_the_most_specific_first(self) -> None:
        weighted = WeightedCluster(name="a", per_filter_config={"1": TagOfRoute(b"cluster")})
        action = ForwardAction(clusters=(weighted,))
        stack = self.chain(
            route(prefix(), action, per_filter_config={"1": TagOfRoute(b"route")}),
            per_filter_config={"1": TagOfRoute(b"host")},
        )
        assert await tags(stack) == [b"1", b"CLUSTER", b"ROUTE", b"HOST"]

    async def test_the_filters_are_those_of_the_route_that_was_resolved_first(self) -> None:
        async def rewrite(request: Request, proceed: Service) -> Response:
            request.path = b"/off"
            request.resolve_again()
            return await proceed(request)

        routes = table(route(exact("/off"), per_filter_config={"1": FilterSwitch.DISABLED}), route(prefix()))
        assert await tags(chain(call(rewrite), tag(b"1"), routes=routes)) == [b"1"]


def test_a_configuration_of_a_route_that_no_filter_has_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"typed_per_filter_config: no filter .* TagConfig"):
        table(route(prefix(), per_filter_config={"1": TagConfig()}))


async def test_close_closes_every_filter() -> None:
    CLOSED.clear()
    chain(tag(b"1"), tag(b"2", disabled=True)).close()
    assert CLOSED == ["1", "2"]


async def test_a_registry_can_be_extended() -> None:
    registry = FilterRegistry().with_kinds(FilterKind(config=TagConfig, make=Tag))
    made = registry.make(TagConfig(b"1"), filter_context(name="mine"))
    assert isinstance(made, Tag)
    assert made.context.name == "mine"


async def test_metadata_of_a_filter_is_there_for_others() -> None:
    async def note(request: Request, proceed: Service) -> Response:
        request.info.set_metadata("envoy.filters.http.rbac", "shadow_denied", True)
        return await proceed(request)

    request = make_request()
    assert request.info.dynamic_metadata is None
    await chain(call(note))(request)
    assert request.info.dynamic_metadata == {"envoy.filters.http.rbac": {"shadow_denied": True}}
