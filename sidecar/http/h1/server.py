"""The server's side of an HTTP/1.1 connection.

    data_received -> RequestQueue -> the connection's task: manager.handle -> ResponseWriter

Requests are served one after the other, in the order in which they came (RFC 9112 9.3.2); pipelined ones wait
in a bounded queue. A client that closes its direction is gone, as for Envoy: its request is cancelled. Only
the client of a tunnel may end its direction first.
"""

from __future__ import annotations

import asyncio
from typing import cast

from sidecar.errors import (
    DownstreamDisconnectError,
    DownstreamError,
    DownstreamTimeoutError,
    RequestError,
    RequestHeaderTimeoutError,
    StreamIdleTimeoutError,
)
from sidecar.http.body import EMPTY
from sidecar.http.connection_manager import ConnectionManager
from sidecar.http.h1.outlet import Outlet
from sidecar.http.h1.request_queue import RequestQueue
from sidecar.http.h1.request_reader import IncomingRequest
from sidecar.http.h1.response_writer import Exchange, ResponseWriter
from sidecar.http.h1.timeouts import ConnectionTimeouts
from sidecar.http.headers import Headers
from sidecar.http.message import Request, Response
from sidecar.observability.stream_info import DownstreamConnection


class Http1ServerConnection(asyncio.Protocol):
    """A `Codec`: one for each connection."""

    def __init__(self, manager: ConnectionManager, connection: DownstreamConnection) -> None:
        config = manager.config
        self._manager = manager
        self._connection = connection
        self.info = manager.connection_info(connection)
        self._scheme = b"https" if connection.tls_version else b"http"
        self._stats = manager.stats
        self._loop = asyncio.get_running_loop()
        self._queue = RequestQueue(config)
        self._reader = self._queue.reader
        self._timeouts = ConnectionTimeouts(
            config, manager.timers, manager.clock, self._expire, self._expire_request
        )
        self._outlet = Outlet(manager.stats, self._timeouts, self.info)
        self._writer = ResponseWriter(self._outlet, manager.stats)
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._idle: asyncio.Future[None] | None = None  # set while the task waits for a request
        self._exchange: Exchange | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self._queue.open(self._transport)
        self._outlet.open(self._transport)
        self._manager.connection_opened(self)
        if self._manager.draining:
            self._timeouts.drain(idle=True)
        else:
            self._timeouts.await_request(self._manager.clock())

    def data_received(self, data: bytes) -> None:
        self._stats.downstream_cx_rx_bytes_total += len(data)
        self.info.bytes_received += len(data)
        if self._outlet.lingering:
            return
        if self._exchange is not None:
            self._timeouts.stream_moved()
        self._queue.feed(data)
        if self._exchange is None:
            self._serve_next()

    def eof_received(self) -> bool:
        if self._exchange is None or self._exchange.incoming.upgrade is None:
            self._outlet.close()  # `connection_lost` follows
            return False
        self._reader.feed_eof()
        assert self._transport is not None
        return self._transport.can_write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._timeouts.cancel()
        self._queue.lose()
        self._outlet.lose()
        if self._exchange is not None:
            client = self._connection.remote_address
            self._give_up(self._exchange, DownstreamDisconnectError(f"{client} is gone"))
        self._wake()
        self._manager.connection_lost(self)

    def pause_writing(self) -> None:
        self._outlet.pause()

    def resume_writing(self) -> None:
        self._outlet.resume()

    # ServerConnection

    def drain(self) -> None:
        """The next answer says to close. An idle connection has a while to bring one more request: one that
        is on its way must not meet a closed connection."""
        self._timeouts.drain(idle=self._exchange is None and not self._reader.head_pending)

    def close(self) -> None:
        exchange = self._exchange
        if self._outlet.unsent_bytes or (exchange is not None and not exchange.sent):
            self._outlet.abort()
            return
        if exchange is not None:
            exchange.incoming.keep_alive = False
        self._close_when_flushed()

    # Requests, one after the other.

    def _serve_next(self) -> None:
        """Nothing is under way: begin what waits, or wait for it; or a client's fault is to be told."""
        incoming = self._queue.next()
        if incoming is not None:
            self._begin(incoming)
        elif self._reader.error is not None:
            self._refuse(self._reader.error)
        elif self._reader.head_pending:
            self._timeouts.await_head()

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
        self.info.protocol = info.protocol
        request.limit_idle_time = self._timeouts.limit_stream
        self._exchange = Exchange(incoming, request)
        self._timeouts.begin_stream(info.start_s)
        if incoming.upgrade is not None:
            request.upgrade = incoming.upgrade
        elif not incoming.complete:
            self._begin_body(incoming)
        if self._task is None:
            self._task = self._loop.create_task(self._serve(), name="http1-connection")
        self._wake()

    def _begin_body(self, incoming: IncomingRequest) -> None:
        if incoming.expects_continue and not incoming.received_bytes:
            self._writer.inform(100, [])  # at once, as Envoy does without proxy_100_continue
        self._timeouts.limit_request()

    def _inform(self, status: int, headers: Headers) -> None:
        if self._exchange is not None and not self._exchange.head_sent:
            self._writer.inform(status, headers)

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
            failure = request.info.failure
            if failure is not None and failure.ends_connection:
                exchange.incoming.keep_alive = False  # who sends one malformed request is not asked for more
                self.info.add_flag(failure.flag)
            if self._manager.draining:
                self._close_after(exchange.incoming)
            if response.body.whole is not None:
                self._writer.send_whole(exchange, response, response.body.whole)
            else:
                await self._writer.send_streaming(exchange, response, response.body)
            exchange.sent = True
            if self._outlet.writable is not None:
                await self._outlet.writable
        except RequestError as error:  # the response's body was cut short
            self._manager.note_failure(request, error)
        finally:
            if self._exchange is exchange:  # else it was given up
                self._end(exchange)

    def _close_after(self, incoming: IncomingRequest) -> None:
        """The connection drains: unless more requests wait, this answer is the last."""
        if incoming.keep_alive and not self._queue:
            incoming.keep_alive = False
            self._stats.downstream_cx_drain_close += 1

    def _end(self, exchange: Exchange) -> None:
        """The response is out, or never will be: on to the next request, if the connection may carry one."""
        incoming = exchange.incoming
        exchange.request.info.bytes_received = incoming.received_bytes
        self._manager.complete(exchange.request, exchange.response)
        self._exchange = None
        self._timeouts.end_request()
        if self._transport is None or self._outlet.lingering:
            return
        if not exchange.sent:
            self._cut_short(exchange)
        elif not incoming.complete:
            self._linger()
        elif not incoming.keep_alive:
            self._close_when_flushed()
        else:
            self._timeouts.await_request(exchange.request.info.end_s)
            self._serve_next()

    # Ends that nobody wished for.

    def _refuse(self, error: RequestError) -> None:
        """What arrived is no request: it is answered here, and counted and logged like one."""
        request = Request(b"", self._scheme, b"", b"", [], EMPTY, self._manager.begin(self._connection))
        response = self._manager.refuse(request, error)
        if error.ends_connection:
            self.info.add_flag(error.flag)
        self._reply_and_linger(request, response)
        self._manager.complete(request, response)

    def _give_up(self, exchange: Exchange, error: DownstreamError) -> None:
        """The connection's last exchange: its task is cancelled; the client, if there, is told."""
        manager, request = self._manager, exchange.request
        assert self._task is not None
        self._task.cancel()
        if exchange.incoming.stream is not None:
            exchange.incoming.stream.fail(error)
        if self._transport is None or exchange.head_sent:
            manager.note_failure(request, error)
            exchange.sent = False  # what was written may never arrive
        else:
            response = exchange.response = manager.explain(request, error)
            manager.finish_head(request, response)
            self._reply_and_linger(request, response)
        self._end(exchange)

    def _reply_and_linger(self, request: Request, response: Response) -> None:
        self._writer.send_last(request, response, response.body.whole or b"")
        self._linger()

    def _cut_short(self, exchange: Exchange) -> None:
        """The connection ends without the body's end; by a reset where its end is the connection's."""
        response = exchange.response
        if exchange.incoming.http10 or (response is not None and response.upgraded):
            self._queue.close()
            self._outlet.abort()
        else:
            self._close_when_flushed()

    def _close_when_flushed(self) -> None:
        self._queue.close()
        self._outlet.close()

    def _linger(self) -> None:
        if self._transport is None or self._outlet.lingering:
            return
        if self._timeouts.lingers:
            self._queue.close()
            self._outlet.linger()
        else:
            self._close_when_flushed()

    def _expire(self) -> None:
        """Nothing moved for too long."""
        exchange = self._exchange
        if self._outlet.flushes():
            return
        if exchange is not None:
            self._expire_exchange(exchange)
        elif self._reader.head_pending and not self._outlet.lingering:
            self._refuse(RequestHeaderTimeoutError("the head of the request took too long"))
        else:
            if self._manager.draining:
                self._stats.downstream_cx_drain_close += 1
            elif not self._outlet.lingering:
                self._stats.downstream_cx_idle_timeout += 1
            self._close_when_flushed()

    def _expire_exchange(self, exchange: Exchange) -> None:
        if self._outlet.client_takes():  # slowly
            self._timeouts.stream_moved()
            return
        seconds = self._timeouts.stream_idle_timeout_s
        self._give_up(exchange, StreamIdleTimeoutError(f"nothing moved for {seconds:g} s"))
        if self._outlet.unsent_bytes:  # the client has had its time for them
            self._outlet.abort()

    def _expire_request(self) -> None:
        exchange = self._exchange
        if exchange is not None and not exchange.incoming.complete and not exchange.head_sent:
            error = DownstreamTimeoutError(
                f"the request was not complete after {self._manager.config.request_timeout_s:g} s"
            )
            self._give_up(exchange, error)
