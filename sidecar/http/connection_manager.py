"""Envoy's ``HttpConnectionManager``: the connections of one filter chain, and the changes to the head of each
request before the stack, and of each response after it.

    codec -> ManagedConnection.begin -> ServerStream.serve: prepare -> service -> finish_head -> codec
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Final, Protocol, cast

from sidecar.config.listener import HttpConnectionManager
from sidecar.errors import RequestError
from sidecar.http.body import EMPTY, Body
from sidecar.http.forwarded import ForwardedHeaders
from sidecar.http.headers import HOP_BY_HOP, Headers
from sidecar.http.message import Request, Response, Service
from sidecar.http.path_normalization import normalize_path
from sidecar.http.stream import ServerStream
from sidecar.http.tracing import OPERATION, RequestTracing
from sidecar.observability.stats import Http2Stats, HttpConnectionManagerStats
from sidecar.observability.stream_info import DownstreamConnection, StreamInfo
from sidecar.timers import Timer, Timers

OnComplete = Callable[[Request, Response | None], None]
OnDisconnect = Callable[[StreamInfo], None]

HTTP2: Final = "HTTP/2"
_SERVICE_TIME = b"x-envoy-upstream-service-time"
# Envoy's defaults: server_header_transformation OVERWRITE; the time is measured at this hop.
_MANAGED: Final = frozenset((b"date", b"server", _SERVICE_TIME, b"content-length", *HOP_BY_HOP))
_MANAGED_AND_OPERATION: Final = _MANAGED | {OPERATION}


class ServerCodec(Protocol):
    """The server side of HTTP on one connection; it has the methods of an `asyncio.Protocol`. It reports to
    the `ManagedConnection` that it was made for."""

    def go_away(self) -> None:
        """Finishes the active exchanges, begins no others, and closes."""

    def give_up(self, stream: ServerStream, error: RequestError) -> None:
        """Ends an exchange that lasts too long: with a local reply to `error` if no byte of a response was
        written (`ServerStream.abort`), else cuts it short. Ignores a stream that has ended."""

    def close(self) -> None:
        """Closes at once."""

    def connection_made(self, transport: asyncio.BaseTransport, /) -> None: ...

    def data_received(self, data: bytes, /) -> None: ...

    def eof_received(self) -> bool: ...

    def connection_lost(self, exc: Exception | None, /) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


class ManagedConnection:
    """One downstream connection. Its codec reports to it, and begins the streams of its requests here.

    `info` describes the whole connection: its bytes, and the protocol of its requests. A connection that is
    `too_old` drains, as Envoy's does after ``max_connection_duration``.
    """

    __slots__ = (
        "_duration_timer",
        "_manager",
        "_scheme",
        "_stats",
        "codec",
        "downstream",
        "info",
        "too_old",
    )

    def __init__(self, manager: ConnectionManager, downstream: DownstreamConnection) -> None:
        self._manager = manager
        self._stats = manager.stats
        self._scheme = b"https" if downstream.tls_version else b"http"
        self.downstream = downstream
        self.info = StreamInfo(downstream, manager.clock(), time.time())
        self.info.protocol = ""  # until the first request
        self.codec: ServerCodec | None = None
        self._duration_timer: Timer | None = None
        self.too_old = False

    @property
    def manager(self) -> ConnectionManager:
        return self._manager

    def opened(self) -> None:
        self._manager.connection_opened(self)

    def limit_duration(self, longest_s: float) -> None:
        self._duration_timer = self._manager.timers.after(longest_s, self._end_life)

    def _end_life(self) -> None:
        self._duration_timer = None
        self.too_old = True
        self._stats.downstream_cx_max_duration_reached += 1
        if self.codec is not None:
            self.codec.go_away()

    def lost(self) -> None:
        protocol = self.info.protocol
        if protocol == HTTP2:
            self._stats.downstream_cx_http2_active -= 1
        elif protocol:
            self._stats.downstream_cx_http1_active -= 1
        if self._duration_timer is not None:
            self._duration_timer.cancel()
            self._duration_timer = None
        self._manager.connection_lost(self)

    def speaks(self, protocol: str) -> None:
        """Called once, when the version of the connection is known."""
        self.info.protocol = protocol
        stats = self._stats
        if protocol == HTTP2:
            stats.downstream_cx_http2_total += 1
            stats.downstream_cx_http2_active += 1
        else:
            stats.downstream_cx_http1_total += 1
            stats.downstream_cx_http1_active += 1

    def received(self, size: int) -> None:
        self._stats.downstream_cx_rx_bytes_total += size
        self.info.bytes_received += size

    def sent(self, size: int) -> None:
        self._stats.downstream_cx_tx_bytes_total += size
        self.info.bytes_sent += size

    def idle_timeout(self) -> None:
        """The codec closes the connection after the idle timeout."""
        stats = self._manager.stats
        if self._manager.draining:
            stats.downstream_cx_drain_close += 1
        elif not self.too_old:
            stats.downstream_cx_idle_timeout += 1

    def begin(
        self, protocol: str, method: bytes, authority: bytes, path: bytes, headers: Headers, body: Body
    ) -> ServerStream:
        """Begins the stream of a request that has arrived. `protocol` as in `StreamInfo`."""
        manager = self._manager
        info = StreamInfo(self.downstream, manager.clock(), time.time())
        info.protocol = protocol
        if protocol == HTTP2:
            self._stats.downstream_rq_http2_total += 1
        else:
            self._stats.downstream_rq_http1_total += 1
            if not self.info.protocol:
                self.speaks(protocol)
        request = Request(method, self._scheme, authority, path, headers, body, info)
        return ServerStream(manager, self, request)

    def fail(self, error: RequestError) -> None:
        """Counts and logs a request of HTTP/2 whose head is invalid. It gets no response."""
        stream = self.begin(HTTP2, b"", b"", b"", [], EMPTY)
        stream.abort(error, reply=False)
        stream.complete()

    def refuse(self, error: RequestError) -> tuple[ServerStream, Response]:
        """Answers data that is not a valid request, without the stack. It is counted and logged like a
        request."""
        manager = self._manager
        info = StreamInfo(self.downstream, manager.clock(), time.time())
        stream = ServerStream(manager, self, Request(b"", self._scheme, b"", b"", [], EMPTY, info))
        response = stream.abort(error, reply=True)
        assert response is not None
        return stream, response


CodecFactory = Callable[[ManagedConnection], ServerCodec]


class ConnectionManager:
    """Serves all connections of one filter chain through `service`, with codecs made by `codec`."""

    def __init__(
        self,
        config: HttpConnectionManager,
        service: Service,
        stats: HttpConnectionManagerStats,
        *,
        codec: CodecFactory,
        timers: Timers,
        clock: Callable[[], float] = time.monotonic,
        http2_stats: Http2Stats | None = None,
        on_complete: tuple[OnComplete, ...] = (),
        on_disconnect: tuple[OnDisconnect, ...] = (),
        on_closed: Callable[[], None] | None = None,
        tracing: RequestTracing | None = None,
    ) -> None:
        """`tracing` is None without ``tracing`` in the configuration. `on_closed` is called once, after
        `close`, when no connection is left."""
        self.config = config
        self.service = service
        self.stats = stats
        self.http2_stats = http2_stats or Http2Stats()
        self.timers = timers
        self.clock = clock
        self.on_complete = on_complete
        self.draining = False
        self._codec = codec
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_disconnect = on_disconnect
        self._on_closed = on_closed
        self._managed = _MANAGED if tracing is None or not tracing.egress else _MANAGED_AND_OPERATION
        self._closing = False
        self._connections: set[ManagedConnection] = set()
        self._no_connections = asyncio.Event()
        self._no_connections.set()
        self._forwarded = ForwardedHeaders(config)
        self._respells_path = config.normalize_path or config.merge_slashes
        self._server_header = (b"server", config.server_name.encode())
        self._date_second = 0
        self._date_header = (b"date", b"")

    # Connections.

    def running_loop(self) -> asyncio.AbstractEventLoop:
        """All connections run in one loop. To ask asyncio for it takes a system call."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    def protocol(self, connection: DownstreamConnection) -> asyncio.Protocol:
        """Returns the codec of an accepted connection, after its TLS handshake."""
        managed = ManagedConnection(self, connection)
        managed.codec = self._codec(managed)
        return cast("asyncio.Protocol", managed.codec)  # it has the methods, not the base class

    @property
    def active_connections(self) -> int:
        return len(self._connections)

    def connection_opened(self, connection: ManagedConnection) -> None:
        """Called again if the first bytes of the connection choose another codec."""
        if connection not in self._connections:
            self._connections.add(connection)
            self._no_connections.clear()
            self.stats.downstream_cx_total += 1
            self.stats.downstream_cx_active += 1
            if self.config.max_connection_duration_s > 0:
                connection.limit_duration(self.config.max_connection_duration_s)
        if self.draining and connection.codec is not None:
            connection.codec.go_away()

    def connection_lost(self, connection: ManagedConnection) -> None:
        self._connections.discard(connection)
        connection.codec = None
        if not self._connections:
            self._no_connections.set()
        self.stats.downstream_cx_active -= 1
        self.stats.downstream_cx_destroy += 1
        connection.info.end_s = self.clock()
        for on_disconnect in self._on_disconnect:
            on_disconnect(connection.info)
        self._end_if_closed()

    def drain(self) -> None:
        """Closes each connection with its next response, and idle ones after `drain_timeout_s` without a
        request."""
        self.draining = True
        for connection in tuple(self._connections):
            if connection.codec is not None:
                connection.codec.go_away()

    async def wait_closed(self) -> None:
        """Returns when no connection is left."""
        await self._no_connections.wait()

    def close(self) -> None:
        """Closes every connection at once; active requests are cancelled."""
        for connection in tuple(self._connections):
            if connection.codec is not None:
                connection.codec.close()
        self._closing = True
        self._end_if_closed()

    def _end_if_closed(self) -> None:
        if self._closing and not self._connections and self._on_closed is not None:
            on_closed, self._on_closed = self._on_closed, None
            on_closed()

    # Heads.

    def prepare(self, request: Request) -> None:
        self._forwarded.apply(request)
        if self._respells_path:
            config = self.config
            request.path = normalize_path(
                request.path, normalize=config.normalize_path, merge_slashes=config.merge_slashes
            )

    def finish_head(self, request: Request, response: Response) -> None:
        """`server`, `date`, the upstream's time and the name of the operation, in a copy, because a filter
        may answer with a constant. This is the last step before the codec: it removes the fields that the
        codec generates, except for a single Content-Length.
        """
        headers = []
        dated = False
        lengths = 0
        info = request.info
        managed = self._managed if info.operation is None else _MANAGED_AND_OPERATION
        for field in response.headers:
            name = field[0]
            if name in managed:
                if name == b"date":
                    dated = True
                elif name == b"content-length":
                    lengths += 1 if field[1].isdigit() else 2
                else:
                    continue
            headers.append(field)
        if lengths > 1:
            headers = [field for field in headers if field[0] != b"content-length"]
        headers.append(self._server_header)
        if not dated:
            headers.append(self._date(info))
        if info.upstream_service_time_s:
            headers.append((_SERVICE_TIME, b"%d" % (info.upstream_service_time_s * 1000)))
        if info.operation is not None:
            headers.append(info.operation)
        response.headers = headers

    def _date(self, info: StreamInfo) -> tuple[bytes, bytes]:
        second = int(info.wall_start_s + self.clock() - info.start_s)
        if second != self._date_second:
            self._date_second = second
            self._date_header = (b"date", formatdate(second, usegmt=True).encode())
        return self._date_header
