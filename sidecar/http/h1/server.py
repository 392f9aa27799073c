"""The server's side of an HTTP/1.1 connection.

    data_received -> RequestQueue -> the connection's task: ServerStream.serve -> ResponseWriter

Requests are served one after the other, in the order of their arrival (RFC 9112 9.3.2); pipelined requests
wait in a bounded queue. As in Envoy, an EOF from the client cancels its request. Only in a tunnel may the
client end its direction first.

`connection_state` lists the states.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from sidecar.errors import (
    DownstreamDisconnectError,
    DownstreamTimeoutError,
    RequestError,
    RequestHeaderTimeoutError,
    StreamIdleTimeoutError,
)
from sidecar.http.connection_manager import ManagedConnection
from sidecar.http.h1.connection_state import (
    CLOSED,
    CONNECTION_CLOSES,
    CONNECTION_LINGERS,
    CONNECTION_LOST,
    EXCHANGE_ENDS,
    HANDLING,
    IDLE,
    LINGERING,
    REQUEST_BEGINS,
    RESPONDED,
    TRANSITIONS,
    ConnectionState,
)
from sidecar.http.h1.outlet import Outlet
from sidecar.http.h1.reader_state import HEAD
from sidecar.http.h1.request_queue import RequestQueue
from sidecar.http.h1.request_reader import IncomingRequest
from sidecar.http.h1.response_writer import ResponseWriter
from sidecar.http.h1.timeouts import ConnectionTimeouts
from sidecar.http.headers import Headers
from sidecar.http.stream import ServerStream


class Http1ServerConnection:
    """A `ServerCodec`. It has the methods of an `asyncio.Protocol`; uvloop does not need the base class."""

    __slots__ = (
        "_begun",
        "_connection",
        "_idle",
        "_incoming",
        "_loop",
        "_outlet",
        "_queue",
        "_reader",
        "_state",
        "_stream",
        "_task",
        "_timeouts",
        "_transport",
        "_writer",
    )

    def __init__(self, connection: ManagedConnection) -> None:
        manager = connection.manager
        self._connection = connection
        self._loop = manager.running_loop()
        self._state = ConnectionState()
        self._queue = RequestQueue(manager.config, self)
        self._reader = self._queue.reader
        self._timeouts = ConnectionTimeouts(
            manager.config, manager.timers, manager.clock, self._expire, self._expire_request
        )
        self._outlet = Outlet(connection, self._timeouts)
        self._writer = ResponseWriter(self._outlet, self._queue, self._state)
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._idle: asyncio.Future[Any] | None = None  # set while the task waits for a request
        self._begun: ServerStream | None = None  # has sent its request; the response ends the task's wait
        self._stream: ServerStream | None = None  # of the active request
        self._incoming = self._writer.incoming

    # The methods of an `asyncio.Protocol`.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it
        self._queue.open(self._transport)
        self._outlet.open(self._transport)
        self._timeouts.await_request()
        self._connection.opened()

    def data_received(self, data: bytes) -> None:
        self._connection.received(len(data))
        state = self._state.now
        if state >= LINGERING:
            return
        if state is not IDLE:
            self._timeouts.stream_moved()
        self._queue.feed(data)
        if state is IDLE:
            self._serve_next()

    def eof_received(self) -> bool:
        if self._stream is None or self._incoming.upgrade is None:
            self._state.move(CONNECTION_CLOSES)
            self._outlet.close()  # `connection_lost` follows
            return False
        self._reader.feed_eof()
        assert self._transport is not None
        return self._transport.can_write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        stream = self._stream
        if stream is not None:
            client = self._connection.downstream.remote_address
            self._give_up(stream, DownstreamDisconnectError(f"{client} disconnected"))
        self._wake()
        self._connection.lost()

    def pause_writing(self) -> None:
        self._outlet.pause()

    def resume_writing(self) -> None:
        self._outlet.resume()

    # ServerCodec

    def go_away(self) -> None:
        """The next response closes the connection (`ServerStream.keeps_connection`). An idle connection stays
        open for a time, because the client may already have sent another request."""
        idle = self._state.now is IDLE and not self._reader.head_pending
        self._timeouts.go_away(idle=idle)

    def give_up(self, stream: ServerStream, error: RequestError) -> None:
        if stream is self._stream:
            self._give_up(stream, error)

    def close(self) -> None:
        cut = self._stream is not None and self._state.now is not RESPONDED
        if cut or self._outlet.unsent_bytes:
            self._outlet.abort()
            return
        self._incoming.keep_alive = False
        self._close_when_flushed()

    def release(self) -> bool:
        """Leaves the connection to another codec. Returns False if a request or a reply has begun."""
        if self._state.now is not IDLE:
            return False
        self._leave()
        return True

    def _leave(self) -> None:
        self._state.move(CONNECTION_LOST)
        self._transport = None
        self._timeouts.end()
        self._queue.lose()
        self._outlet.lose()

    # Requests, one after the other.

    def _serve_next(self) -> None:
        """Begins the next request or waits for it, or refuses data that is not a request."""
        incoming = self._queue.next()
        if incoming is not None:
            self._begin(incoming)
            return
        reader = self._reader
        if reader.error is not None:
            self._refuse(reader.error)
        elif reader.state is HEAD:
            self._timeouts.await_head()

    def _begin(self, incoming: IncomingRequest) -> None:
        state = self._state
        state.now = TRANSITIONS[state.now][REQUEST_BEGINS]
        stream = self._stream = self._connection.begin(
            "HTTP/1.0" if incoming.http10 else "HTTP/1.1",
            incoming.method,
            incoming.authority,
            incoming.path,
            incoming.headers,
            incoming.body,
        )
        request = stream.request
        if not incoming.http10:
            request.inform = self._inform
        request.limit_idle_time = self._timeouts.limit_stream
        self._incoming = self._writer.incoming = incoming
        self._timeouts.begin_stream(request.info.start_s)
        passes_expectation = incoming.expects_continue and self._connection.manager.config.proxy_100_continue
        if passes_expectation:
            request.headers.append((b"expect", b"100-continue"))
        if incoming.upgrade is not None:
            request.upgrade = incoming.upgrade
        elif not incoming.complete:
            if incoming.expects_continue and not incoming.received_bytes and not passes_expectation:
                self._writer.inform(100, [])
            self._timeouts.limit_request()
        if self._task is None:
            self._task = self._loop.create_task(self._serve(), name="http1-connection")
        elif self._idle is not None and not self._idle.done() and stream.begin(self._idle):
            self._begun = stream
        else:
            self._wake()

    def _inform(self, status: int, headers: Headers) -> None:
        if self._state.now is HANDLING:
            self._writer.inform(status, headers)

    async def _serve(self) -> None:
        """The connection's only task: a task for each request would cost more than finding its route."""
        while self._state.now is not CLOSED:
            stream = self._stream
            if stream is None:
                self._idle = self._loop.create_future()
                try:
                    await self._idle
                except BaseException:
                    if self._begun is None:
                        raise  # else the stream gets the same error, or the cancellation
                self._idle = None
                stream, self._begun = self._begun, None
                if stream is None:
                    continue
            written = False
            try:
                written = await stream.serve(self._writer)
                if written and self._outlet.writable is not None:
                    await self._outlet.writable
            finally:
                if self._stream is stream:  # else it was aborted
                    self._finish(stream)

    def _wake(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def _finish(self, stream: ServerStream) -> None:
        """Completes the exchange, and begins the next request if the connection can carry one."""
        incoming, state = self._incoming, self._state.now
        stream.received_bytes = incoming.received_bytes
        stream.complete()
        self._stream = None
        self._timeouts.end_request()
        if state >= LINGERING:
            return
        if state is not RESPONDED:
            stream.cut_short()
            response = stream.response
            if incoming.http10 or (response is not None and response.upgraded):
                self._reset()  # an EOF would look like the end of the body
            else:
                self._close_when_flushed()
        elif not incoming.complete:
            self._linger()
        elif not incoming.keep_alive:
            self._close_when_flushed()
        else:
            self._state.now = TRANSITIONS[state][EXCHANGE_ENDS]
            self._timeouts.await_request(stream.request.info.end_s)
            self._serve_next()

    # Exchanges that fail, and the end of the connection.

    def _refuse(self, error: RequestError) -> None:
        """Answers data that is not a valid request."""
        stream, response = self._connection.refuse(error)
        self._writer.send_last(stream, response)
        self._linger()
        stream.complete()

    def _give_up(self, stream: ServerStream, error: RequestError) -> None:
        """Aborts the connection's last exchange. The client gets a reply if no response has begun."""
        assert self._task is not None
        self._task.cancel()
        if self._incoming.stream is not None:
            self._incoming.stream.fail(error)
        response = stream.abort(error, reply=self._state.now is HANDLING)
        if response is not None:
            self._writer.send_last(stream, response)
            self._linger()
        elif self._state.now is RESPONDED:
            self._close_when_flushed()  # the written bytes may never arrive
        self._finish(stream)

    def _reset(self) -> None:
        self._queue.close()
        self._outlet.abort()

    def _close_when_flushed(self) -> None:
        if self._state.now is not CLOSED:
            self._state.move(CONNECTION_CLOSES)
        self._queue.close()
        self._outlet.close()

    def _linger(self) -> None:
        if not self._timeouts.lingers:
            self._close_when_flushed()
            return
        self._state.move(CONNECTION_LINGERS)
        self._queue.close()
        self._outlet.linger()

    # Timeouts.

    def _expire(self) -> None:
        """The current wait has exceeded its timeout."""
        stream, state = self._stream, self._state.now
        if self._outlet.flushes():
            return
        if stream is not None:
            self._expire_stream(stream)
        elif state is IDLE and self._reader.head_pending:
            self._refuse(RequestHeaderTimeoutError("the head of the request took too long"))
        else:
            if state is IDLE:
                self._connection.idle_timeout()
            self._close_when_flushed()

    def _expire_stream(self, stream: ServerStream) -> None:
        if self._outlet.client_takes():  # slow, but alive
            self._timeouts.stream_moved()
            return
        seconds = self._timeouts.stream_idle_timeout_s
        self._give_up(stream, StreamIdleTimeoutError(f"no data for {seconds:g} s"))
        if self._outlet.unsent_bytes:  # the client had its time to read them
            self._outlet.abort()

    def _expire_request(self) -> None:
        stream = self._stream
        if stream is not None and not self._incoming.complete and self._state.now is HANDLING:
            seconds = self._connection.manager.config.request_timeout_s
            self._give_up(stream, DownstreamTimeoutError(f"the request was not complete after {seconds:g} s"))
