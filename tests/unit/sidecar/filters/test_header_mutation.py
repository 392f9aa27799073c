from __future__ import annotations

import pytest

from sidecar.config.http_filters import HeaderMutation, HeaderMutationConfig, Mutations, RemoveHeader
from sidecar.config.listener import HttpConnectionManager, HttpFilter
from sidecar.config.route import AppendAction, ForwardAction, HeaderValue, WeightedCluster
from sidecar.filters.registry import FILTERS
from sidecar.http.headers import Headers
from sidecar.http.message import Request, Response
from sidecar.router.match import RouteTable, RouteTableRef
from tests.support.filter_chains import ROUTER, filter_chain
from tests.support.requests import make_request
from tests.support.routes import configuration, prefix, route, virtual_host

CONSTANT: Headers = [(b"x-from-upstream", b"yes")]


async def upstream(request: Request) -> Response:
    return Response(200, CONSTANT)


def add(value: bytes, action: AppendAction = AppendAction.APPEND_IF_EXISTS_OR_ADD) -> HeaderValue:
    return HeaderValue(name=b"x-a", value=value, action=action)


def both(value: bytes) -> Mutations:
    return Mutations(request=(add(value),), response=(add(value),))


async def filtered(
    config: HeaderMutationConfig, headers: Headers, levels: tuple[Mutations, ...] = ()
) -> tuple[Headers, Headers]:
    """The headers of the request and of the response behind the filter. `levels`: those of the virtual
    host, the route and the weighted cluster."""
    host, of_route, of_cluster = ({"mutate": level} for level in levels) if levels else ({}, {}, {})
    action = ForwardAction(clusters=(WeightedCluster(name="a", per_filter_config=of_cluster),))
    hosts = virtual_host(route(prefix(), action, per_filter_config=of_route), per_filter_config=host)
    routes = RouteTableRef(RouteTable(configuration(hosts), FILTERS.compile_route_config))
    manager = HttpConnectionManager(
        stat_prefix="x", http_filters=(HttpFilter(name="mutate", config=config), ROUTER)
    )
    request = make_request(headers=headers)
    response = await filter_chain(manager, routes=routes, router=upstream)(request)
    return request.headers, response.headers


def config(*mutations: HeaderMutation) -> HeaderMutationConfig:
    return HeaderMutationConfig(mutations=Mutations(request=mutations))


@pytest.mark.parametrize(
    ("mutations", "values", "expected"),
    [
        ([add(b"new")], [b"1"], [b"1", b"new"]),
        ([add(b"new")], [], [b"new"]),
        ([add(b"new", AppendAction.ADD_IF_ABSENT)], [b"1"], [b"1"]),
        ([add(b"new", AppendAction.ADD_IF_ABSENT)], [], [b"new"]),
        ([add(b"new", AppendAction.OVERWRITE_IF_EXISTS_OR_ADD)], [b"1", b"2"], [b"new"]),
        ([add(b"new", AppendAction.OVERWRITE_IF_EXISTS_OR_ADD)], [], [b"new"]),
        ([add(b"new", AppendAction.OVERWRITE_IF_EXISTS)], [b"1", b"2"], [b"new"]),
        ([add(b"new", AppendAction.OVERWRITE_IF_EXISTS)], [], []),
        ([RemoveHeader(name=b"x-a")], [b"1", b"2"], []),
        ([RemoveHeader(name=b"x-a"), add(b"new")], [b"1"], [b"new"]),
        ([add(b"new"), RemoveHeader(name=b"x-a")], [b"1"], []),
    ],
)
async def test_mutations_are_applied_in_order(
    mutations: list[HeaderMutation], values: list[bytes], expected: list[bytes]
) -> None:
    headers, _ = await filtered(config(*mutations), [(b"x-a", value) for value in values])
    assert headers == [(b"x-a", value) for value in expected]


async def test_a_response_that_is_a_constant_stays_as_it_is() -> None:
    mutations = Mutations(response=(RemoveHeader(name=b"x-from-upstream"), add(b"new")))
    _, headers = await filtered(HeaderMutationConfig(mutations=mutations), [])
    assert headers == [(b"x-a", b"new")]
    assert CONSTANT == [(b"x-from-upstream", b"yes")]


@pytest.mark.parametrize(
    ("wins", "order"),
    [
        (False, [b"own", b"cluster", b"route", b"host"]),
        (True, [b"own", b"host", b"route", b"cluster"]),
    ],
)
async def test_all_levels_of_the_route_are_applied(wins: bool, order: list[bytes]) -> None:
    own = HeaderMutationConfig(mutations=both(b"own"), most_specific_header_mutations_wins=wins)
    request, response = await filtered(own, [], (both(b"host"), both(b"route"), both(b"cluster")))
    assert [value for _, value in request] == order
    assert [value for _, value in response[1:]] == order


async def test_fields_of_the_codec_cannot_be_changed(caplog: pytest.LogCaptureFixture) -> None:
    chunked = HeaderValue(name=b"transfer-encoding", value=b"chunked")
    headers, _ = await filtered(
        config(chunked, RemoveHeader(name=b"content-length")), [(b"content-length", b"2")]
    )
    assert headers == [(b"content-length", b"2")]
    assert "content-length, transfer-encoding have no effect" in caplog.text
