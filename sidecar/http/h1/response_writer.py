"""Responses on their way out: whole, in pieces, or as a tunnel."""

from __future__ import annotations

from sidecar.errors import UpstreamProtocolError, UpstreamResetError
from sidecar.http.body import Body
from sidecar.http.h1.outlet import Outlet
from sidecar.http.h1.request_reader import IncomingRequest
from sidecar.http.h1.writer import (
    CHUNKED,
    CLOSE,
    chunk,
    content_length,
    has_no_body,
    last_chunk,
    response_head,
    whole_response,
    without_length,
)
from sidecar.http.headers import Headers
from sidecar.http.message import Request, Response
from sidecar.observability.stats import HttpConnectionManagerStats
from sidecar.observability.stream_info import StreamInfo

_KEEP_ALIVE = b"connection: keep-alive"
_UPGRADE = b"connection: upgrade"


class Exchange:
    """One request that is being answered."""

    __slots__ = ("head_sent", "incoming", "request", "response", "sent")

    def __init__(self, incoming: IncomingRequest, request: Request) -> None:
        self.incoming = incoming
        self.request = request
        self.response: Response | None = None
        self.head_sent = False
        self.sent = False


class ResponseWriter:
    """Writes the responses of one connection. Each head says whether the connection goes on, and leaves that
    in `IncomingRequest.keep_alive`."""

    __slots__ = ("_outlet", "_stats")

    def __init__(self, outlet: Outlet, stats: HttpConnectionManagerStats) -> None:
        self._outlet = outlet
        self._stats = stats

    def inform(self, status: int, headers: Headers) -> None:
        """RFC 9110 15.2: an interim response. 101 is none: it ends the exchange."""
        self._outlet.write(response_head(status, headers))

    def send_last(self, request: Request, response: Response, body: bytes) -> None:
        """The answer to what cannot be served, or not to its end: the connection ends with it."""
        request.info.bytes_sent = len(body)
        if request.method == b"HEAD":
            body = b""
        self._outlet.write(response_head(response.status, response.headers, CLOSE) + body)

    def send_whole(self, exchange: Exchange, response: Response, body: bytes) -> None:
        incoming = exchange.incoming
        options = _connection_options(incoming)
        exchange.head_sent = True
        if has_no_body(response.status):
            headers = without_length(response.headers) if response.status == 204 else response.headers
            self._outlet.write(response_head(response.status, headers, *options))
        elif incoming.method == b"HEAD":
            if content_length(response.headers) is None and not incoming.http10:
                options = (*options, CHUNKED)  # RFC 9110 9.3.2: as the answer to GET would say
            self._outlet.write(response_head(response.status, response.headers, *options))
        else:
            exchange.request.info.bytes_sent = len(body)
            self._outlet.write(whole_response(response.status, response.headers, body, *options))

    async def send_streaming(self, exchange: Exchange, response: Response, body: Body) -> None:
        """Raises the `RequestError` that cut the body short."""
        try:
            if response.upgraded:
                await self._send_tunnel(exchange, response, body)
            elif exchange.incoming.method == b"HEAD" or has_no_body(response.status):
                self.send_whole(exchange, response, b"")
            else:
                await self._send_body(exchange, response, body)
        finally:
            body.close()

    async def _send_body(self, exchange: Exchange, response: Response, body: Body) -> None:
        """Framed by the length that the head says, else in chunks; for HTTP/1.0, by the connection's end."""
        incoming, info = exchange.incoming, exchange.request.info
        length = content_length(response.headers)
        if length is None and incoming.http10:
            incoming.keep_alive = False
        options = _connection_options(incoming)
        if length is None and not incoming.http10:
            options = (*options, CHUNKED)
        self._outlet.write(response_head(response.status, response.headers, *options))
        exchange.head_sent = True
        if length is not None:
            await self._send_sized(body, info, length)
        elif incoming.http10:
            await self._send_raw(body, info)
        else:
            await self._send_chunked(body, info)

    async def _send_sized(self, body: Body, info: StreamInfo, length: int) -> None:
        """RFC 9112 8: raises `UpstreamProtocolError` for a body that is not as long as its head said, lest
        its bytes pass for the next response, or the next response for its bytes."""
        while data := await body.read():
            info.bytes_sent += len(data)
            if info.bytes_sent > length:
                break
            self._outlet.write(data)
            await self._outlet.moved()
        if info.bytes_sent != length:
            raise UpstreamProtocolError(f"a response body of other than the {length} bytes that it said")

    async def _send_chunked(self, body: Body, info: StreamInfo) -> None:
        while data := await body.read():
            info.bytes_sent += len(data)
            self._outlet.write(chunk(data))
            await self._outlet.moved()
        self._outlet.write(last_chunk(body.trailers))

    async def _send_raw(self, body: Body, info: StreamInfo) -> None:
        """To the end of the body, which is the end of the connection, or of a tunnel."""
        while data := await body.read():
            info.bytes_sent += len(data)
            self._outlet.write(data)
            await self._outlet.moved()

    async def _send_tunnel(self, exchange: Exchange, response: Response, body: Body) -> None:
        """Until both directions have ended, in whichever order, or the upstream takes no more. Raises the
        `RequestError` by which either was cut short."""
        upgrade = exchange.incoming.upgrade
        options = (_UPGRADE, b"upgrade: %b" % upgrade) if upgrade and response.status == 101 else ()
        self._outlet.write(response_head(response.status, without_length(response.headers), *options))
        exchange.head_sent = True
        self._stats.downstream_cx_upgrades_total += 1
        self._stats.downstream_cx_upgrades_active += 1
        try:
            await self._send_raw(body, exchange.request.info)
            await self._await_client(exchange.incoming)
        finally:
            self._stats.downstream_cx_upgrades_active -= 1

    async def _await_client(self, incoming: IncomingRequest) -> None:
        """The upstream has ended its direction of a tunnel: the client may still have something to say."""
        if incoming.complete or not self._outlet.end():
            return
        assert incoming.stream is not None
        await incoming.stream.left()
        if not incoming.complete:
            raise UpstreamResetError("the upstream takes no more of the tunnel", request_sent=True)


def _connection_options(incoming: IncomingRequest) -> tuple[bytes, ...]:
    if incoming.keep_alive and incoming.complete:
        return (_KEEP_ALIVE,) if incoming.http10 else ()
    incoming.keep_alive = False  # it has been said
    return (CLOSE,)
