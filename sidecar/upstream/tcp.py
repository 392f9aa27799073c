"""Connections to hosts for streams of bytes: counted from the attempt to open one until it is released."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic

from sidecar.errors import UpstreamConnectError, UpstreamOverflowError
from sidecar.observability.stream_info import StreamInfo
from sidecar.upstream.connector import Dialed, ProtocolT
from sidecar.upstream.host import Host

if TYPE_CHECKING:
    from sidecar.upstream.cluster import Cluster


class TcpAttempt:
    """One attempt to connect to one host. Its outcome is reported once: `connected`, or `failed`."""

    __slots__ = ("_cluster", "_info", "_released", "host")

    def __init__(self, cluster: Cluster, host: Host, info: StreamInfo) -> None:
        """Raises `UpstreamOverflowError` when too many connections are open."""
        info.cluster = cluster.name
        info.service = cluster.config.service
        info.upstream_address = host.address
        info.host_workload = host.endpoint.workload
        stats = cluster.stats
        if not cluster.breaker.connections.begin():
            stats.upstream_cx_overflow += 1
            raise UpstreamOverflowError(f"cluster {cluster.name} has its maximum of connections")
        self._cluster = cluster
        self._info = info
        self._released = False
        self.host = host
        stats.upstream_cx_total += 1
        stats.upstream_cx_active += 1
        host.stats.cx_total += 1
        host.stats.cx_active += 1

    def connected(self, protocol: ProtocolT, dialed: Dialed) -> TcpConnection[ProtocolT]:
        self._info.upstream_peer_id = dialed.peer_id
        self._info.upstream_local_address = dialed.local_address
        detector = self._cluster.outlier_detector
        if detector is not None:
            detector.success(self.host.monitor)
        return TcpConnection(protocol, dialed, self)

    def failed(self, error: BaseException) -> None:
        self.release()
        if isinstance(error, UpstreamConnectError):
            self.host.stats.cx_connect_fail += 1
            self._info.upstream_failure = str(error)
            self._cluster.host_failed(self.host, error.status)

    def release(self) -> None:
        """The connection has ended. Idempotent."""
        if self._released:
            return
        self._released = True
        stats = self._cluster.stats
        self._cluster.breaker.connections.end()
        stats.upstream_cx_active -= 1
        stats.upstream_cx_destroy += 1
        self.host.stats.cx_active -= 1


class TcpConnection(Generic[ProtocolT]):
    """An open connection. `protocol` was made by the factory of the caller of `Cluster.connect_tcp`."""

    __slots__ = ("_attempt", "host", "peer_id", "protocol", "transport")

    def __init__(self, protocol: ProtocolT, dialed: Dialed, attempt: TcpAttempt) -> None:
        self.transport: asyncio.Transport = dialed.transport
        self.protocol: ProtocolT = protocol
        self.peer_id = dialed.peer_id
        self.host = attempt.host
        self._attempt = attempt

    def release(self) -> None:
        """The connection has ended. Idempotent."""
        self._attempt.release()
