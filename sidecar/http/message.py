"""What passes through the stack: `Request`, `Response` and `Body`, the same for every HTTP version.

Header names are lower-case bytes and carry no connection-level (hop-by-hop) fields: codecs add and remove
those. `authority`, `path`, `method` and `scheme` are what HTTP/2 calls pseudo-headers; `host` is not in
`headers`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sidecar.observability.stream_info import StreamInfo

Headers = list[tuple[bytes, bytes]]

# RFC 9110 7.6.1: meant for the next hop alone. `trailer` stays, because trailers are passed on; `te` stays
# where it says `trailers`, which gRPC asks for.
HOP_BY_HOP = frozenset(
    (b"connection", b"http2-settings", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)

# What a codec alone says, of how a message is framed (RFC 9112 6) and to the next hop: no configuration can
# change it, and no filter.
CODEC_FIELDS = HOP_BY_HOP | {b"content-length", b"te", b"trailer"}


# What a piece of a body takes in memory beside its bytes: of small ones much more than those.
_PIECE_BYTES = 48


def get_header(headers: Headers, name: bytes) -> bytes | None:
    """The first value of a lower-case name."""
    for header, value in headers:
        if header == name:
            return value
    return None


class BodyReader(Protocol):
    """What a consumer sees of a body. `trailers` are complete once `read` has returned ``b""``."""

    trailers: Headers

    async def read(self) -> bytes:
        """Whatever has arrived, waiting for at least one byte; ``b""`` at the end. Raises the error that
        cut the body short (a `RequestError`)."""

    def close(self) -> None:
        """The consumer leaves: what it has not read, it never will. Idempotent, and due on every path."""


class BodySource(Protocol):
    """The producer's hand on its own input: a codec stops reading while its consumer is behind."""

    def pause_body(self) -> None: ...

    def resume_body(self) -> None: ...

    def abandon_body(self) -> None:
        """The consumer left before the end: give up the exchange (HTTP/1: close the connection)."""


class Body:
    """A stream of bytes between one producer (a codec) and one consumer, bounded by backpressure.

    The producer is asked to pause above `high_water` buffered bytes, what pieces take in memory included, and
    to resume when all was read.
    An upgraded connection (CONNECT, WebSocket) is a body in each direction, and each ends on its own.
    """

    __slots__ = (
        "_chunks",
        "_closed",
        "_ended",
        "_error",
        "_left",
        "_paused",
        "_size",
        "_source",
        "_waiter",
        "high_water",
        "on_end",
        "trailers",
    )

    def __init__(self, source: BodySource | None = None, *, high_water: int = 256 * 1024) -> None:
        self._source = source
        self.high_water = high_water
        self._chunks: list[bytes] = []
        self._size = 0
        self._closed = False
        self._ended = False
        self._paused = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._left: asyncio.Future[None] | None = None  # set while somebody waits for the consumer to leave
        self.trailers: Headers = []
        self.on_end: Callable[[], None] | None = None  # called when the producer is done

    # The producer's side.

    def feed(self, data: bytes) -> None:
        if self._closed:
            return
        self._chunks.append(data)
        self._size += len(data) + _PIECE_BYTES
        if self._size > self.high_water and not self._paused and self._source is not None:
            self._paused = True
            self._source.pause_body()
        self._wake()

    def feed_end(self, trailers: Headers | None = None) -> None:
        if trailers:
            self.trailers = trailers
        self._ended = True
        self._release_source()
        self._wake()
        on_end, self.on_end = self.on_end, None  # the codec keeps the body until the next message
        if on_end is not None:
            on_end()

    async def left(self) -> None:
        """Until the consumer is done with it, at its end or before. For one caller."""
        if not self._closed:
            self._left = asyncio.get_running_loop().create_future()
            await self._left

    def fail(self, error: Exception) -> None:
        """Cuts the body short; what was not read yet is dropped."""
        if not self._ended and self._error is None:
            self._error = error
            self._chunks.clear()
            self._size = 0
            self._wake()

    # The consumer's side.

    @property
    def ended(self) -> bool:
        """Whether the producer is done; bytes may still wait to be read."""
        return self._ended

    async def read(self) -> bytes:
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self._ended:
                return b""
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._size = 0
        self._release_source()
        return data

    def give_up(self, error: Exception) -> None:
        """`close`, of a body that is not to go on: whoever is reading it, or will, is told why."""
        if not self._ended and self._error is None:
            self.fail(error)
            if self._source is not None:
                self._source.abandon_body()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._chunks.clear()
        self._size = 0
        if self._left is not None and not self._left.done():
            self._left.set_result(None)
        if self._source is not None and not self._ended and self._error is None:
            self._source.abandon_body()

    def _release_source(self) -> None:
        """At the body's end too: its connection goes on to others, whoever has yet to read this one."""
        if self._paused and self._source is not None:
            self._paused = False
            self._source.resume_body()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class MatchedRoute(Protocol):
    """What the route table chose, as seen from outside the router."""

    def finish(self, headers: Headers) -> None:
        """Does to the headers of a response what the route says of all its responses."""


class Request:
    """One request, on its way down the stack. A body that arrived whole with its head is plain bytes.

    Filters may put another body in its place; `complete` tells of the one that arrives.

    `upgrade` is the lower-case protocol that the client asks for (``b"websocket"``; ``b"connect"`` for the
    CONNECT method): its body is then the raw bytes that follow. `inform`, where set, sends a 1xx response.
    `limit_idle_time`, where set, takes the seconds for which nothing may move in place of the codec's own
    limit; 0 is no limit. `route` is there from the start of the filter chain on.
    """

    __slots__ = (
        "_arriving",
        "authority",
        "body",
        "headers",
        "info",
        "inform",
        "limit_idle_time",
        "method",
        "path",
        "route",
        "scheme",
        "upgrade",
    )

    def __init__(
        self,
        method: bytes,
        scheme: bytes,
        authority: bytes,
        path: bytes,
        headers: Headers,
        body: bytes | BodyReader,
        info: StreamInfo,
    ) -> None:
        self.method = method
        self.scheme = scheme
        self.authority = authority
        self.path = path
        self.headers = headers
        self.body = body
        self._arriving = None if isinstance(body, bytes) else body
        self.info = info
        self.upgrade: bytes | None = None
        self.inform: Callable[[int, Headers], None] | None = None
        self.limit_idle_time: Callable[[float], None] | None = None
        self.route: MatchedRoute | None = None

    @property
    def complete(self) -> bool:
        """Whether the client has sent all of it, whoever has read how much of that."""
        body = self._arriving
        return body is None or (isinstance(body, Body) and body.ended)

    def when_complete(self, call: Callable[[], None]) -> None:
        """For one caller, before the request is `complete`."""
        if isinstance(self._arriving, Body):
            self._arriving.on_end = call


class Response:
    """One response, on its way up. `upgraded`: the connection is a tunnel from here on (a 101, or the 200
    of a CONNECT), and `body` its bytes."""

    __slots__ = ("body", "headers", "status", "upgraded")

    def __init__(self, status: int, headers: Headers, body: bytes | BodyReader = b"") -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.upgraded = False


Service = Callable[[Request], Awaitable[Response]]
"""A filter, the router, the whole stack: whatever answers a request. Raises `RequestError`."""
