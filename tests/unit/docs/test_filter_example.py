from __future__ import annotations

from sidecar.config.listener import HttpConnectionManager, HttpFilter
from sidecar.filters.chain import ROUTER, build
from sidecar.http.body import Body
from sidecar.http.headers import get_header
from sidecar.http.message import Request, Response, Service
from sidecar.router.match import RouteTable, RouteTableRef
from tests.support.requests import make_request
from tests.support.routes import configuration, prefix, route, virtual_host


class RequireHeader:
    """Refuses requests without a header, and marks the responses to the others."""

    def __init__(self, config: object) -> None:
        assert isinstance(config, dict)
        self._name = config["header"].encode()

    async def __call__(self, request: Request, proceed: Service) -> Response:
        if get_header(request.headers, self._name) is None:
            return Response(401, [], Body(b"who are you?"))
        response = await proceed(request)
        response.headers.append((b"x-checked", b"yes"))
        return response


async def upstream(request: Request) -> Response:
    return Response(200, [], Body(b"hello"))


def chain() -> Service:
    require_user = HttpFilter(name="example.require_header", config={"header": "end-user"})
    return build(
        HttpConnectionManager(stat_prefix="example", http_filters=(require_user, HttpFilter(name=ROUTER))),
        routes=RouteTableRef(RouteTable(configuration(virtual_host(route(prefix("/")))))),
        router=upstream,
        filters={"example.require_header": RequireHeader},
    )


async def test_a_stranger_is_refused() -> None:
    assert (await chain()(make_request())).status == 401


async def test_a_user_is_let_through() -> None:
    response = await chain()(make_request(headers=[(b"end-user", b"jason")]))
    assert (response.status, response.headers) == (200, [(b"x-checked", b"yes")])
