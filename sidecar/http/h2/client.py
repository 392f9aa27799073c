"""The client's side of an HTTP/2 connection: as many exchanges as the peer allows. A pool owns it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, cast

from sidecar.errors import (
    RequestError,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamRefusedStreamError,
    UpstreamResetError,
    UpstreamStreamResetError,
)
from sidecar.http.h2.client_exchange import Http2ClientExchange
from sidecar.http.h2.connection import Http2Connection
from sidecar.http.h2.error_codes import (
    CONNECT_ERROR,
    NO_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    Http2UnavailableError,
    code_name,
)
from sidecar.http.h2.events import (
    ConnectionFailed,
    DataReceived,
    GoAwayReceived,
    HeadReceived,
    Http2Event,
    InterimReceived,
    PongReceived,
    SettingsChanged,
    StreamReset,
    StreamWritable,
    TrailersReceived,
)
from sidecar.http.h2.keepalive import Http2KeepaliveTimer
from sidecar.http.h2.output import Http2Output
from sidecar.http.h2.stream import Http2Stream
from sidecar.http.h2.whole_bodies import whole_bodies
from sidecar.http.message import Request, Response
from sidecar.upstream.connection import ClientEnvironment, ConnectionEvents

# The phases of a connection.
_OPEN: Final = 0
_DRAINING: Final = 1  # the peer accepts no new streams
_CLOSED: Final = 2
_LOST: Final = 3  # closed by the peer


_TOO_LARGE: Final = ("header_overflow", "header_list_size_too_large")
# RFC 9113 6.5.2: a peer should allow no fewer.
_FIRST_STREAMS: Final = 100


class Http2ClientConnection:
    """Implements `sidecar.upstream.connection.ClientConnection`.

    `capacity` is the configured limit of streams until the peer's settings have arrived: more connections are
    not needed before they say so. Requests above the limit of the peer wait for a stream that ends.
    """

    __slots__ = (
        "_cluster_stats",
        "_exchanges",
        "_keepalive",
        "_loop",
        "_max_streams",
        "_phase",
        "_settings_known",
        "_waiting",
        "broke_protocol",
        "capacity",
        "codec",
        "cut_short",
        "events",
        "output",
        "received_bytes",
        "stats",
    )

    counts_resets = True

    def __init__(self, env: ClientEnvironment) -> None:
        self._loop = asyncio.get_running_loop()
        self._phase = _OPEN
        self._max_streams = env.http2.max_concurrent_streams
        self._exchanges: set[Http2ClientExchange] = set()
        self._waiting: deque[Http2ClientExchange] = deque()
        self._settings_known = False
        self.capacity = self._max_streams
        self.codec = Http2Connection(env.http2, client=True)
        self.output = Http2Output(self.codec, self._loop)
        self.stats = env.http2_stats
        self._cluster_stats = env.stats
        self.broke_protocol = False
        self.cut_short = 0
        self.events: ConnectionEvents | None = None
        self.received_bytes = 0
        self._keepalive: Http2KeepaliveTimer | None = None
        if env.http2.connection_keepalive is not None:
            self._keepalive = Http2KeepaliveTimer(
                env.http2.connection_keepalive, env.timers, self._ping, self._keepalive_expired
            )

    @property
    def sent_bytes(self) -> int:
        return self.output.sent_bytes

    @property
    def closed(self) -> bool:
        return self._phase >= _CLOSED

    @property
    def closed_by_peer(self) -> bool:
        return self._phase is _LOST

    def send(self, request: Request) -> asyncio.Future[Response]:
        """The future gets the response as soon as its head has arrived, or an `UpstreamError`, or the error
        of the request's body. Raises `UpstreamResetError` if the connection is closed."""
        if self._phase is not _OPEN:
            raise UpstreamRefusedStreamError("the upstream accepts no more streams on this connection")
        if self._keepalive is not None:
            self._keepalive.request_begins()
        response: asyncio.Future[Response] | None = request.waiter
        if response is None:
            response = self._loop.create_future()
        else:
            request.waiter = None
        exchange = Http2ClientExchange(self, request, response)
        self._exchanges.add(exchange)
        self.stats.streams_active += 1
        if self._has_room():
            self._start(exchange)
        else:
            self._waiting.append(exchange)
        return response

    def _has_room(self) -> bool:
        if not self._settings_known and len(self._exchanges) - len(self._waiting) > _FIRST_STREAMS:
            return False
        return self.codec.available_streams > 0

    def _start(self, exchange: Http2ClientExchange) -> None:
        try:
            stream = self.codec.open_stream()
        except Http2UnavailableError as error:
            self._drain()
            exchange.fail(UpstreamRefusedStreamError(str(error)))
            return
        stream.exchange = exchange
        exchange.send(stream)
        self.output.flush_soon()

    def _start_waiting(self) -> None:
        while self._waiting and self._has_room():
            self._start(self._waiting.popleft())

    def give_up(self, response: asyncio.Future[Response]) -> None:
        """Resets the stream; the connection stays open."""
        for exchange in self._exchanges:
            if exchange.response is response:
                exchange.cancel()
                break
        if response.done() and not response.cancelled():
            response.exception()  # no caller retrieves it

    def end_exchange(self, exchange: Http2ClientExchange, code: int) -> None:
        """Called once by each exchange. `code` resets the stream if one of its messages has not ended."""
        stream = exchange.stream
        if stream is None:
            if exchange in self._waiting:
                self._waiting.remove(exchange)
        else:
            if not stream.closed and self._phase < _CLOSED:
                self.codec.reset(stream, code)
                self.stats.tx_reset += 1
                self._cluster_stats.upstream_rq_tx_reset += 1
                self.output.flush_soon()
            stream.exchange = None
        self._exchanges.discard(exchange)
        self.stats.streams_active -= 1
        if self._phase < _CLOSED:
            if self._waiting:
                self._start_waiting()
            if self.events is not None:
                self.events.exchange_ended()

    def close(self) -> None:
        self._finish(_CLOSED, UpstreamResetError("the connection was closed", request_sent=True))

    # The methods of an `asyncio.Protocol`.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.output.transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it
        self.codec.start()
        self.output.flush()
        if self._keepalive is not None:
            self._keepalive.start()

    def data_received(self, data: bytes) -> None:
        self.received_bytes += len(data)
        if self._phase >= _CLOSED:
            return
        if self._keepalive is not None:
            self._keepalive.received()
        self.output.hold()
        self._handle(self.codec.receive(data))
        self.output.release()

    def eof_received(self) -> bool:
        return False  # the transport closes; `connection_lost` follows

    def connection_lost(self, exc: Exception | None) -> None:
        self.output.lose()
        if self._phase < _CLOSED:
            self._cluster_stats.upstream_rq_pending_failure_eject += len(self._exchanges) - len(self._waiting)
        reason = f"the upstream closed the connection{f': {exc}' if exc else ''}"
        self._finish(_LOST, UpstreamResetError(reason, request_sent=True))

    def pause_writing(self) -> None:
        self.output.pause()

    def resume_writing(self) -> None:
        self.output.hold()
        self._handle(self.output.resume())
        self.output.release()

    # Events.

    def _handle(self, events: list[Http2Event]) -> None:
        bodies: dict[Http2Stream, bytes] | None = None
        for event in events:
            exchange: Http2ClientExchange | None
            if isinstance(event, HeadReceived):
                exchange = event.stream.exchange
                if exchange is None:
                    continue
                whole: bytes | None = None
                if not event.end_stream:
                    if bodies is None:
                        bodies = whole_bodies(events)
                    whole = bodies.get(event.stream)
                exchange.receive_head(event, whole)
            elif isinstance(event, DataReceived):
                exchange = event.stream.exchange
                if exchange is None:  # it has got its body with its head
                    self.codec.consumed(event.stream, len(event.data))
                else:
                    exchange.receive(event.data, event.end_stream)
            else:
                self._handle_other(event)

    def _handle_other(self, event: Http2Event) -> None:
        exchange: Http2ClientExchange | None
        if isinstance(event, TrailersReceived):
            exchange = event.stream.exchange
            if exchange is not None:
                exchange.end_response(event.trailers)
        elif isinstance(event, StreamWritable):
            exchange = event.stream.exchange
            if exchange is not None:
                exchange.became_writable()
        elif isinstance(event, InterimReceived):
            exchange = event.stream.exchange
            if exchange is not None:
                exchange.inform(event.status, event.headers)
        elif isinstance(event, StreamReset):
            self._count_reset(event)
            exchange = event.stream.exchange
            if exchange is not None:
                exchange.fail(_reset_error(event))
        else:
            self._handle_for_connection(event)

    def _count_reset(self, event: StreamReset) -> None:
        """As in Envoy, the cluster counts a head that is too large as a reset by the upstream, and does not
        count streams that the upstream has not processed."""
        self.stats.count(event.counter)
        if event.local:
            self.stats.tx_reset += 1
        if event.local and event.counter not in _TOO_LARGE:
            self._cluster_stats.upstream_rq_tx_reset += 1
        elif event.code != REFUSED_STREAM and event.code != CONNECT_ERROR:  # noqa: PLR1714 - quicker compiled
            self._cluster_stats.upstream_rq_rx_reset += 1

    def _handle_for_connection(self, event: Http2Event) -> None:
        if isinstance(event, SettingsChanged):
            self._learn_limits()
        elif isinstance(event, GoAwayReceived):
            self._drain()
        elif isinstance(event, PongReceived):
            if self._keepalive is not None:
                self._keepalive.answered(event.payload)
        elif isinstance(event, ConnectionFailed):
            self.stats.count(event.error.counter)
            self.broke_protocol = True
            self._cluster_stats.upstream_rq_tx_reset += len(self._exchanges) - len(self._waiting)
            self.output.flush()  # GOAWAY
            self._finish(_CLOSED, UpstreamProtocolError(event.error.reason, request_sent=True))

    def _learn_limits(self) -> None:
        capacity = min(self._max_streams, self.codec.remote.max_concurrent_streams)
        if capacity != self.capacity or not self._settings_known:
            self._settings_known = True
            self.capacity = capacity
            if self.events is not None:
                self.events.capacity_changed()
        self._start_waiting()

    def _drain(self) -> None:
        """The peer accepts no more streams; those under way continue."""
        if self._phase is not _OPEN:
            return
        self._phase = _DRAINING
        while self._waiting:
            exchange = self._waiting.popleft()
            exchange.fail(UpstreamRefusedStreamError("the upstream is about to close the connection"))
        if self.events is not None:
            self.events.draining()

    def _ping(self, payload: bytes) -> None:
        self.codec.ping(payload)
        self.output.flush_soon()

    def _keepalive_expired(self) -> None:
        self.stats.keepalive_timeout += 1
        self._finish(_CLOSED, UpstreamResetError("the upstream does not answer PINGs", request_sent=True))

    # The end.

    def _finish(self, phase: int, error: UpstreamError) -> None:
        """Ends the connection, and the active exchanges with an error like `error`: each gets its own,
        because the router changes errors."""
        if self._phase >= _CLOSED:
            return
        self._phase = phase
        self.cut_short = len(self._exchanges)
        self._waiting.clear()
        for exchange in list(self._exchanges):
            exchange.fail(type(error)(str(error), request_sent=True))
        if self._keepalive is not None:
            self._keepalive.end()
            self._keepalive = None
        events, self.events = self.events, None
        if events is not None:
            events.closed()
        transport = self.output.transport
        if transport is None:
            return
        if phase is _CLOSED and not self.cut_short:
            self.codec.go_away(NO_ERROR, final=True)
        self.output.flush()
        if transport.get_write_buffer_size():
            transport.abort()  # drops the rest of failed requests; `close` would wait for it
        else:
            transport.close()


def _reset_error(event: StreamReset) -> RequestError:
    if event.local:
        # As in Envoy, a head that exceeds the limits is not an error of the protocol.
        too_large = event.counter in _TOO_LARGE
        local = UpstreamStreamResetError if too_large else UpstreamProtocolError
        return local(event.reason, request_sent=True)
    if event.code == REFUSED_STREAM:
        return UpstreamRefusedStreamError("the upstream has not processed the stream")
    kind = UpstreamProtocolError if event.code == PROTOCOL_ERROR else UpstreamStreamResetError
    return kind(f"the upstream reset the stream: {code_name(event.code)}", request_sent=True)
