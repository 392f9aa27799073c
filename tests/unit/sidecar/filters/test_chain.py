from __future__ import annotations

import asyncio

import pytest

from sidecar.config.listener import HttpConnectionManager, HttpFilter
from sidecar.errors import ConfigError, InternalError, NoRouteError, UpgradeRejectedError
from sidecar.filters.chain import ROUTER, build
from sidecar.http.body import BodyStream
from sidecar.http.headers import Headers, get_header
from sidecar.http.message import Request, Response, Service
from sidecar.router.match import CompiledRoute, RouteTable, RouteTableRef
from tests.support.requests import make_request
from tests.support.routes import configuration, exact, prefix, route, to, virtual_host


class RequireUser:
    """The example of the module's documentation."""

    async def __call__(self, request: Request, proceed: Service) -> Response:
        if get_header(request.headers, b"end-user") is None:
            return Response(401, [])
        response = await proceed(request)
        response.headers.append((b"x-checked", b"yes"))
        return response


class Tag:
    def __init__(self, config: object | None) -> None:
        assert isinstance(config, bytes)
        self._tag = config

    async def __call__(self, request: Request, proceed: Service) -> Response:
        request.headers.append((b"tag", self._tag))
        return await proceed(request)


FILTERS = {"require_user": lambda config: RequireUser(), "tag": Tag}


async def echo_router(request: Request) -> Response:
    assert isinstance(request.route, CompiledRoute)
    return Response(200, list(request.headers))


def manager(*filters: HttpFilter, upgrades: frozenset[str] = frozenset()) -> HttpConnectionManager:
    return HttpConnectionManager(
        stat_prefix="x", http_filters=(*filters, HttpFilter(name=ROUTER)), upgrades=upgrades
    )


def table(*routes: object) -> RouteTableRef:
    return RouteTableRef(RouteTable(configuration(virtual_host(*routes))))  # type: ignore[arg-type]


def service(*filters: HttpFilter, routes: RouteTableRef | None = None) -> Service:
    routes = routes or table(route(prefix(), name="all"))
    return build(manager(*filters), routes=routes, router=echo_router, filters=FILTERS)


async def test_a_filter_may_answer_itself() -> None:
    assert (await service(HttpFilter(name="require_user"))(make_request())).status == 401


async def test_a_filter_sees_the_request_and_the_response() -> None:
    request = make_request(headers=[(b"end-user", b"jason")])
    response = await service(HttpFilter(name="require_user"))(request)
    assert (b"x-checked", b"yes") in response.headers


async def test_filters_run_in_the_order_of_the_configuration() -> None:
    response = await service(HttpFilter(name="tag", config=b"1"), HttpFilter(name="tag", config=b"2"))(
        make_request()
    )
    assert response.headers == [(b"tag", b"1"), (b"tag", b"2")]


class Leave:
    """Leaves headers in the request, and in the response."""

    def __init__(self, config: object | None) -> None:
        assert isinstance(config, tuple)
        self._request, self._response = config

    async def __call__(self, request: Request, proceed: Service) -> Response:
        request.headers += self._request
        response = await proceed(request)
        response.headers += self._response
        return response


def leaving(request: Headers, response: Headers) -> Service:
    filters = manager(HttpFilter(name="leave", config=(request, response)))
    routes = table(route(prefix(), name="all"))
    return build(filters, routes=routes, router=echo_router, filters={"leave": Leave})


async def test_names_that_a_filter_leaves_are_known_in_any_case() -> None:
    """Else the codec does not know its own: ``Transfer-Encoding`` would frame the message anew."""
    stack = leaving([(b"Transfer-Encoding", b"chunked")], [(b"Content-Length", b"7"), (b"x-a", b"B")])
    response = await stack(make_request())
    assert response.headers == [(b"transfer-encoding", b"chunked"), (b"content-length", b"7"), (b"x-a", b"B")]


@pytest.mark.parametrize("field", [(b"x-a", b"1\r\nx-b: 2"), (b"x-a: 1\nx-b", b"2"), (b"x-a", b"\0")])
async def test_a_filter_cannot_end_a_line(field: tuple[bytes, bytes]) -> None:
    for stack in (leaving([field], []), leaving([], [field])):
        with pytest.raises(InternalError, match="x-a"):
            await stack(make_request())


@pytest.mark.parametrize(
    "filters", [(), (HttpFilter(name=ROUTER), HttpFilter(name="tag")), (HttpFilter(name="tag"),)]
)
def test_the_router_comes_last_and_only_last(filters: tuple[HttpFilter, ...]) -> None:
    config = HttpConnectionManager(stat_prefix="x", http_filters=filters)
    with pytest.raises(ConfigError, match=r"envoy\.filters\.http\.router"):
        build(config, routes=RouteTableRef(), router=echo_router, filters=FILTERS)


def test_an_unknown_filter_is_named() -> None:
    with pytest.raises(ConfigError, match=r"http_filters\[1\]\.name: there is no filter 'nope'"):
        service(HttpFilter(name="tag", config=b""), HttpFilter(name="nope"))


async def test_without_a_route_or_a_table_the_request_ends_here() -> None:
    with pytest.raises(NoRouteError, match="no route"):
        await service(routes=table(route(exact("/a"))))(make_request(b"/b"))
    with pytest.raises(NoRouteError, match="not arrived"):
        await service(routes=RouteTableRef())(make_request())


async def test_a_request_keeps_the_table_that_it_began_with() -> None:
    routes = table(route(prefix(), name="old"))
    seen: list[str] = []

    async def swap(request: Request, proceed: Service) -> Response:
        routes.current = RouteTable(configuration(virtual_host(route(prefix(), name="new"))))
        return await proceed(request)

    async def router(request: Request) -> Response:
        assert isinstance(request.route, CompiledRoute)
        seen.append(request.route.name)
        return Response(200, [])

    stack = build(
        manager(HttpFilter(name="swap")), routes=routes, router=router, filters={"swap": lambda _: swap}
    )
    request = make_request()
    await stack(request)
    await stack(make_request())
    assert seen == ["old", "new"]
    assert request.info.route_name == "old"
    assert request.info.virtual_host == "*"


@pytest.mark.parametrize(("of_route", "limits"), [(None, []), (0.0, [0.0]), (2.5, [2.5])])
async def test_a_route_says_how_long_nothing_may_move(of_route: float | None, limits: list[float]) -> None:
    routes = table(route(prefix(), to("a", idle_timeout_s=of_route)))
    request, limited = make_request(), list[float]()
    request.limit_idle_time = limited.append
    await service(routes=routes)(request)
    assert limited == limits


@pytest.mark.parametrize(
    ("of_manager", "of_route", "allowed"),
    [
        (frozenset({"websocket"}), {}, True),
        (frozenset(), {}, False),
        (frozenset(), {"websocket": True}, True),
        (frozenset({"websocket"}), {"websocket": False}, False),
        (frozenset({"websocket"}), {"connect": True}, True),
    ],
)
async def test_upgrades(of_manager: frozenset[str], of_route: dict[str, bool], allowed: bool) -> None:
    routes = table(route(prefix(), to("a", upgrades=of_route)))
    stack = build(manager(upgrades=of_manager), routes=routes, router=echo_router)
    request = make_request()
    request.upgrade = b"websocket"
    if allowed:
        assert (await stack(request)).status == 200
    else:
        with pytest.raises(UpgradeRejectedError):
            await stack(request)


@pytest.mark.parametrize("fault", [RuntimeError, asyncio.CancelledError])
async def test_a_filter_that_fails_after_the_response_lets_it_go(fault: type[BaseException]) -> None:
    body = BodyStream()

    async def router(request: Request) -> Response:
        return Response(200, [], body)

    async def fail(request: Request, proceed: Service) -> Response:
        await proceed(request)
        raise fault

    stack = build(
        manager(HttpFilter(name="fail")),
        routes=table(route(prefix())),
        router=router,
        filters={"fail": lambda _: fail},
    )
    with pytest.raises(fault):
        await stack(make_request())
    assert body._closed
