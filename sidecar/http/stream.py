"""The life of one exchange, for all HTTP versions: begin, handle, and then complete or abort.

A codec reads a request and begins a stream (`ManagedConnection.begin`). `serve` passes the request to the
stack and lets the codec write the response; `abort` ends the exchange early. `complete` must be called once,
on every path, when the last byte of the response has been written, or never will be: it counts and logs the
exchange.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Protocol

from sidecar.errors import (
    DownstreamCodecError,
    DownstreamDisconnectError,
    DownstreamError,
    DownstreamProtocolError,
    DownstreamTimeoutError,
    HeadersTooLargeError,
    InternalError,
    NoClusterError,
    NoRouteError,
    PathNormalizationError,
    RequestError,
    RequestHeaderTimeoutError,
    StreamDurationError,
    StreamIdleTimeoutError,
)
from sidecar.http.filter_output import check_response
from sidecar.http.local_reply import error_reply
from sidecar.http.message import Request, Response
from sidecar.observability.stream_info import fail
from sidecar.timers import Timer

if TYPE_CHECKING:
    from sidecar.http.connection_manager import ConnectionManager, ManagedConnection

_LOG = logging.getLogger(__name__)

# The counter of each failure; the most derived type first.
_FAILURE_COUNTERS: tuple[tuple[type[RequestError], str], ...] = (
    (DownstreamDisconnectError, "downstream_rq_rx_reset"),
    (RequestHeaderTimeoutError, "downstream_rq_header_timeout"),
    (StreamIdleTimeoutError, "downstream_rq_idle_timeout"),
    (StreamDurationError, "downstream_rq_max_duration_reached"),
    (DownstreamTimeoutError, "downstream_rq_timeout"),
    (HeadersTooLargeError, "downstream_rq_too_large"),
    (PathNormalizationError, "downstream_rq_failed_path_normalization"),
    (DownstreamProtocolError, "downstream_cx_protocol_error"),
    (NoRouteError, "no_route"),
    (NoClusterError, "no_cluster"),
)


class ResponseEncoder(Protocol):
    """A codec writes the response of one exchange, and counts the body's bytes in `ServerStream.sent_bytes`.
    It calls `ServerStream.keeps_connection` before it writes the head."""

    def send_whole(self, stream: ServerStream, response: Response, body: bytes) -> None: ...

    async def send_streaming(self, stream: ServerStream, response: Response) -> None:
        """Closes the response's body. Raises the `RequestError` that cut it short."""


class ServerStream:
    """One exchange. The codec sets `received_bytes` and `sent_bytes`, the bytes of the bodies."""

    __slots__ = (
        "_aborted",
        "_begun",
        "_connection",
        "_duration",
        "_error",
        "_manager",
        "received_bytes",
        "request",
        "response",
        "sent_bytes",
    )

    def __init__(self, manager: ConnectionManager, connection: ManagedConnection, request: Request) -> None:
        self._manager = manager
        self._connection = connection
        self.request = request
        self.response: Response | None = None
        self._aborted = False
        self._begun: Awaitable[Response] | None = None
        self._error: Exception | None = None  # of `begin`
        self._duration: Timer | None = None
        request.limit_duration = self._limit_duration
        self.received_bytes = 0
        self.sent_bytes = 0
        stats = manager.stats
        stats.downstream_rq_total += 1
        stats.downstream_rq_active += 1

    def begin(self, waiter: asyncio.Future[Any]) -> bool:
        """Lets the stack send the request to its upstream before `serve`, if nothing has to be awaited
        before. The task that calls `serve` next waits for `waiter`. Returns True if `waiter` gets the
        response: then it must not be set by another caller."""
        request = self.request
        request.waiter = waiter
        try:
            self._begun = self._handle()
        except Exception as error:  # raised by `serve`
            self._error = error
            return False
        taken = request.waiter is None
        request.waiter = None
        return taken

    def _handle(self) -> Awaitable[Response]:
        if self._error is not None:
            raise self._error
        self._manager.prepare(self.request)
        return self._manager.service(self.request)

    async def serve(self, encoder: ResponseEncoder) -> bool:
        """Lets the stack handle the request, and `encoder` write the response, or the local reply to a
        failure. Returns whether all of it was written; if not, the failure is recorded. Cancelled if the
        exchange is aborted."""
        request, manager = self.request, self._manager
        try:
            response = await (self._begun or self._handle())
            if self._aborted:
                response.body.close()
                raise asyncio.CancelledError("the service has ignored its cancellation")
            if request.resolver is not None:
                check_response(request, response)
            if request.info.failure is not None:  # the router has replied already
                self._count(request.info.failure)
        except asyncio.CancelledError:
            self._close_upstream()
            raise
        except Exception as error:
            self._close_upstream()
            cause = self._cause(error)
            if self._aborted:
                raise asyncio.CancelledError("the service has replaced its cancellation") from error
            response = self._reply(cause)
        manager.finish_head(request, response)
        self.response = response
        try:
            whole = response.body.whole
            if whole is not None:
                encoder.send_whole(self, response, whole)
            else:
                await encoder.send_streaming(self, response)
        except RequestError as error:  # the error of the body
            if not self._aborted:
                self._fail(error)
                self._manager.stats.downstream_rq_tx_reset += 1
            return False
        return True

    def keeps_connection(self, *, more_wait: bool) -> bool:
        """Whether the connection carries requests after this response. `more_wait`: others have arrived."""
        failure = self.request.info.failure
        if failure is not None and failure.ends_connection:
            return False
        if self._manager.draining and not more_wait:
            self._manager.stats.downstream_cx_drain_close += 1
            return False
        return more_wait or not self._connection.too_old

    def answers_early(self) -> None:
        """Counts a response whose head is written before the request is complete."""
        self._manager.stats.downstream_rq_response_before_rq_complete += 1

    def cut_short(self) -> None:
        """Counts a request that ends with a reset or a close by this side."""
        self._manager.stats.downstream_rq_rx_reset += 1  # as in Envoy, which does not tell the sides apart

    def abort(self, error: RequestError, *, reply: bool) -> Response | None:
        """Ends the exchange with `error`. `reply`: nothing of its response was written yet, so the local
        reply is returned. The codec cancels `serve`; the result of a service that ignores this is dropped."""
        self._aborted = True
        if not reply:
            self._fail(error)
            if not isinstance(error, DownstreamDisconnectError):
                self._manager.stats.downstream_rq_tx_reset += 1
            return None
        response = self.response = self._reply(error)
        self._manager.finish_head(self.request, response)
        return response

    def complete(self) -> None:
        """Counts and logs the exchange; `response` is None if the client disconnected before it began."""
        if self.request.resolver is not None:  # only filters replace bodies
            self.request.close_replaced_body()
        if self._duration is not None:
            self._duration.cancel()
        request = self.request
        request.limit_duration = request.limit_idle_time = None  # with this stream they are cycles
        request.inform = None
        info, response, stats = self.request.info, self.response, self._manager.stats
        info.end_s = self._manager.clock()
        info.bytes_received = self.received_bytes
        info.bytes_sent = self.sent_bytes
        stats.downstream_rq_active -= 1
        if response is not None:
            status = info.status = response.status
            if info.grpc is not None:
                info.grpc.end(status, response.headers, response.body.trailers)
        if response is not None and not info.health_check:
            stats.downstream_rq_completed += 1
            self._count_status(status)
        stats.rq_direct_response += info.direct_response
        stats.downstream_rq_time.record((info.end_s - info.start_s) * 1000)
        if info.failure is not None and info.failure.ends_connection and info.failure.flag != "-":
            self._connection.info.add_flag(info.failure.flag)
        for on_complete in self._manager.on_complete:
            on_complete(self.request, response)

    def _count_status(self, status: int) -> None:
        stats = self._manager.stats
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

    def sending(self, data: bytes) -> bytes:
        """Counts `data`, which the codec writes next. Raises `CancelledError` if the exchange was aborted and
        the body has ignored its cancellation."""
        if self._aborted:
            raise asyncio.CancelledError("the body has ignored its cancellation")
        self.sent_bytes += len(data)
        return data

    @property
    def aborted(self) -> bool:
        return self._aborted

    def upgraded(self) -> None:
        """The connection is a tunnel from now on, until `tunnel_ended`."""
        self._manager.stats.downstream_cx_upgrades_total += 1
        self._manager.stats.downstream_cx_upgrades_active += 1

    def tunnel_ended(self) -> None:
        self._manager.stats.downstream_cx_upgrades_active -= 1

    # The longest duration.

    def _limit_duration(self, limit_s: float) -> None:
        """As `Request.limit_duration`."""
        if self._duration is not None:
            self._duration.cancel()
            self._duration = None
        if limit_s != math.inf:
            manager = self._manager
            passed_s = manager.clock() - self.request.info.start_s
            self._duration = manager.timers.after(max(0.0, limit_s - passed_s), self._expire)

    def _expire(self) -> None:
        codec = self._connection.codec
        if codec is not None:
            codec.give_up(self, StreamDurationError("the exchange took longer than the route allows"))

    # Failures.

    def _close_upstream(self) -> None:
        """A filter that fails may have left the body of the router's response open."""
        body = self.request.upstream_body
        if body is not None:
            body.close()

    def _cause(self, error: Exception) -> RequestError:
        """Why the stack has no response. A defect of the sidecar ends this request only; the log has the
        traceback."""
        if isinstance(error, RequestError):
            return error
        _LOG.error("request %s failed", self.request.info.request_id.decode("latin-1"), exc_info=error)
        return InternalError(f"{type(error).__name__} in the sidecar")

    def _reply(self, error: RequestError) -> Response:
        """Records the failure. Returns the local reply."""
        self._fail(error)
        request = self.request
        reply = error_reply(request, error, 504 if _is_waiting(request, error) else None)
        if request.route is not None:
            request.route.finish(reply.headers)
        return reply

    def _fail(self, error: RequestError) -> None:
        info = self.request.info
        fail(info, error)
        self._count(type(error))
        left = isinstance(error, DownstreamDisconnectError) and not isinstance(error, DownstreamCodecError)
        blameless = left or _is_waiting(self.request, error)
        if isinstance(error, DownstreamError) and not blameless:
            _LOG.info("client %s caused an error: %s", info.connection.remote_address, error)

    def _count(self, failure: type[RequestError]) -> None:
        stats = self._manager.stats
        for kind, counter in _FAILURE_COUNTERS:
            if issubclass(failure, kind):
                setattr(stats, counter, getattr(stats, counter) + 1)
                break


def _is_waiting(request: Request, error: RequestError) -> bool:
    """As in Envoy: a client that has sent all of its request was not the slow side."""
    return isinstance(error, StreamIdleTimeoutError | StreamDurationError) and request.complete
