"""A raw TCP connection to a host, counted until it is released."""

from __future__ import annotations

import asyncio
from typing import Generic

from sidecar.observability.stats import ClusterStats
from sidecar.upstream.circuit_breaker import CircuitBreaker
from sidecar.upstream.connector import Dialed, ProtocolT
from sidecar.upstream.host import Host


class TcpConnection(Generic[ProtocolT]):
    """What `Cluster.connect_tcp` gives. `protocol` is what the caller's factory made."""

    __slots__ = ("_breaker", "_released", "_stats", "host", "peer_id", "protocol", "transport")

    def __init__(
        self, dialed: Dialed[ProtocolT], host: Host, breaker: CircuitBreaker, stats: ClusterStats
    ) -> None:
        self.transport: asyncio.Transport = dialed.transport
        self.protocol: ProtocolT = dialed.protocol
        self.peer_id = dialed.peer_id
        self.host = host
        self._breaker = breaker
        self._stats = stats
        self._released = False
        stats.upstream_cx_total += 1
        stats.upstream_cx_active += 1
        host.stats.cx_total += 1
        host.stats.cx_active += 1

    def release(self) -> None:
        """The connection has ended. Idempotent."""
        if self._released:
            return
        self._released = True
        self._breaker.connections -= 1
        self._stats.upstream_cx_active -= 1
        self._stats.upstream_cx_destroy += 1
        self.host.stats.cx_active -= 1
