"""Route configurations in short form."""

from __future__ import annotations

from typing import Any

from sidecar.config.route import (
    DirectResponseAction,
    ForwardAction,
    HeaderMatch,
    PathMatchKind,
    RedirectAction,
    Route,
    RouteConfiguration,
    RouteMatch,
    StringMatch,
    StringMatchKind,
    VirtualHost,
    WeightedCluster,
)

Action = ForwardAction | RedirectAction | DirectResponseAction


def prefix(path: str = "/", **conditions: Any) -> RouteMatch:
    return RouteMatch(path_kind=PathMatchKind.PREFIX, path=path, **conditions)


def exact(path: str, **conditions: Any) -> RouteMatch:
    return RouteMatch(path_kind=PathMatchKind.EXACT, path=path, **conditions)


def string(value: str, kind: StringMatchKind = StringMatchKind.EXACT, **options: Any) -> StringMatch:
    return StringMatch(kind=kind, value=value, **options)


def header(name: str, match: StringMatch, **options: Any) -> HeaderMatch:
    return HeaderMatch(name=name, match=match, **options)


def to(cluster: str, **options: Any) -> ForwardAction:
    return ForwardAction(clusters=(WeightedCluster(name=cluster),), **options)


def route(match: RouteMatch, action: Action | None = None, name: str = "", **options: Any) -> Route:
    return Route(name=name, match=match, action=action or to("any"), **options)


def virtual_host(*routes: Route, domains: tuple[str, ...] = ("*",), **options: Any) -> VirtualHost:
    return VirtualHost(name=domains[0], domains=domains, routes=routes, **options)


def configuration(*virtual_hosts: VirtualHost, **options: Any) -> RouteConfiguration:
    return RouteConfiguration(name="9080", virtual_hosts=virtual_hosts, **options)
