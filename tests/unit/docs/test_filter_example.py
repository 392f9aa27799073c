from __future__ import annotations

from dataclasses import dataclass

from sidecar.config.listener import HttpConnectionManager, HttpFilter
from sidecar.filters.chain import FilterContext, FilterKind
from sidecar.filters.registry import FILTERS
from sidecar.http.body import Body
from sidecar.http.headers import get_header
from sidecar.http.message import Request, Response, Service
from sidecar.router.match import RouteTable, RouteTableRef
from tests.support.filter_chains import ROUTER, filter_chain
from tests.support.requests import make_request
from tests.support.routes import configuration, prefix, route, virtual_host


@dataclass(frozen=True, slots=True, kw_only=True)
class RequireHeaderConfig:
    name: bytes


class RequireHeader:
    """Rejects requests without a header, and marks the responses to the others."""

    def __init__(self, config: RequireHeaderConfig, context: FilterContext) -> None:
        self._name = config.name

    async def __call__(self, request: Request, proceed: Service) -> Response:
        if get_header(request.headers, self._name) is None:
            return Response(401, [], Body(b"who are you?"))
        response = await proceed(request)
        response.headers.append((b"x-checked", b"yes"))
        return response

    def close(self) -> None:
        pass


async def upstream(request: Request) -> Response:
    return Response(200, [], Body(b"hello"))


def chain() -> Service:
    require_user = HttpFilter(name="require-user", config=RequireHeaderConfig(name=b"end-user"))
    return filter_chain(
        HttpConnectionManager(stat_prefix="example", http_filters=(require_user, ROUTER)),
        routes=RouteTableRef(RouteTable(configuration(virtual_host(route(prefix("/")))))),
        router=upstream,
        registry=FILTERS.with_kinds(FilterKind(config=RequireHeaderConfig, make=RequireHeader)),
    )


async def test_a_request_without_the_header_is_refused() -> None:
    assert (await chain()(make_request())).status == 401


async def test_a_request_with_the_header_reaches_the_upstream() -> None:
    response = await chain()(make_request(headers=[(b"end-user", b"jason")]))
    assert (response.status, response.headers) == (200, [(b"x-checked", b"yes")])
