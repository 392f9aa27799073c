"""What happens around the stack for every request, whatever HTTP version carried it.

A codec calls `begin`, makes a `Request`, awaits `handle`, writes the response, and calls `complete` when its
last byte is out (or never will be): only then is it known what to count and to log.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Protocol

from sidecar.config.listener import HttpConnectionManager
from sidecar.errors import (
    DownstreamDisconnectError,
    DownstreamError,
    DownstreamProtocolError,
    DownstreamTimeoutError,
    HeadersTooLargeError,
    InternalError,
    NoClusterError,
    NoRouteError,
    RequestError,
    RequestHeaderTimeoutError,
    StreamIdleTimeoutError,
)
from sidecar.http.filter_output import check_response
from sidecar.http.forwarded import ForwardedHeaders
from sidecar.http.headers import HOP_BY_HOP
from sidecar.http.local_reply import local_reply
from sidecar.http.message import Request, Response, Service
from sidecar.http.path_normalization import normalize_path
from sidecar.observability.stats import HttpConnectionManagerStats
from sidecar.observability.stream_info import DownstreamConnection, StreamInfo
from sidecar.timers import Timers

_LOG = logging.getLogger(__name__)

OnComplete = Callable[[Request, Response | None], None]
OnDisconnect = Callable[[StreamInfo], None]

Codec = Callable[["ConnectionManager", DownstreamConnection], asyncio.Protocol]

_SERVICE_TIME = b"x-envoy-upstream-service-time"
# Envoy's defaults: server_header_transformation OVERWRITE; the router's word on the time is the last hop's.
_MANAGED = frozenset((b"date", b"server", _SERVICE_TIME, b"content-length", *HOP_BY_HOP))

# What a failure counts as; the most derived type first.
_FAILURE_COUNTERS: tuple[tuple[type[RequestError], str], ...] = (
    (DownstreamDisconnectError, "downstream_rq_rx_reset"),
    (RequestHeaderTimeoutError, "downstream_rq_header_timeout"),
    (StreamIdleTimeoutError, "downstream_rq_idle_timeout"),
    (DownstreamTimeoutError, "downstream_rq_timeout"),
    (HeadersTooLargeError, "downstream_rq_too_large"),
    (DownstreamProtocolError, "downstream_cx_protocol_error"),
    (NoRouteError, "no_route"),
    (NoClusterError, "no_cluster"),
)


class ServerConnection(Protocol):
    """A downstream connection's codec, as the manager sees it. `info` is of the connection as a whole: the
    bytes on it, and the protocol of its requests."""

    info: StreamInfo

    def drain(self) -> None:
        """Answers what is under way, takes nothing new, and closes."""

    def close(self) -> None:
        """Closes at once."""


class ConnectionManager:
    """Envoy's ``HttpConnectionManager``: serves all connections of one filter chain through `service`.
    `codec` makes what speaks HTTP on each of them."""

    def __init__(
        self,
        config: HttpConnectionManager,
        service: Service,
        stats: HttpConnectionManagerStats,
        *,
        codec: Codec,
        timers: Timers,
        clock: Callable[[], float] = time.monotonic,
        on_complete: tuple[OnComplete, ...] = (),
        on_disconnect: tuple[OnDisconnect, ...] = (),
        on_closed: Callable[[], None] | None = None,
    ) -> None:
        """`on_closed` is called once, after `close`, when no connection is left."""
        self.config = config
        self.stats = stats
        self.timers = timers
        self.clock = clock
        self.draining = False
        self._service = service
        self._codec = codec
        self._on_complete = on_complete
        self._on_disconnect = on_disconnect
        self._on_closed = on_closed
        self._closing = False
        self._has_filters = len(config.http_filters) > 1  # the last is the router
        self._connections: set[ServerConnection] = set()
        self._no_connections = asyncio.Event()
        self._no_connections.set()
        self._forwarded = ForwardedHeaders(config)
        self._respells_path = config.normalize_path or config.merge_slashes
        self._server_header = (b"server", config.server_name.encode())
        self._date_second = 0
        self._date_header = (b"date", b"")

    # Connections.

    def protocol(self, connection: DownstreamConnection) -> asyncio.Protocol:
        """The codec for a connection that was accepted, and whose TLS handshake is done."""
        return self._codec(self, connection)

    def connection_info(self, connection: DownstreamConnection) -> StreamInfo:
        """What a codec notes of its connection; no request has said yet which protocol it speaks."""
        info = StreamInfo(connection, self.clock(), time.time())
        info.protocol = ""
        return info

    @property
    def active_connections(self) -> int:
        return len(self._connections)

    def connection_opened(self, connection: ServerConnection) -> None:
        self._connections.add(connection)
        self._no_connections.clear()
        self.stats.downstream_cx_total += 1
        self.stats.downstream_cx_active += 1

    def connection_lost(self, connection: ServerConnection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._no_connections.set()
        self.stats.downstream_cx_active -= 1
        self.stats.downstream_cx_destroy += 1
        connection.info.end_s = self.clock()
        for on_disconnect in self._on_disconnect:
            on_disconnect(connection.info)
        self._end_if_closed()

    def drain(self) -> None:
        """From now on each connection is told to close with its next answer; idle ones go when none came for
        `drain_timeout_s`."""
        self.draining = True
        for connection in tuple(self._connections):
            connection.drain()

    async def wait_closed(self) -> None:
        """Returns when no connection is left."""
        await self._no_connections.wait()

    def close(self) -> None:
        """Closes every connection at once; requests under way are cancelled."""
        for connection in tuple(self._connections):
            connection.close()
        self._closing = True
        self._end_if_closed()

    def _end_if_closed(self) -> None:
        if self._closing and not self._connections and self._on_closed is not None:
            on_closed, self._on_closed = self._on_closed, None
            on_closed()

    # Requests.

    def begin(self, connection: DownstreamConnection) -> StreamInfo:
        """A request has come: `complete` is due, whatever becomes of it."""
        stats = self.stats
        stats.downstream_rq_total += 1
        stats.downstream_rq_active += 1
        return StreamInfo(connection, self.clock(), time.time())

    async def handle(self, request: Request) -> Response:
        """The stack's answer, or the local reply to what went wrong."""
        try:
            self._prepare(request)
            response = await self._service(request)
            if self._has_filters:
                check_response(request, response)
            if request.info.failure is not None:  # the router has answered it itself
                self._count_failure(request.info.failure)
        except RequestError as error:
            _close_upstream(request)
            response = self.explain(request, error)
        except asyncio.CancelledError:
            _close_upstream(request)
            raise
        except Exception as error:
            _close_upstream(request)
            # A fault of ours ends this request alone; the traceback says whose it was.
            _LOG.exception("request %s failed", request.info.request_id.decode("latin-1"))
            response = self.explain(request, InternalError(f"{type(error).__name__} in the sidecar"))
        self.finish_head(request, response)
        return response

    def refuse(self, request: Request, error: RequestError) -> Response:
        """The answer to what never became a request for the stack."""
        response = self.explain(request, error)
        self.finish_head(request, response)
        return response

    def explain(self, request: Request, error: RequestError) -> Response:
        """Notes why a request failed; the reply that says so."""
        self.note_failure(request, error)
        reply = local_reply(error, 504 if _is_waiting(request, error) else None)
        if request.route is not None:
            request.route.finish(reply.headers)
        return reply

    def note_failure(self, request: Request, error: RequestError) -> None:
        info = request.info
        info.fail(error)
        self._count_failure(type(error))
        blameless = isinstance(error, DownstreamDisconnectError) or _is_waiting(request, error)
        if isinstance(error, DownstreamError) and not blameless:
            _LOG.info("downstream %s is at fault: %s", info.connection.remote_address, error)

    def _count_failure(self, failure: type[RequestError]) -> None:
        for kind, counter in _FAILURE_COUNTERS:
            if issubclass(failure, kind):
                setattr(self.stats, counter, getattr(self.stats, counter) + 1)
                break

    def complete(self, request: Request, response: Response | None) -> None:
        """The exchange is over: `response` is None if the client left before it began."""
        request.close_replaced_body()
        info = request.info
        info.end_s = self.clock()
        stats = self.stats
        stats.downstream_rq_active -= 1
        if response is not None:
            info.status = response.status
        if response is not None and not info.health_check:
            status = response.status
            stats.downstream_rq_completed += 1
            if status < 300:
                if status >= 200:
                    stats.downstream_rq_2xx += 1
                else:
                    stats.downstream_rq_1xx += 1
            elif status < 400:
                stats.downstream_rq_3xx += 1
            elif status < 500:
                stats.downstream_rq_4xx += 1
            else:
                stats.downstream_rq_5xx += 1
        stats.rq_direct_response += info.direct_response
        stats.downstream_rq_time.record((info.end_s - info.start_s) * 1000)
        for on_complete in self._on_complete:
            on_complete(request, response)

    def _prepare(self, request: Request) -> None:
        self._forwarded.apply(request)
        if self._respells_path:
            config = self.config
            request.path = normalize_path(
                request.path, normalize=config.normalize_path, merge_slashes=config.merge_slashes
            )

    def finish_head(self, request: Request, response: Response) -> None:
        """`server`, `date` and the upstream's time, in a copy: a filter may answer from a constant. It is the
        last step before the codec: what is the codec's to say goes, and a length stays if it is the only one.
        """
        headers = []
        dated = False
        lengths = 0
        for field in response.headers:
            name = field[0]
            if name in _MANAGED:
                if name == b"date":
                    dated = True
                elif name == b"content-length":
                    lengths += 1 if field[1].isdigit() else 2
                else:
                    continue
            headers.append(field)
        if lengths > 1:
            headers = [field for field in headers if field[0] != b"content-length"]
        info = request.info
        if not info.details:
            info.details = "via_upstream" if info.upstream_address is not None else "direct_response"
        headers.append(self._server_header)
        if not dated:
            headers.append(self._date(info))
        if info.upstream_service_time_s:
            headers.append((_SERVICE_TIME, b"%d" % (info.upstream_service_time_s * 1000)))
        response.headers = headers

    def _date(self, info: StreamInfo) -> tuple[bytes, bytes]:
        second = int(info.wall_start_s + self.clock() - info.start_s)
        if second != self._date_second:
            self._date_second = second
            self._date_header = (b"date", formatdate(second, usegmt=True).encode())
        return self._date_header


def _close_upstream(request: Request) -> None:
    """A filter that fails may have left the body of the router's response open."""
    if request.upstream_body is not None:
        request.upstream_body.close()


def _is_waiting(request: Request, error: RequestError) -> bool:
    """Envoy: once the client has sent all of its request, it is not the client who was slow."""
    return isinstance(error, StreamIdleTimeoutError) and request.complete
