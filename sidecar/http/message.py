"""The messages that pass through the stack: `Request` and `Response`, the same for every HTTP version.

Header names are lower-case bytes and carry no connection-level (hop-by-hop) fields: codecs add and remove
those. `authority`, `path`, `method` and `scheme` correspond to the pseudo-headers of HTTP/2; `host` is not in
`headers`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

from sidecar.http.body import EMPTY, Body
from sidecar.http.headers import Headers, get_header
from sidecar.observability.grpc_call import GrpcCall

if TYPE_CHECKING:
    from sidecar.observability.stream_info import StreamInfo


class MatchedRoute(Protocol):
    """The resolved route of a request, as seen from outside the router."""

    def finish(self, headers: Headers) -> None:
        """Applies the route's operations on the headers of a reply that the proxy makes itself."""

    def filter_configs(self, name: str) -> tuple[object, ...]:
        """The compiled configurations of the filter `name`, the most specific level of the route first."""


class Request:
    """One request.

    Filters may replace `body`; `complete` and `when_complete` refer to the body that arrives from the client.

    `upgrade` is the lower-case protocol that the client requests (``b"websocket"``; ``b"connect"`` for the
    CONNECT method): its body is then the raw bytes that follow. `inform`, where set, sends a 1xx response.
    `resolver` is set if the request passes filters: only then can its bodies and headers have been changed.
    `limit_idle_time`, where set, replaces the stream idle timeout of the codec, in seconds; 0 is no
    limit. `limit_duration`, where set, limits the time from the beginning of the request to the end of the
    response, in seconds; infinity is no limit. `route` is resolved before the filters; it is None if no route
    matches.
    `upstream_body` is the body of the router's response: if a filter fails after it, the owner of the stream
    closes it. `waiter`, where set, is the future that the task of the request waits for: a codec may take it
    for the upstream's response, and sets it to None then.
    """

    __slots__ = (
        "_arriving",
        "authority",
        "body",
        "headers",
        "info",
        "inform",
        "limit_duration",
        "limit_idle_time",
        "method",
        "path",
        "resolver",
        "route",
        "scheme",
        "upgrade",
        "upstream_body",
        "waiter",
    )

    def __init__(
        self,
        method: bytes,
        scheme: bytes,
        authority: bytes,
        path: bytes,
        headers: Headers,
        body: Body,
        info: StreamInfo,
    ) -> None:
        self.method = method
        self.scheme = scheme
        self.authority = authority
        self.path = path
        self.headers = headers
        self.body = body
        self._arriving = body
        self.info = info
        self.upgrade: bytes | None = None
        self.inform: Callable[[int, Headers], None] | None = None
        self.limit_idle_time: Callable[[float], None] | None = None
        self.limit_duration: Callable[[float], None] | None = None
        self.route: MatchedRoute | None = None
        self.resolver: Callable[[Request], None] | None = None
        self.upstream_body: Body | None = None
        self.waiter: asyncio.Future[Any] | None = None

    @property
    def complete(self) -> bool:
        """Whether the client has sent all of the request; its body may not be read yet."""
        arriving = self._arriving
        return arriving.whole is not None or arriving.ended

    @property
    def body_replaced(self) -> bool:
        """Whether a filter has replaced the client's body by one of another length."""
        return self.body.as_long_as is not self._arriving

    def begin_grpc_call(self, *, over_web: bool = False) -> None:
        """Notes that the request is a gRPC call. `over_web` as in `GrpcCall`."""
        call = self.info.grpc = GrpcCall(over_web=over_web)
        self.body.count_messages(call.request_messages)

    def resolve_again(self) -> None:
        """Resolves the route again (Envoy: clears the route cache), for a filter that has changed the
        authority, the path or a header that routes match on. Raises `UpgradeRejectedError`."""
        assert self.resolver is not None, "only a filter of a chain can resolve again"
        self.resolver(self)

    def inform_client(self, status: int, headers: Headers) -> None:
        """Passes on a 1xx response of the upstream. A 100 is for a client whose expectation was passed on; to
        others the codec has sent its own."""
        if self.inform is not None and (status != 100 or get_header(self.headers, b"expect") is not None):
            self.inform(status, headers)

    def close_replaced_body(self) -> None:
        """Closes the body by which a filter has replaced the client's. Called when the request has failed,
        and when the exchange is over: an attempt may read it until then."""
        if self.body is not self._arriving:
            self.body.close()

    def when_complete(self, call: Callable[[], None]) -> None:
        """Calls `call` when the request is `complete`. For one caller."""
        self._arriving.when_ended(call)


class Response:
    """One response. `upgraded`: the connection is a tunnel after this response (a 101, or the 200
    of a CONNECT), and `body` its bytes."""

    __slots__ = ("body", "headers", "status", "upgraded")

    def __init__(self, status: int, headers: Headers, body: Body = EMPTY) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.upgraded = False


Service = Callable[[Request], Awaitable[Response]]
"""Answers requests: a filter, the router, or the whole stack. Raises `RequestError`."""
