"""Routes that answer by themselves: redirects, and direct responses.

Source: ``envoy.config.route.v3.RedirectAction`` and ``DirectResponseAction``.
"""

from __future__ import annotations

from sidecar.authority import split_port
from sidecar.config.route import DirectResponseAction, RedirectAction, RouteMatch
from sidecar.http.headers import get_header
from sidecar.http.local_reply import local_reply
from sidecar.http.message import Request, Response
from sidecar.router.rewrite import compile_path_rewrite

_DEFAULT_PORTS = {b"http": b"80", b"https": b"443"}


class DirectResponse:
    __slots__ = ("_action",)

    def __init__(self, action: DirectResponseAction) -> None:
        self._action = action

    def respond(self, request: Request) -> Response:
        return local_reply(request, self._action.status, self._action.body)


class Redirect:
    """The new location is the location of the request, with the parts replaced that the action names."""

    __slots__ = ("_action", "_host", "_path", "_path_rewrite", "_port", "_scheme")

    def __init__(self, action: RedirectAction, match: RouteMatch) -> None:
        self._action = action
        self._scheme = b"https" if action.https_redirect else action.scheme.encode()
        self._host = action.host.encode()
        self._port = b":%d" % action.port if action.port else b""
        self._path = action.path.encode()
        self._path_rewrite = compile_path_rewrite(match, action.prefix_rewrite, action.regex_rewrite)

    def respond(self, request: Request) -> Response:
        return local_reply(request, self._action.status, headers=[(b"location", self.location(request))])

    def location(self, request: Request) -> bytes:
        scheme = self._scheme or request.scheme
        host = self._host or self._request_host(request, scheme)
        return b"".join((scheme, b"://", host, self._port, self._new_path(request.path)))

    def _request_host(self, request: Request, scheme: bytes) -> bytes:
        """The request's host. Its port is dropped when the action sets another one, or when it is the default
        port of a scheme that the action replaces."""
        host, port = split_port(request.authority)
        old_scheme = get_header(request.headers, b"x-forwarded-proto") or request.scheme
        drops_default = scheme != old_scheme and port == _DEFAULT_PORTS.get(old_scheme)
        return host if self._port or drops_default else request.authority

    def _new_path(self, path: bytes) -> bytes:
        if b"?" in self._path:  # the query string of the action replaces the request's, and is never stripped
            return self._path
        if self._path_rewrite is not None:
            path = self._path_rewrite(path)
        path_only, mark, query = path.partition(b"?")
        if self._path:
            path_only = self._path
        return path_only if self._action.strip_query else path_only + mark + query
