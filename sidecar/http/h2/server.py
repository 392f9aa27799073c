"""The server's side of an HTTP/2 connection.

    data_received -> Http2Connection: events -> Http2ServerExchange: ServerStream -> frames -> one write

Streams are served at the same time, up to ``max_concurrent_streams``. A connection drains as in Envoy: GOAWAY
announces the end, after ``drain_timeout`` another one names the last stream, and after the last exchange the
connection closes.
"""

from __future__ import annotations

import asyncio
import math
from typing import Final, cast

from sidecar.errors import (
    DownstreamCodecError,
    DownstreamDisconnectError,
    DownstreamResetError,
    ExpectationFailedError,
    PathNormalizationError,
    RequestError,
)
from sidecar.http.body import EMPTY, Body, BodyStream
from sidecar.http.connection_manager import HTTP2, ManagedConnection
from sidecar.http.h2.connection import Http2Connection
from sidecar.http.h2.error_codes import NO_ERROR, REFUSED_STREAM, code_name
from sidecar.http.h2.events import (
    ConnectionFailed,
    DataReceived,
    HeadReceived,
    Http2Event,
    PongReceived,
    StreamReset,
    StreamWritable,
    TrailersReceived,
)
from sidecar.http.h2.heads import requested_upgrade
from sidecar.http.h2.keepalive import Http2KeepaliveTimer
from sidecar.http.h2.output import BODY_BYTES, Http2Output
from sidecar.http.h2.premature_resets import PrematureResets
from sidecar.http.h2.server_exchange import Http2ServerExchange
from sidecar.http.h2.stream import Http2Stream
from sidecar.http.h2.stream_deadlines import Http2StreamDeadlines
from sidecar.http.h2.stream_worker import Http2StreamWorker
from sidecar.http.h2.whole_bodies import whole_bodies
from sidecar.http.headers import MANAGED_PREFIXES
from sidecar.http.stream import ServerStream
from sidecar.timers import Timer
from sidecar.transport.closing import close_when_flushed

# The phases of a connection.
_OPEN: Final = 0
_ANNOUNCED: Final = 1  # the first GOAWAY is sent
_LAST: Final = 2  # the final GOAWAY is sent; the connection closes after the last exchange
_CLOSING: Final = 3  # the written bytes are being sent; received ones are ignored
_LOST: Final = 4


class Http2ServerConnection:
    """A `ServerCodec`. It has the methods of an `asyncio.Protocol`; uvloop does not need the base class."""

    __slots__ = (
        "_connection",
        "_drain_timer",
        "_exchanges",
        "_idle_workers",
        "_keepalive",
        "_loop",
        "_phase",
        "_resets",
        "codec",
        "config",
        "deadlines",
        "output",
        "stats",
    )

    def __init__(self, connection: ManagedConnection) -> None:
        manager = connection.manager
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self.config = manager.config
        self.stats = manager.http2_stats
        self.codec = Http2Connection(manager.config.http2, client=False)
        self.output = Http2Output(self.codec, self._loop, connection)
        self._exchanges: set[Http2ServerExchange] = set()
        self._phase = _OPEN
        self._resets = PrematureResets()
        self._idle_workers: list[Http2StreamWorker] = []
        self.deadlines = Http2StreamDeadlines(
            manager.config, manager.timers, manager.clock, self._exchanges, self._idle_expired
        )
        self._drain_timer: Timer | None = None
        self._keepalive: Http2KeepaliveTimer | None = None
        if self.config.http2.connection_keepalive is not None:
            self._keepalive = Http2KeepaliveTimer(
                self.config.http2.connection_keepalive, manager.timers, self._ping, self._keepalive_expired
            )

    # The methods of an `asyncio.Protocol`.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.output.transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it
        self._connection.speaks(HTTP2)
        self.codec.start()
        self.output.flush()
        self._become_idle(self.deadlines.now_s())
        if self._keepalive is not None:
            self._keepalive.start()
        self._connection.opened()

    def data_received(self, data: bytes) -> None:
        self._connection.received(len(data))
        if self._phase >= _CLOSING:
            return
        if self._keepalive is not None:
            self._keepalive.received()
        self.output.hold()
        self._handle(self.codec.receive(data))
        self.output.release()
        if self._phase is _CLOSING:
            self._linger()

    def eof_received(self) -> bool:
        return False  # the transport closes; `connection_lost` follows

    def connection_lost(self, exc: Exception | None) -> None:
        self._phase = _LOST
        self.output.lose()
        self._end_timers()
        self._give_up_all()
        for worker in self._idle_workers:
            worker.end()
        self._idle_workers.clear()
        self._connection.lost()

    def pause_writing(self) -> None:
        self.output.pause()

    def resume_writing(self) -> None:
        self.output.hold()
        self._handle(self.output.resume())
        self.output.release()

    # ServerCodec

    def go_away(self) -> None:
        """Refuses new streams after the drain timeout, and closes after the last exchange."""
        if self._phase is not _OPEN:
            return
        self._phase = _ANNOUNCED
        self.codec.go_away(NO_ERROR, final=False)
        self.output.flush_soon()
        manager = self._connection.manager
        self._drain_timer = manager.timers.after(self.config.drain_timeout_s, self._finish_draining)

    def give_up(self, stream: ServerStream, error: RequestError) -> None:
        """Ends an exchange that has taken too long: by the local reply, or by a reset after the response has
        begun. Has no effect on one that has ended."""
        for exchange in self._exchanges:
            if exchange.served is stream:
                exchange.give_up(error)
                self.output.flush_soon()
                break

    def close(self) -> None:
        transport = self.output.transport
        if transport is None:
            return
        if self._phase < _LAST:
            self._send_last_go_away()
            self.output.flush()
        if self._exchanges or self.output.unsent_bytes:
            transport.abort()
        else:
            self._phase = _CLOSING
            self._close_transport()

    # Events.

    def _handle(self, events: list[Http2Event]) -> None:
        bodies: dict[Http2Stream, bytes] | None = None
        for event in events:
            if self._phase >= _CLOSING:
                break
            if isinstance(event, HeadReceived):
                body: Body = EMPTY
                if not event.end_stream:
                    if bodies is None:
                        bodies = whole_bodies(events)
                    whole = bodies.get(event.stream) if event.method != b"CONNECT" else None
                    body = BodyStream(high_water=BODY_BYTES) if whole is None else Body(whole)
                self._begin(event, body)
            elif isinstance(event, DataReceived):
                exchange: Http2ServerExchange | None = event.stream.exchange
                if exchange is None:  # its response was complete before
                    self.codec.consumed(event.stream, len(event.data))
                else:
                    exchange.receive(event.data, event.end_stream)
            else:
                self._handle_other(event)

    def _handle_other(self, event: Http2Event) -> None:
        exchange: Http2ServerExchange | None
        if isinstance(event, TrailersReceived):
            self.stats.trailers += 1
            exchange = event.stream.exchange
            if exchange is not None:
                trailers = [field for field in event.trailers if not field[0].startswith(MANAGED_PREFIXES)]
                exchange.end_request(trailers)
        elif isinstance(event, StreamWritable):
            exchange = event.stream.exchange
            if exchange is not None:
                exchange.became_writable()
        elif isinstance(event, StreamReset):
            self._handle_reset(event)
        elif isinstance(event, PongReceived):
            if self._keepalive is not None:
                self._keepalive.answered(event.payload)
        elif isinstance(event, ConnectionFailed):
            self._fail(event)

    def _handle_reset(self, event: StreamReset) -> None:
        """By the client, or because of it: both are premature resets, as in Envoy (CVE-2025-8671)."""
        self.stats.count(event.counter)
        exchange: Http2ServerExchange | None = event.stream.exchange
        error: DownstreamDisconnectError
        if event.local:
            if event.code == REFUSED_STREAM:  # it was never begun
                return
            self.stats.tx_reset += 1
            error = DownstreamCodecError(event.reason)
        else:
            client = self._connection.downstream.remote_address
            error = DownstreamResetError(f"{client} reset the stream: {code_name(event.code)}")
        lifetime_s = 0.0
        if exchange is not None:
            lifetime_s = self.deadlines.now_s() - exchange.served.request.info.start_s
        elif event.stream.head_received or not event.local:
            return  # its response was complete before
        if self._resets.reset(lifetime_s, answered=exchange is not None and exchange.answered):
            self._connection.manager.stats.downstream_rq_too_many_premature_resets += 1
            self._abort()
        elif exchange is not None:
            exchange.give_up(error, reply=False)
        else:
            self._resets.ended()
            self._connection.fail(error)

    def _fail(self, event: ConnectionFailed) -> None:
        """The client has broken the protocol, or exceeded a limit."""
        self.stats.count(event.error.counter)
        self._connection.manager.stats.downstream_cx_protocol_error += 1
        self._connection.info.add_flag("DPE")
        self._phase = _CLOSING
        for exchange in list(self._exchanges):
            exchange.give_up(DownstreamCodecError(event.error.reason), reply=False)
        if event.in_head:
            self._connection.fail(DownstreamCodecError(event.error.reason))

    # Exchanges.

    def _begin(self, head: HeadReceived, body: Body) -> None:
        if self._keepalive is not None:
            self._keepalive.request_begins()
        upgrade = requested_upgrade(head)
        method = b"GET" if upgrade is not None and upgrade != b"connect" else head.method
        served = self._connection.begin(HTTP2, method, head.authority, head.path, head.headers, body)
        request = served.request
        stream_body = body if isinstance(body, BodyStream) else None
        exchange = Http2ServerExchange(
            self, head.stream, served, stream_body, self.config.stream_idle_timeout_s or math.inf
        )
        head.stream.exchange = exchange
        self._exchanges.add(exchange)
        self.stats.streams_active += 1
        request.upgrade = upgrade
        request.inform = exchange.inform
        request.limit_idle_time = exchange.limit_idle_time
        if stream_body is not None:
            stream_body.produced_by(exchange)
            if upgrade is None:
                self._limit_request(exchange)
        if head.path_error:
            self._refuse_path(exchange, head.path_error)
            return
        if head.expect and upgrade is None and not self._meet_expectation(exchange, head.expect):
            return
        self.deadlines.watch(exchange.expires_s)
        worker = exchange.worker = (
            self._idle_workers.pop()
            if self._idle_workers
            else Http2StreamWorker(self._loop, self._idle_workers)
        )
        worker.serve(exchange)

    def _limit_request(self, exchange: Http2ServerExchange) -> None:
        """Limits the time in which the body of a request must arrive."""
        timeout_s = self.config.request_timeout_s
        if timeout_s:
            exchange.request_expires_s = exchange.served.request.info.start_s + timeout_s
            self.deadlines.watch(exchange.request_expires_s)

    def _refuse_path(self, exchange: Http2ServerExchange, reason: str) -> None:
        error = PathNormalizationError(reason)
        try:
            self._connection.manager.prepare(exchange.served.request)  # recognizes a gRPC call
        except PathNormalizationError as other:
            error = other
        exchange.give_up(error)

    def _meet_expectation(self, exchange: Http2ServerExchange, expectation: bytes) -> bool:
        """Returns False if the request was refused."""
        if expectation.lower() != b"100-continue":
            exchange.give_up(ExpectationFailedError(f"unknown expectation {expectation!r:.100}"))
            return False
        if self.config.proxy_100_continue:
            exchange.served.request.headers.append((b"expect", b"100-continue"))
        elif not exchange.complete:
            exchange.inform(100, [])
        return True

    def end_exchange(self, exchange: Http2ServerExchange, code: int) -> None:
        """Called once by each exchange. `code` resets the stream if one of its messages has not ended."""
        stream = exchange.stream
        if not stream.closed and self._phase < _CLOSING:
            self.codec.reset(stream, code)
            self.stats.tx_reset += 1
            exchange.served.cut_short()
            self.output.flush_soon()
        stream.exchange = None
        self._exchanges.discard(exchange)
        self._resets.ended()
        self.stats.streams_active -= 1
        if not self._exchanges:
            self._become_idle(exchange.served.request.info.end_s)

    def _become_idle(self, now_s: float) -> None:
        if self._phase is _LAST:
            self._phase = _CLOSING
            self._loop.call_soon(self._close_transport)
            return
        self.deadlines.idle_since(now_s)

    def _give_up_all(self) -> None:
        client = self._connection.downstream.remote_address
        for exchange in list(self._exchanges):
            exchange.give_up(DownstreamDisconnectError(f"{client} disconnected"), reply=False)

    # Timeouts.

    def _idle_expired(self) -> None:
        if self._phase is _OPEN:
            self._connection.idle_timeout()
            self.go_away()

    def _finish_draining(self) -> None:
        self._drain_timer = None
        if self._phase is _ANNOUNCED:
            self._send_last_go_away()
            self.output.flush_soon()
            if not self._exchanges:
                self._become_idle(self.deadlines.now_s())

    def _send_last_go_away(self) -> None:
        self._phase = _LAST
        self.codec.go_away(NO_ERROR, final=True)
        self.stats.goaway_sent += 1

    def _ping(self, payload: bytes) -> None:
        self.codec.ping(payload)
        self.output.flush_soon()

    def _keepalive_expired(self) -> None:
        self.stats.keepalive_timeout += 1
        self._abort()

    # The end.

    def _abort(self) -> None:
        self._phase = _CLOSING
        if self.output.transport is not None:
            self.output.transport.abort()
        self._give_up_all()

    def _linger(self) -> None:
        """After an error of the client: an earlier close could destroy the GOAWAY before it is read."""
        self._end_timers()
        if self.output.end() and self.config.delayed_close_timeout_s:
            after = self._connection.manager.timers.after
            self._drain_timer = after(self.config.delayed_close_timeout_s, self._close_transport)
        else:
            self._close_transport()

    def _close_transport(self) -> None:
        """Closes after the written bytes are sent."""
        self.output.flush()
        transport, manager = self.output.transport, self._connection.manager
        if transport is not None and not transport.is_closing():
            close_when_flushed(
                transport, self.config.idle_timeout_s, now_s=manager.timers.now_s, after=manager.timers.after
            )

    def _end_timers(self) -> None:
        """Forgets the callbacks, whose owner has these objects: that is a cycle."""
        self.deadlines.end()
        if self._drain_timer is not None:
            self._drain_timer.cancel()
            self._drain_timer = None
        if self._keepalive is not None:
            self._keepalive.end()
            self._keepalive = None
