"""HTTP filters: each sees a request on its way to the router, and the response on its way back.

A filter is a few lines of Python. It gets the request and the rest of the chain; it may answer itself, change
what passes, wrap a body, or raise a `RequestError`, which becomes a reply in words:

    class RequireUser:
        async def __call__(self, request: Request, proceed: Service) -> Response:
            if get_header(request.headers, b"end-user") is None:
                return Response(401, [])
            response = await proceed(request)
            response.headers.append((b"x-checked", b"yes"))
            return response

    FILTERS["example.require_user"] = lambda config: RequireUser()

The chain is composed once for every connection manager, from the names in its configuration; `request.route`
is already known to the filters.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from sidecar.config.http_filters import RouterConfig
from sidecar.config.listener import HttpConnectionManager
from sidecar.errors import ConfigError, InternalError, NoRouteError, UpgradeRejectedError
from sidecar.http.h1.rules import printable
from sidecar.http.headers import Headers
from sidecar.http.message import Request, Response, Service
from sidecar.router.forward import Forward
from sidecar.router.match import RouteTableRef

ROUTER = "envoy.filters.http.router"

_ENDS_A_LINE = re.compile(rb"[\r\n\0]").search


class Filter(Protocol):
    async def __call__(self, request: Request, proceed: Service) -> Response: ...


FilterFactory = Callable[[object | None], Filter]
"""Makes a filter of its configuration: `HttpFilter.config`, whatever the decoder made of it."""

FILTERS: dict[str, FilterFactory] = {}
"""By Envoy's names. The router is not among them: it ends the chain."""


def build(
    config: HttpConnectionManager,
    *,
    routes: RouteTableRef,
    router: Service,
    filters: Mapping[str, FilterFactory] = FILTERS,
) -> Service:
    """The service of one connection manager: route match, then its filters, then `router`.
    Raises `ConfigError` for a filter that nobody knows, and for a chain that does not end with the router."""
    names = [ROUTER if isinstance(each.config, RouterConfig) else each.name for each in config.http_filters]
    if ROUTER not in names or names.index(ROUTER) != len(names) - 1:
        raise ConfigError("http_filters", f"the last filter, and no other, must be {ROUTER}")
    service = router
    for index, http_filter in reversed(list(enumerate(config.http_filters[:-1]))):
        factory = filters.get(http_filter.name)
        if factory is None:
            raise ConfigError(f"http_filters[{index}].name", f"there is no filter {http_filter.name!r}")
        service = _before(factory(http_filter.config), service)
    return RouteMatching(config, routes, service)


def _before(http_filter: Filter, proceed: Service) -> Service:
    """A filter that fails, or is cancelled, after it had its response lets go of that response's body: nobody
    else knows of it. One that answers with another closes the body itself."""

    async def run(request: Request) -> Response:
        got: list[Response] = []

        async def proceed_and_note(request: Request) -> Response:
            _put_in_order(request.headers)
            response = await proceed(request)
            got.append(response)
            return response

        try:
            response = await http_filter(request, proceed_and_note)
            _put_in_order(response.headers)
        except BaseException:
            for left in got:
                left.body.close()
            raise
        return response

    return run


def _put_in_order(headers: Headers) -> None:
    """What a filter has left: names in lower case, by which all others know them, the codec's own included.
    Raises `InternalError` for what would end its line: it could be another header, or another message."""
    for index, (name, value) in enumerate(headers):
        if _ENDS_A_LINE(name) or _ENDS_A_LINE(value):
            raise InternalError(f"a filter has left a line's end or a NUL in the header {printable(name)}")
        if not name.islower():
            headers[index] = (name.lower(), value)


class RouteMatching:
    """The first step: finds the route by the table in force, which the request keeps to its end."""

    __slots__ = ("_name", "_proceed", "_routes", "_upgrades")

    def __init__(self, config: HttpConnectionManager, routes: RouteTableRef, proceed: Service) -> None:
        self._name = config.rds_name or config.stat_prefix
        self._routes = routes
        self._upgrades = config.upgrades
        self._proceed = proceed

    def __call__(self, request: Request) -> Awaitable[Response]:
        """Raises `NoRouteError` and `UpgradeRejectedError`."""
        table = self._routes.current
        if table is None:
            raise NoRouteError(f"the route configuration {self._name!r} has not arrived yet")
        route = table.match(request)
        if route is None:
            raise NoRouteError(f"no route of {table.name!r} matches")
        request.route = route
        request.info.route_name = route.name
        request.info.virtual_host = route.virtual_host
        if route.idle_timeout_s is not None and request.limit_idle_time is not None:
            request.limit_idle_time(route.idle_timeout_s)
        if request.upgrade is not None and not self._may_upgrade(request.upgrade, route.action):
            raise UpgradeRejectedError(f"an upgrade to {request.upgrade.decode('latin-1')!r} is not allowed")
        return self._proceed(request)

    def _may_upgrade(self, upgrade: bytes, action: object) -> bool:
        """The route's word on an upgrade comes before the connection manager's."""
        name = upgrade.decode("latin-1")
        allowed = name in self._upgrades
        return action.upgrades.get(name, allowed) if isinstance(action, Forward) else allowed
