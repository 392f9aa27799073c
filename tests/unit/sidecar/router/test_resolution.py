from __future__ import annotations

from typing import Any

import pytest

from sidecar.config.cluster import ServiceMetadata
from sidecar.config.listener import HttpConnectionManager
from sidecar.config.route import (
    AppendAction,
    DirectResponseAction,
    ForwardAction,
    HeaderOperations,
    HeaderValue,
    WeightedCluster,
)
from sidecar.errors import UpgradeRejectedError
from sidecar.http.headers import Headers
from sidecar.http.message import Request
from sidecar.router.match import RouteTable, RouteTableRef
from sidecar.router.resolution import ResolvedRoute, RouteResolver
from sidecar.upstream.cluster import Cluster
from tests.support.clusters import idle_cluster, static_cluster
from tests.support.requests import make_request
from tests.support.routes import configuration, exact, prefix, route, to, virtual_host


def find(name: str) -> Cluster | None:
    if name not in {"a", "b"}:
        return None
    return idle_cluster(static_cluster(name=name, service=ServiceMetadata(name=f"service of {name}")))


def resolver(*routes: Any, **options: Any) -> RouteResolver:
    table = RouteTableRef(RouteTable(configuration(virtual_host(*routes))))
    return RouteResolver(HttpConnectionManager(stat_prefix="x", **options), table, find)


def resolved(resolver: RouteResolver, request: Request) -> ResolvedRoute:
    resolver.apply(request)
    assert isinstance(request.route, ResolvedRoute)
    return request.route


def test_a_request_keeps_route_destination_and_cluster() -> None:
    request = make_request()
    found = resolved(resolver(route(prefix(), to("a"), name="first")), request)
    assert found.cluster is not None
    assert found.destination is not None
    assert (found.route.name, found.destination.cluster, found.cluster.name) == ("first", "a", "a")
    info = request.info
    assert info.service is not None
    noted = (info.route_name, info.virtual_host, info.cluster, info.service.name)
    assert noted == ("first", "*", "a", "service of a")


def test_a_header_may_name_the_cluster() -> None:
    action = ForwardAction(cluster_header="x-cluster")
    resolve = resolver(route(prefix(), action))
    found = resolved(resolve, make_request(headers=[(b"x-cluster", b"b")]))
    assert found.cluster is not None
    assert found.cluster.name == "b"


@pytest.mark.parametrize("headers", [[], [(b"x-cluster", b"none such")]])
def test_the_name_of_a_missing_cluster_is_not_noted(headers: Headers) -> None:
    """Metrics would grow with the names that clients invent."""
    request = make_request(headers=headers)
    found = resolved(resolver(route(prefix(), ForwardAction(cluster_header="x-cluster"))), request)
    assert found.cluster is None
    assert request.info.cluster == ""


def test_without_a_matching_route_or_a_table_the_route_is_none() -> None:
    request = make_request(b"/b")
    resolver(route(exact("/a"))).apply(request)
    assert request.route is None
    RouteResolver(HttpConnectionManager(stat_prefix="x"), RouteTableRef(), find).apply(request)
    assert request.route is None


def test_resolving_again_forgets_the_first_route() -> None:
    first = route(exact("/a"), to("a", idle_timeout_s=7.0), name="first")
    resolve = resolver(first, stream_idle_timeout_s=300.0)
    request, limits = make_request(b"/a"), list[float]()
    request.limit_idle_time = limits.append
    resolve.apply(request)
    request.path = b"/b"
    resolve.apply_again(request)
    info = request.info
    assert request.route is None
    assert (info.route_name, info.virtual_host, info.cluster, info.service) == ("", "", "", None)
    assert limits == [7.0, 300.0]


@pytest.mark.parametrize(("of_route", "limits"), [(None, []), (0.0, [0.0]), (2.5, [2.5])])
def test_a_route_says_how_long_nothing_may_move(of_route: float | None, limits: list[float]) -> None:
    request, limited = make_request(), list[float]()
    request.limit_idle_time = limited.append
    resolver(route(prefix(), to("a", idle_timeout_s=of_route))).apply(request)
    assert limited == limits


def test_headers_of_replies_are_those_of_the_route_and_of_its_destination() -> None:
    def operations(value: bytes) -> HeaderOperations:
        added = HeaderValue(name=b"x-by", value=value, action=AppendAction.APPEND_IF_EXISTS_OR_ADD)
        return HeaderOperations(response_set=(added,))

    weighted = WeightedCluster(name="a", headers=operations(b"cluster"))
    action = ForwardAction(clusters=(weighted,))
    headers: Headers = []
    resolved(resolver(route(prefix(), action, headers=operations(b"route"))), make_request()).finish(headers)
    assert headers == [(b"x-by", b"cluster"), (b"x-by", b"route")]


def test_a_route_that_answers_by_itself_changes_no_other_reply() -> None:
    added = HeaderValue(name=b"x-by", value=b"route", action=AppendAction.APPEND_IF_EXISTS_OR_ADD)
    answer = route(
        prefix(), DirectResponseAction(status=200), headers=HeaderOperations(response_set=(added,))
    )
    headers: Headers = []
    resolved(resolver(answer), make_request()).finish(headers)
    assert headers == []


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
def test_upgrades(of_manager: frozenset[str], of_route: dict[str, bool], allowed: bool) -> None:
    resolve = resolver(route(prefix(), to("a", upgrades=of_route)), upgrades=of_manager)
    request = make_request()
    request.upgrade = b"websocket"
    if allowed:
        resolve.apply(request)
    else:
        with pytest.raises(UpgradeRejectedError):
            resolve.apply(request)
