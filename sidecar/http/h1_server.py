"""The server's side of an HTTP/1.1 connection.

    data_received -> RequestReader -> the connection's task: manager.handle -> write -> manager.complete

Requests are served one after the other, in the order in which they came (RFC 9112 9.3.2); pipelined ones wait
in a bounded queue. A client that closes its direction is gone, as for Envoy: its request is cancelled; only
a tunnel can be half-closed.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import cast

from sidecar.errors import (
    DownstreamDisconnectError,
    DownstreamError,
    DownstreamProtocolError,
    DownstreamTimeoutError,
    RequestError,
    RequestHeaderTimeoutError,
    StreamIdleTimeoutError,
)
from sidecar.http.connection_manager import ConnectionManager
from sidecar.http.deadline import Deadline
from sidecar.http.h1_request_reader import IncomingRequest, RequestReader
from sidecar.http.h1_streaming import send_chunked, send_raw, send_sized
from sidecar.http.h1_writer import (
    CHUNKED,
    CLOSE,
    content_length,
    has_no_body,
    response_head,
    whole_response,
    without_length,
)
from sidecar.http.message import Body, BodyReader, Headers, Request, Response
from sidecar.observability.stream_info import Connection
from sidecar.timers import Timer

# What one read may hold is parsed in slices, so that a flood of pipelined requests is left unparsed. A body
# of 64 KiB fits into one with its head, and is then passed on in one piece.
MAX_FEED_BYTES = 96 * 1024
MAX_WAITING_REQUESTS = 16
# Envoy's delayed_close_timeout: an error reply must reach a client that is still sending, and an answer one
# that is still reading.
LINGER_S = 1.0

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


class Http1ServerConnection(asyncio.Protocol):
    """A `Codec`: one for each connection."""

    def __init__(self, manager: ConnectionManager, connection: Connection) -> None:
        config = manager.config
        self._manager = manager
        self._connection = connection
        self._scheme = b"https" if connection.tls_version else b"http"
        self._stats = manager.stats
        self._loop = asyncio.get_running_loop()
        self._reader = RequestReader(
            self,
            max_headers_bytes=config.max_request_headers_bytes,
            max_headers_count=config.max_headers_count,
            allow_absolute_url=config.allow_absolute_url,
        )
        self._idle_timeout_s = config.idle_timeout_s or math.inf
        self._stream_idle_timeout_s = config.stream_idle_timeout_s or math.inf  # of the present request
        self._headers_timeout_s = config.request_headers_timeout_s or math.inf
        self._request_timeout_s = config.request_timeout_s
        self._deadline = Deadline(manager.timers, manager.clock, self._expire)
        self._request_timer: Timer | None = None
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._idle: asyncio.Future[None] | None = None  # set while the task waits for a request
        self._exchange: Exchange | None = None
        self._waiting: deque[IncomingRequest] = deque()
        self._unparsed = memoryview(b"")
        self._body_paused = False
        self._reading_paused = False
        self._writable: asyncio.Future[None] | None = None  # set while the client is slow to read
        self._tunnel_input_ended: asyncio.Future[None] | None = None
        self._head_awaited = False  # whether the deadline is that of a head
        self._lingering = False
        self._unflushed_bytes = 0  # when the flush of a connection that closes was last looked at

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self._manager.connection_opened(self)
        now = self._manager.clock()
        self._deadline.move_to(now + min(self._idle_timeout_s, self._headers_timeout_s))

    def data_received(self, data: bytes) -> None:
        self._stats.downstream_cx_rx_bytes_total += len(data)
        if self._lingering:
            return
        if self._exchange is not None:
            self._deadline.move_to(self._manager.clock() + self._stream_idle_timeout_s)
        if len(data) <= MAX_FEED_BYTES and not self._unparsed:
            self._take(self._reader.feed(data))
        else:
            self._unparsed = memoryview(bytes(self._unparsed) + data if self._unparsed else data)
            self._parse()

    def eof_received(self) -> bool:
        if self._tunnel_input_ended is None:
            return False  # the transport closes; `connection_lost` follows
        self._reader.feed_eof()
        self._end_tunnel_input()
        assert self._transport is not None
        return self._transport.can_write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._deadline.cancel()
        self._cancel_request_timer()
        self._waiting.clear()
        self._unparsed = memoryview(b"")
        self._end_tunnel_input()
        self.resume_writing()
        if self._exchange is not None:
            client = self._connection.remote_address
            self._give_up(self._exchange, DownstreamDisconnectError(f"{client} is gone"))
        self._wake()
        self._manager.connection_lost(self)

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    # BodySource: the request's body is read by somebody slow, or not at all.

    def pause_body(self) -> None:
        self._body_paused = True
        self._choose_reading()

    def resume_body(self) -> None:
        self._body_paused = False
        self._choose_reading()

    def abandon_body(self) -> None:
        self._body_paused = False
        self._end_tunnel_input()
        self._choose_reading()

    # ServerConnection

    def drain(self) -> None:
        """The next answer says to close. An idle connection has a while to bring one more request: one that
        is on its way must not meet a closed connection."""
        self._idle_timeout_s = min(self._idle_timeout_s, self._manager.config.drain_timeout_s)
        if self._exchange is None and not self._waiting and not self._reader.head_pending:
            self._deadline.move_to(self._manager.clock() + self._idle_timeout_s)

    def close(self) -> None:
        exchange = self._exchange
        if exchange is None:
            self._close_when_flushed()
        elif exchange.sent:
            exchange.incoming.keep_alive = False
            self._close_when_flushed()
        elif self._transport is not None:
            self._transport.abort()

    # Requests, one after the other.

    def _take(self, arrived: list[IncomingRequest]) -> None:
        for incoming in arrived:
            if self._exchange is None:
                self._begin(incoming)
            else:
                self._waiting.append(incoming)
        if self._exchange is None:
            self._await_request()
        elif len(self._waiting) > MAX_WAITING_REQUESTS:
            self._choose_reading()

    def _await_request(self) -> None:
        """Nothing is under way but, perhaps, a head; or a client's fault is to be told."""
        if self._reader.error is not None:
            self._refuse(self._reader.error)
        elif self._reader.head_pending and not self._head_awaited:
            self._head_awaited = True
            timeout_s = min(self._headers_timeout_s, self._stream_idle_timeout_s)
            self._deadline.move_to(self._manager.clock() + timeout_s)

    def _parse(self) -> None:
        """As much of what was read as may wait to be served."""
        while self._unparsed and len(self._waiting) <= MAX_WAITING_REQUESTS:
            piece, self._unparsed = self._unparsed[:MAX_FEED_BYTES], self._unparsed[MAX_FEED_BYTES:]
            self._take(self._reader.feed(piece))
        self._choose_reading()

    def _choose_reading(self) -> None:
        paused = self._body_paused or bool(self._unparsed) or len(self._waiting) > MAX_WAITING_REQUESTS
        if paused is not self._reading_paused and self._transport is not None:
            self._reading_paused = paused
            if paused:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _begin(self, incoming: IncomingRequest) -> None:
        manager = self._manager
        info = manager.begin(self._connection)
        request = Request(
            incoming.method,
            self._scheme,
            incoming.authority,
            incoming.path,
            incoming.headers,
            incoming.body,
            info,
        )
        if incoming.http10:
            info.protocol = "HTTP/1.0"
        else:
            request.inform = self._inform
        request.limit_idle_time = self._limit_idle_time
        self._stream_idle_timeout_s = manager.config.stream_idle_timeout_s or math.inf
        self._exchange = Exchange(incoming, request)
        self._head_awaited = False
        self._deadline.move_to(info.start_s + self._stream_idle_timeout_s)
        if incoming.upgrade is not None:
            request.upgrade = incoming.upgrade
            self._tunnel_input_ended = self._loop.create_future()
        elif not incoming.complete:
            self._begin_body(incoming)
        if self._task is None:
            self._task = self._loop.create_task(self._serve(), name="http1-connection")
        self._wake()

    def _limit_idle_time(self, timeout_s: float) -> None:
        self._stream_idle_timeout_s = timeout_s or math.inf
        self._deadline.move_to(self._manager.clock() + self._stream_idle_timeout_s)

    def _begin_body(self, incoming: IncomingRequest) -> None:
        if incoming.expects_continue and not incoming.received_bytes:
            self.write(response_head(100, []))  # at once, as Envoy does without proxy_100_continue
        if self._request_timeout_s:
            self._request_timer = self._manager.timers.after(self._request_timeout_s, self._expire_request)

    async def _serve(self) -> None:
        """The connection's one task: one for each request would cost more than finding its route."""
        while self._transport is not None:
            if self._exchange is not None:
                await self._answer(self._exchange)
                continue
            self._idle = self._loop.create_future()
            await self._idle
            self._idle = None

    def _wake(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def _answer(self, exchange: Exchange) -> None:
        request = exchange.request
        try:
            response = exchange.response = await self._manager.handle(request)
            if request.info.flags == DownstreamProtocolError.flag:
                exchange.incoming.keep_alive = False  # who sends one malformed request is not asked for more
            if type(response.body) is bytes and not response.upgraded:
                self._send_whole(exchange, response, response.body)
            else:
                await self._send_streaming(exchange, response)
            exchange.sent = True
            if self._writable is not None:
                await self._writable
        except RequestError as error:  # the response's body was cut short
            self._manager.note_failure(request, error)
        finally:
            if self._exchange is exchange:  # else it was given up
                self._end(exchange)

    def _end(self, exchange: Exchange) -> None:
        """The response is out, or never will be: on to the next request, if the connection may carry one."""
        incoming = exchange.incoming
        exchange.request.info.bytes_received = incoming.received_bytes
        self._manager.complete(exchange.request, exchange.response)
        self._exchange = None
        self._cancel_request_timer()
        if self._transport is None or self._lingering:
            return
        if not exchange.sent:
            self._cut_short(exchange)
        elif incoming.upgrade is not None:
            self.close()
        elif not incoming.complete:
            self._linger()
        elif not incoming.keep_alive:
            self.close()
        elif self._waiting:
            self._begin(self._waiting.popleft())
            self._parse()
        else:
            self._deadline.move_to(exchange.request.info.end_s + self._idle_timeout_s)
            if self._unparsed:
                self._parse()
            else:
                self._await_request()

    # Outlet

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._stats.downstream_cx_tx_bytes_total += len(data)
            self._transport.write(data)

    async def moved(self) -> None:
        self._deadline.move_to(self._manager.clock() + self._stream_idle_timeout_s)
        if self._writable is not None:
            await self._writable

    # Responses.

    def _inform(self, status: int, headers: Headers) -> None:
        """RFC 9110 15.2: an interim response. 101 is none: it ends the exchange."""
        if self._exchange is not None and not self._exchange.head_sent:
            self.write(response_head(status, headers))

    def _connection_options(self, incoming: IncomingRequest) -> tuple[bytes, ...]:
        if incoming.complete and incoming.keep_alive and (self._waiting or not self._manager.draining):
            return (_KEEP_ALIVE,) if incoming.http10 else ()
        self._stats.downstream_cx_drain_close += self._manager.draining and incoming.keep_alive
        incoming.keep_alive = False  # it has been said
        return (CLOSE,)

    def _send_whole(self, exchange: Exchange, response: Response, body: bytes) -> None:
        incoming = exchange.incoming
        options = self._connection_options(incoming)
        exchange.head_sent = True
        if has_no_body(response.status):
            headers = without_length(response.headers) if response.status == 204 else response.headers
            self.write(response_head(response.status, headers, *options))
        elif incoming.method == b"HEAD":
            if content_length(response.headers) is None and not incoming.http10:
                options = (*options, CHUNKED)  # RFC 9110 9.3.2: as the answer to GET would say
            self.write(response_head(response.status, response.headers, *options))
        else:
            exchange.request.info.bytes_sent = len(body)
            self.write(whole_response(response.status, response.headers, body, *options))

    async def _send_streaming(self, exchange: Exchange, response: Response) -> None:
        assert not isinstance(response.body, bytes)
        try:
            if response.upgraded:
                await self._send_tunnel(exchange, response, response.body)
            elif exchange.incoming.method == b"HEAD" or has_no_body(response.status):
                self._send_whole(exchange, response, b"")
            else:
                await self._send_body(exchange, response, response.body)
        finally:
            response.body.close()

    async def _send_body(self, exchange: Exchange, response: Response, body: BodyReader) -> None:
        """Framed by the length that the head says, else in chunks; for HTTP/1.0, by the connection's end."""
        incoming, info = exchange.incoming, exchange.request.info
        length = content_length(response.headers)
        if length is None and incoming.http10:
            incoming.keep_alive = False
        options = self._connection_options(incoming)
        if length is None and not incoming.http10:
            options = (*options, CHUNKED)
        self.write(response_head(response.status, response.headers, *options))
        exchange.head_sent = True
        if length is not None:
            await send_sized(self, body, info, length)
        elif incoming.http10:
            await send_raw(self, body, info)
        else:
            await send_chunked(self, body, info)

    async def _send_tunnel(self, exchange: Exchange, response: Response, body: BodyReader) -> None:
        """Both directions, until each has ended (RFC 9110 7.8, 9.3.6)."""
        upgrade = exchange.incoming.upgrade
        options = (_UPGRADE, b"upgrade: %b" % upgrade) if upgrade and response.status == 101 else ()
        self.write(response_head(response.status, without_length(response.headers), *options))
        exchange.head_sent = True
        self._stats.downstream_cx_upgrades_total += 1
        self._stats.downstream_cx_upgrades_active += 1
        try:
            await send_raw(self, body, exchange.request.info)
            if self._transport is not None and self._transport.can_write_eof():
                self._transport.write_eof()
                if self._tunnel_input_ended is not None:
                    await self._tunnel_input_ended
        finally:
            self._stats.downstream_cx_upgrades_active -= 1

    def _end_tunnel_input(self) -> None:
        if self._tunnel_input_ended is not None and not self._tunnel_input_ended.done():
            self._tunnel_input_ended.set_result(None)

    # Ends that nobody wished for.

    def _refuse(self, error: DownstreamError) -> None:
        """What arrived is no request: it is answered here, and counted and logged like one."""
        request = Request(b"", self._scheme, b"", b"", [], b"", self._manager.begin(self._connection))
        response = self._manager.refuse(request, error)
        self._reply_and_linger(request, response)
        self._manager.complete(request, response)

    def _give_up(self, exchange: Exchange, error: DownstreamError) -> None:
        """The connection's last exchange: its task is cancelled; the client, if there, is told."""
        manager, request = self._manager, exchange.request
        assert self._task is not None
        self._task.cancel()
        if isinstance(exchange.incoming.body, Body):
            exchange.incoming.body.fail(error)
        if self._transport is None or exchange.head_sent:
            manager.note_failure(request, error)
            exchange.sent = False  # what was written may never arrive
        else:
            response = exchange.response = manager.explain(request, error)
            manager.finish_head(request, response)
            self._reply_and_linger(request, response)
        self._end(exchange)

    def _reply_and_linger(self, request: Request, response: Response) -> None:
        assert isinstance(response.body, bytes)
        request.info.bytes_sent = len(response.body)
        body = b"" if request.method == b"HEAD" else response.body
        self.write(response_head(response.status, response.headers, CLOSE) + body)
        self._linger()

    def _cut_short(self, exchange: Exchange) -> None:
        """The connection ends without the body's end; by a reset where its end is the connection's."""
        if self._transport is None:
            return
        if exchange.incoming.http10:
            self._transport.abort()
        else:
            self._close_when_flushed()

    def _close_when_flushed(self) -> None:
        """What was written still goes out, while the client takes it; the transport would wait for ever."""
        if self._transport is None:
            return
        self._waiting.clear()
        self._unparsed = memoryview(b"")
        self._transport.close()
        self._unflushed_bytes = self._transport.get_write_buffer_size()
        self._deadline.move_to(self._manager.clock() + LINGER_S)

    def _check_flush(self, transport: asyncio.Transport) -> None:
        left_bytes = transport.get_write_buffer_size()
        if left_bytes < self._unflushed_bytes:
            self._unflushed_bytes = left_bytes
            self._deadline.move_to(self._manager.clock() + LINGER_S)
        else:
            transport.abort()

    def _linger(self) -> None:
        """RFC 9112 9.6: closes in two steps, lest a reset takes the reply from a client still sending."""
        if self._transport is None or self._lingering:
            return
        self._lingering = True
        self._body_paused = False
        self._unparsed = memoryview(b"")
        self._waiting.clear()
        self._choose_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._deadline.move_to(self._manager.clock() + LINGER_S)

    def _expire(self) -> None:
        """Nothing moved for too long."""
        exchange = self._exchange
        if self._transport is not None and self._transport.is_closing():
            self._check_flush(self._transport)
        elif exchange is not None:
            seconds = self._stream_idle_timeout_s
            self._give_up(exchange, StreamIdleTimeoutError(f"nothing moved for {seconds:g} s"))
        elif self._reader.head_pending and not self._lingering:
            self._refuse(RequestHeaderTimeoutError("the head of the request took too long"))
        else:
            if self._manager.draining:
                self._stats.downstream_cx_drain_close += 1
            elif not self._lingering:
                self._stats.downstream_cx_idle_timeout += 1
            self.close()

    def _cancel_request_timer(self) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None

    def _expire_request(self) -> None:
        exchange = self._exchange
        self._request_timer = None
        if exchange is not None and not exchange.incoming.complete and not exchange.head_sent:
            error = DownstreamTimeoutError(
                f"the request was not complete after {self._request_timeout_s:g} s"
            )
            self._give_up(exchange, error)
