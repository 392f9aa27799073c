"""One attempt to send a request to one host: its connection, and its statistics."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from sidecar.config.tls import ServerNames
from sidecar.errors import (
    UpstreamConnectError,
    UpstreamError,
    UpstreamOverflowError,
    UpstreamPerTryTimeoutError,
    UpstreamTimeoutError,
)
from sidecar.grpc_status import NO_STATUS, http_status_of_grpc
from sidecar.observability.stream_info import StreamInfo
from sidecar.upstream.host import Host
from sidecar.upstream.pool.pooled_connection import Lease

if TYPE_CHECKING:
    from sidecar.upstream.cluster import Cluster


class Attempt:
    """Made by a `Cluster`. First `checkout` or `wait_for_connection`, then `send`; then its outcome, once and
    on every path: `responded` or `responded_to_call`, and for a response that has not ended then, `end` after
    its last byte; or `failed`, also if it got no connection. The request counts as active from when it has a
    connection until its end.
    """

    __slots__ = ("_active", "_cluster", "_info", "_lease", "_pool", "_response", "host")

    def __init__(self, cluster: Cluster, host: Host, info: StreamInfo) -> None:
        self._cluster = cluster
        self._info = info
        self._lease: Lease | None = None
        self._response: asyncio.Future[Any] | None = None
        self._active = False
        self.host = host
        source = host.source_for(info.connection)
        http2 = cluster.follows_downstream and info.protocol == "HTTP/2"
        alpn: tuple[str, ...] = ()
        names: ServerNames | None = None
        if host.tls is not None:
            alpn, names = info.offered_alpn, info.server_names
        if http2 or alpn or source is not None or names is not None:
            self._pool = host.pool_for(source, http2=http2, alpn=alpn, names=names)
        else:
            self._pool = host.pool
        info.upstream_address = host.address
        info.host_workload = host.endpoint.workload

    def checkout(self) -> bool:
        """Takes an open connection that has room. Returns False if no connection has: then call
        `wait_for_connection`. Raises `UpstreamOverflowError` when too many requests are active."""
        lease = self._pool.checkout()
        if lease is None:
            return False
        self._begin(lease)
        return True

    async def wait_for_connection(self) -> None:
        """Raises `UpstreamConnectError` and `UpstreamOverflowError`."""
        self._begin(await self._pool.acquire())

    def _begin(self, lease: Lease) -> None:
        cluster, stats, host_stats = self._cluster, self._cluster.stats, self.host.stats
        if not cluster.breaker.requests.begin():
            stats.upstream_rq_active_overflow += 1
            lease.give_back()
            raise UpstreamOverflowError(f"cluster {cluster.name} has its maximum of active requests")
        self._lease = lease
        self._active = True
        stats.upstream_rq_total += 1
        stats.upstream_rq_active += 1
        host_stats.rq_total += 1
        host_stats.rq_active += 1
        self._info.upstream_peer_id = lease.connection.peer_id
        self._info.upstream_local_address = lease.connection.local_address

    def send(self, request: Any) -> asyncio.Future[Any]:
        """As `ClientConnection.send`, on the connection that this attempt has."""
        assert self._lease is not None
        response = self._response = self._lease.connection.codec.send(request)
        return response

    def responded(self, status: int, duration_s: float, ended: bool) -> None:
        """The head of the response has arrived or, if it has `ended`, all of it."""
        if ended:
            self.end()
        self._count(status, duration_s)
        self._judge(status)

    def responded_to_call(self, status: int, duration_s: float, ended: bool, grpc_status: int) -> bool:
        """As `responded`, for a gRPC call, whose status tells how the host did. `grpc_status` is that of the
        head, or `NO_STATUS`. Returns True if the trailers will have it: then `call_ended` follows."""
        if ended:
            self.end()
        self._count(status, duration_s)
        if status >= 500:
            self._judge(status)
        elif grpc_status == NO_STATUS and not ended:
            return True
        else:
            self.call_ended(grpc_status)
        return False

    def call_ended(self, grpc_status: int) -> None:
        """The response to a gRPC call has ended. Envoy: without a status it was an error, but no reason to
        eject the host."""
        if grpc_status != NO_STATUS:
            self._judge(http_status_of_grpc(grpc_status))
            return
        self.host.stats.rq_error += 1
        detector = self._cluster.outlier_detector
        if detector is not None:
            detector.success(self.host.monitor)

    def _count(self, status: int, duration_s: float) -> None:
        stats = self._cluster.stats
        stats.upstream_rq_completed += 1
        stats.upstream_rq_time.record(duration_s * 1000)
        if status >= 500:
            stats.upstream_rq_5xx += 1
        elif status >= 400:
            stats.upstream_rq_4xx += 1
        elif status >= 300:
            stats.upstream_rq_3xx += 1
        elif status >= 200:
            stats.upstream_rq_2xx += 1
        else:
            stats.upstream_rq_1xx += 1

    def _judge(self, status: int) -> None:
        host = self.host
        if status >= 500:
            self._cluster.host_answered_error(host, status)
            return
        host.stats.rq_success += 1
        detector = self._cluster.outlier_detector
        if detector is not None:
            detector.success(host.monitor)

    def failed(self, error: BaseException) -> None:
        """The attempt got no response. `error` is an `UpstreamError` if the upstream failed, or if the
        route's timeout expired; otherwise the request was cancelled, and outlier detection ignores it."""
        lease, stats, host = self._lease, self._cluster.stats, self.host
        if lease is None:
            if isinstance(error, UpstreamConnectError):
                self._cluster.host_failed(host, error.status)
            stats.upstream_rq_cancelled += isinstance(error, asyncio.CancelledError)
            return
        if self._response is not None:
            lease.connection.codec.give_up(self._response)
        self.end()
        if not isinstance(error, UpstreamError):
            return
        error.connection_reused = lease.reused
        self._cluster.host_failed(host, error.status)
        if isinstance(error, UpstreamTimeoutError):
            host.stats.rq_timeout += 1
        elif isinstance(error, UpstreamPerTryTimeoutError):
            stats.upstream_rq_per_try_timeout += 1
            host.stats.rq_timeout += 1
        elif not lease.connection.codec.counts_resets:
            stats.upstream_rq_rx_reset += 1

    def end(self) -> None:
        """The last byte of the response has arrived, or the response was closed early. Idempotent."""
        if not self._active:
            return
        self._active = False
        self._cluster.breaker.requests.end()
        self._cluster.stats.upstream_rq_active -= 1
        self.host.stats.rq_active -= 1
