"""The client's side of an HTTP/1.1 connection: one exchange at a time. A pool owns it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import cast

from sidecar.errors import InternalError, RequestError, UpstreamResetError
from sidecar.http.body import Body, BodyTaker
from sidecar.http.h1.client_state import (
    CLOSED,
    CONNECTION_CLOSES,
    CONNECTION_LOST,
    IDLE,
    LOST,
    REQUEST_BEGINS,
    REQUEST_ENDS,
    RESPONSE_ENDS,
    TRANSITIONS,
    TUNNEL,
    TUNNEL_ENDED,
    TUNNEL_FROM_UPSTREAM,
    TUNNEL_OPENS,
    TUNNEL_TO_UPSTREAM,
    WHOLE_REQUEST_BEGINS,
    ClientEvent,
    ClientPhase,
)
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
from sidecar.transport.bulk_reader import BulkReader
from sidecar.transport.closing import TUNNEL_FLUSH_TIMEOUT_S, close_when_flushed, reset
from sidecar.upstream.connection import ConnectionEvents


class Http1ClientConnection:
    """Implements `sidecar.upstream.connection.ClientConnection`.

    The connection is idle again when request and response have both ended and the upstream keeps it open. An
    exchange that ends in any other way (cancelled, cut short, answered too early) closes the connection.
    `client_state` lists the states.
    """

    __slots__ = (
        "_bulk",
        "_incoming",
        "_loop",
        "_phase",
        "_pump",
        "_reader",
        "_request",
        "_response",
        "_transport",
        "_writable",
        "broke_protocol",
        "cut_short",
        "events",
        "received_bytes",
        "sent_bytes",
    )

    capacity = 1
    counts_resets = False

    def __init__(self, *, max_headers_bytes: int = 80 * 1024, max_headers_count: int = 100) -> None:
        self.broke_protocol = False
        self.cut_short = 0
        self.events: ConnectionEvents | None = None
        self.received_bytes = 0
        self.sent_bytes = 0
        self._phase = IDLE
        self._loop = asyncio.get_running_loop()
        self._reader = ResponseReader(
            self, max_headers_bytes=max_headers_bytes, max_headers_count=max_headers_count
        )
        self._transport: asyncio.Transport | None = None
        self._bulk: BulkReader | None = None  # made when the first large body arrives
        self._writable: asyncio.Future[None] | None = None  # set while the upstream is slow to read
        # Of the active exchange:
        self._request: Request | None = None
        self._response: asyncio.Future[Response] | None = None
        self._incoming: IncomingResponse | None = None
        self._pump: asyncio.Task[None] | None = None

    @property
    def closed(self) -> bool:
        return self._phase >= CLOSED

    @property
    def closed_by_peer(self) -> bool:
        return self._phase is LOST

    def send(self, request: Request) -> asyncio.Future[Response]:
        """The future gets the response as soon as its head has arrived, or `UpstreamResetError`,
        `UpstreamProtocolError`, or the error of the request's body. Raises `UpstreamResetError`, and
        `InternalError` for a message that cannot be written."""
        if self._phase is not IDLE:
            assert self._phase >= CLOSED
            raise UpstreamResetError("the upstream had closed the connection")
        self._request = request
        self._reader.expect(request.method, request.upgrade)
        response: asyncio.Future[Response] | None = request.waiter
        if response is None:
            response = self._loop.create_future()
        else:
            request.waiter = None
        self._response = response
        try:
            self._send_request(request)
        except BaseException:  # a filter left a message that cannot be written
            self.give_up(response)
            raise
        return response

    def give_up(self, response: asyncio.Future[Response]) -> None:
        """Closes the connection, unless the exchange has ended."""
        if self._response is response:
            self._response = None  # its caller does not wait for an error
            self.close()
        if response.done() and not response.cancelled():
            response.exception()  # no caller retrieves it

    def close(self) -> None:
        self._finish(CONNECTION_CLOSES, UpstreamResetError("the connection was closed", request_sent=True))

    # The methods of an `asyncio.Protocol`.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it

    def data_received(self, data: bytes) -> None:
        self.received_bytes += len(data)
        phase = self._phase
        if phase is CLOSED or phase is LOST:
            return
        reader = self._reader
        incoming = reader.feed(data)
        if reader.interim:
            self._inform()
        if incoming is not None:
            self._receive(incoming)
        error = reader.error
        if error is not None:
            self.broke_protocol = True
            self._finish(CONNECTION_CLOSES, error)
            return
        incoming = self._incoming
        if incoming is not None and incoming.complete:
            self._end_response(incoming)
        if reader.message is not None or self._bulk is not None:
            self._choose_buffer(len(data))

    def _choose_buffer(self, size: int) -> None:
        """Large bodies are read without copies."""
        if not self._reader.expects_bulk(size):
            if self._bulk is not None and self._reader.message is None:
                self._bulk.stop()
        elif self._transport is not None:
            if self._bulk is None:
                self._bulk = BulkReader(self, self._transport)
            self._bulk.start()

    def eof_received(self) -> bool:
        ended = self._reader.feed_eof()
        incoming = self._incoming
        if ended and incoming is not None:
            self._end_response(incoming)
        elif self._phase is IDLE:
            self._finish(CONNECTION_LOST)
        # The other direction of a tunnel stays open. Else the transport closes; `connection_lost` follows.
        return self._phase is TUNNEL_TO_UPSTREAM

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._incoming is not None and self._request is not None and self._request.upgrade is None:
            self.broke_protocol = True  # as in Envoy: a response without its end
        reason = f"the upstream closed the connection{f': {exc}' if exc else ''}"
        self._finish(CONNECTION_LOST, UpstreamResetError(reason, request_sent=True))
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
        if request.upgrade is None and body.whole is not None:
            self._phase = TRANSITIONS[IDLE][WHOLE_REQUEST_BEGINS]
            self._write(whole_request(request, body.whole))
            return
        self._phase = TRANSITIONS[IDLE][REQUEST_BEGINS]
        if request.upgrade == b"connect":  # the tunnel's bytes wait for the 200
            self._write(tunnel_head(request))
        elif request.upgrade is not None:  # or the 101
            self._write(tunnel_head(request, b"connection: upgrade", b"upgrade: %b" % request.upgrade))
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
            self._end_request()
        except RequestError as error:
            self._finish(CONNECTION_CLOSES, error)
        finally:
            body.close()

    async def _send_tunnel(self, body: Body) -> None:
        body.give_at_once(_TunnelInlet(self))
        try:
            while data := await body.read():
                await self._write_some(data)
            self._end_request()
        except RequestError as error:
            self._finish(CONNECTION_CLOSES, error)
        finally:
            body.close()
        if self._phase is TUNNEL_ENDED:
            self._finish(CONNECTION_CLOSES)
        elif self._phase is TUNNEL_FROM_UPSTREAM and self._transport is not None:
            self._transport.write_eof()

    def _end_request(self) -> None:
        if self._phase < CLOSED:  # else the body has ignored its cancellation
            self._phase = TRANSITIONS[self._phase][REQUEST_ENDS]

    def take(self, data: bytes) -> bool:
        """Writes what arrives from the client of a tunnel, while the upstream keeps up."""
        if self._writable is not None or self._phase >= CLOSED:
            return False
        self._write(data)
        return True

    async def _write_some(self, data: bytes) -> None:
        if self._phase >= CLOSED:
            raise asyncio.CancelledError("the body has ignored its cancellation")
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
        if self._request is not None:
            for status, headers in interim:
                self._request.inform_client(status, headers)

    def _receive(self, incoming: IncomingResponse) -> None:
        self._incoming = incoming
        response = Response(incoming.status, incoming.headers, incoming.body)
        if incoming.tunnel and self._request is not None:
            self._phase = TRANSITIONS[self._phase][TUNNEL_OPENS]
            response.upgraded = True
            self._start_pump(self._send_tunnel(self._request.body))
        if self._response is not None and not self._response.done():
            self._response.set_result(response)

    def _end_response(self, incoming: IncomingResponse) -> None:
        """The response is complete. If the request is too, and the upstream keeps the connection, it is
        idle."""
        phase = self._phase = TRANSITIONS[self._phase][RESPONSE_ENDS]
        if phase is IDLE and incoming.keep_alive:
            self._request = self._response = self._incoming = self._pump = None
            if self.events is not None:
                self.events.exchange_ended()
        elif phase is not TUNNEL_TO_UPSTREAM:
            self._finish(CONNECTION_CLOSES)

    # The end.

    def _finish(self, event: ClientEvent, error: RequestError | None = None) -> None:
        """Ends the connection. `error`, if given, is the end of the active exchange too."""
        phase = self._phase
        if phase >= CLOSED:
            return
        self._phase = TRANSITIONS[phase][event]
        response, incoming, pump = self._response, self._incoming, self._pump
        self._request = self._response = self._incoming = self._pump = None
        if error is not None and phase is not IDLE:
            self.cut_short = 1
            if response is not None and not response.done():
                response.set_exception(error)
            if incoming is not None and incoming.stream is not None:
                incoming.stream.fail(error)
        if pump is not None and pump is not asyncio.current_task():
            pump.cancel()
        events, self.events = self.events, None
        self._reader.lose_source()
        if events is not None:
            events.closed()
        if self._transport is not None:
            _close(self._transport, phase)


class _TunnelInlet(BodyTaker):
    __slots__ = ("_connection",)

    def __init__(self, connection: Http1ClientConnection) -> None:
        self._connection = connection

    def take(self, data: bytes) -> bool:
        return self._connection.take(data)


def _close(transport: asyncio.Transport, phase: ClientPhase) -> None:
    """`phase` is the last one of the connection."""
    if phase is TUNNEL_FROM_UPSTREAM or phase is TUNNEL_ENDED:
        close_when_flushed(transport, TUNNEL_FLUSH_TIMEOUT_S)
    elif phase is TUNNEL or phase is TUNNEL_TO_UPSTREAM:
        reset(transport)  # the request was cut short: an EOF would look like the client's
    elif transport.get_write_buffer_size():
        transport.abort()  # drops the rest of the failed request; `close` would wait for it
    else:
        transport.close()
