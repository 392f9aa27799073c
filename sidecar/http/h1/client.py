"""The client's side of an HTTP/1.1 connection: one exchange at a time. A pool owns it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import cast

from sidecar.errors import InternalError, RequestError, UpstreamResetError
from sidecar.http.body import Body
from sidecar.http.h1.response_reader import IncomingResponse, ResponseReader
from sidecar.http.h1.writer import (
    CHUNKED,
    chunk,
    content_length,
    last_chunk,
    request_head,
    tunnel_head,
    whole_request,
)
from sidecar.http.message import Request, Response
from sidecar.transport.closing import TUNNEL_FLUSH_TIMEOUT_S, close_when_flushed, reset
from sidecar.upstream.connection import ConnectionEvents


class Http1ClientConnection:
    """Implements `sidecar.upstream.connection.ClientConnection`.

    The connection is idle again when request and response have both ended and the upstream keeps it open. An
    exchange that ends in any other way (cancelled, cut short, answered too early) closes the connection.
    """

    capacity = 1

    def __init__(self, *, max_headers_bytes: int = 80 * 1024, max_headers_count: int = 100) -> None:
        self.closed = False
        self.active = 0
        self.closed_by_peer = False
        self.cut_short = 0
        self.events: ConnectionEvents | None = None
        self.received_bytes = 0
        self.sent_bytes = 0
        self._loop = asyncio.get_running_loop()
        self._reader = ResponseReader(
            self, max_headers_bytes=max_headers_bytes, max_headers_count=max_headers_count
        )
        self._transport: asyncio.Transport | None = None
        self._request: Request | None = None  # the active request
        self._request_sent = True
        self._incoming: IncomingResponse | None = None
        self._response: asyncio.Future[Response] | None = None
        self._pump: asyncio.Task[None] | None = None
        self._writable: asyncio.Future[None] | None = None  # set while the upstream is slow to read

    async def send(self, request: Request) -> Response:
        """Returns the response as soon as its head has arrived. Raises `UpstreamResetError`,
        `UpstreamProtocolError`, or the error of the request's body. Cancellation closes the connection."""
        if self.closed or self._transport is None:
            raise UpstreamResetError("the upstream had closed the connection")
        assert self._request is None
        self._request = request
        self.active = 1
        self._incoming = None
        self._reader.expect(request.method, request.upgrade)
        response: asyncio.Future[Response] = self._loop.create_future()
        self._response = response
        try:
            self._send_request(request)
            return await response
        except BaseException:  # cancelled, or a filter left a message that cannot be written
            self._abandon(request)
            if response.done() and not response.cancelled():
                response.exception()  # no caller retrieves it
            raise

    def _abandon(self, request: Request) -> None:
        """Closes the connection if `request` is still active. This is a separate method because a type
        checker would assume in `send` that `_request` has not changed."""
        if self._request is request:
            self.close()

    def close(self) -> None:
        self._fail(UpstreamResetError("the connection was closed", request_sent=True))

    # The methods of an `asyncio.Protocol`.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it

    def data_received(self, data: bytes) -> None:
        self.received_bytes += len(data)
        if self.closed and self._request is None:
            return
        reader = self._reader
        incoming = reader.feed(data)
        if reader.interim:
            self._inform()
        if incoming is not None:
            self._receive(incoming)
        error = reader.messages.error
        if error is not None:
            self._fail(error)
        elif self._incoming is not None and self._incoming.complete:
            self._end_exchange(self._incoming)

    def eof_received(self) -> bool:
        ended = self._reader.feed_eof()
        incoming = self._incoming
        if ended and incoming is not None:
            self._end_exchange(incoming)
            if incoming.tunnel and not self.closed and self._transport is not None:
                return True  # the other direction stays open
        elif self._request is None:
            self._mark_closed()
        return False  # the transport closes; `connection_lost` follows

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed_by_peer = not self.closed
        reason = f"the upstream closed the connection{f': {exc}' if exc else ''}"
        self._fail(UpstreamResetError(reason, request_sent=True))
        self._transport = None
        self.resume_writing()

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    # BodySource: called when the response's body is read slowly, or not at all.

    def pause_body(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_body(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    def abandon_body(self) -> None:
        self.close()

    # Sending the request.

    def _send_request(self, request: Request) -> None:
        body = request.body
        self._request_sent = False
        if request.upgrade == b"connect":  # the tunnel's bytes wait for the 200
            self._write(tunnel_head(request))
        elif request.upgrade is not None:  # or the 101
            self._write(tunnel_head(request, b"connection: upgrade", b"upgrade: %b" % request.upgrade))
        elif body.whole is not None:
            self._write(whole_request(request, body.whole))
            self._request_sent = True
        else:
            length = content_length(request.headers)
            framing = (CHUNKED,) if length is None else ()
            self._write(request_head(request, length, *framing))
            self._start_pump(self._send_body(body, length))

    def _start_pump(self, body: Coroutine[None, None, None]) -> None:
        self._pump = self._loop.create_task(body, name="http1-request-body")

    async def _send_body(self, body: Body, length: int | None) -> None:
        """Frames the body by the length in the head, or else in chunks."""
        sent = 0
        try:
            while data := await body.read():
                sent += len(data)
                if length is not None and sent > length:
                    break
                await self._write_some(chunk(data) if length is None else data)
            if length is None:
                self._write(last_chunk(body.trailers))
            elif sent != length:
                raise InternalError(f"the request body is not as long as its Content-Length {length}")
            self._request_sent = True
        except RequestError as error:
            self._fail(error)
        finally:
            body.close()
        if self._incoming is not None and self._incoming.complete:
            self._end_exchange(self._incoming)

    async def _send_tunnel(self, body: Body) -> None:
        try:
            while data := await body.read():
                await self._write_some(data)
            self._request_sent = True
        except RequestError as error:
            self._fail(error)
        finally:
            body.close()
        if self._incoming is not None and self._incoming.complete:
            self._end_exchange(self._incoming)
        elif self._transport is not None:
            self._transport.write_eof()

    async def _write_some(self, data: bytes) -> None:
        self._write(data)
        if self._writable is not None:
            await self._writable

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self.sent_bytes += len(data)
            self._transport.write(data)

    # Receiving the response.

    def _inform(self) -> None:
        interim, self._reader.interim = self._reader.interim, []
        if self._request is not None and self._request.inform is not None:
            for status, headers in interim:
                if status != 100:  # the downstream codec has sent its own
                    self._request.inform(status, headers)

    def _receive(self, incoming: IncomingResponse) -> None:
        self._incoming = incoming
        response = Response(incoming.status, incoming.headers, incoming.body)
        if incoming.tunnel and self._request is not None:
            response.upgraded = True
            self._start_pump(self._send_tunnel(self._request.body))
        if self._response is not None and not self._response.done():
            self._response.set_result(response)

    def _end_exchange(self, incoming: IncomingResponse) -> None:
        """The response is complete. If the request is too, and the upstream keeps the connection, it is
        idle."""
        if self._request is None:
            return
        keep_alive = incoming.keep_alive and self._request_sent and not self.closed
        if incoming.tunnel and not self._request_sent:
            return  # only one direction has ended
        self._request = None
        self._response = None
        self.active = 0
        if keep_alive and not incoming.tunnel:
            self._pump = None
            if self.events is not None:
                self.events.exchange_ended()
        elif incoming.tunnel and self._transport is not None:
            self._mark_closed()
            self._end_tunnel(self._transport)
        else:
            self.close()

    # Failures, and the end of the connection.

    def _fail(self, error: RequestError) -> None:
        """Ends the active exchange with `error`, and closes the connection."""
        if not self.closed:
            self.cut_short = self.active
        self._request = None
        response, self._response = self._response, None
        self.active = 0
        if response is not None and not response.done():
            response.set_exception(error)
        if self._incoming is not None and self._incoming.stream is not None:
            self._incoming.stream.fail(error)
        if self._pump is not None and self._pump is not asyncio.current_task():
            self._pump.cancel()
        self._pump = None
        self._mark_closed()
        if self._transport is None:
            return
        if self._incoming is not None and self._incoming.tunnel:
            self._end_tunnel(self._transport)
        elif self._transport.get_write_buffer_size():
            self._transport.abort()  # drops the rest of the failed request; `close` would wait for it
        else:
            self._transport.close()

    def _end_tunnel(self, transport: asyncio.Transport) -> None:
        """Resets the connection if the request was cut short: an EOF would look like the client's."""
        if self._request_sent:
            close_when_flushed(transport, TUNNEL_FLUSH_TIMEOUT_S)
        else:
            reset(transport)

    def _mark_closed(self) -> None:
        if not self.closed:
            self.closed = True
            if self.events is not None:
                self.events.closed()
