"""Raw TCP connections to hosts, counted from the attempt to open them until they are released."""

from __future__ import annotations

import asyncio
from typing import Generic

from sidecar.observability.stats import ClusterStats
from sidecar.upstream.circuit_breaker import CircuitBreaker
from sidecar.upstream.connector import Dialed, ProtocolT
from sidecar.upstream.host import Host


class TcpSlot:
    """A connection's place in the books of its cluster and host."""

    __slots__ = ("_breaker", "_released", "_stats", "host")

    def __init__(self, host: Host, breaker: CircuitBreaker, stats: ClusterStats) -> None:
        self.host = host
        self._breaker = breaker
        self._stats = stats
        self._released = False
        breaker.connections += 1
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


class TcpConnection(Generic[ProtocolT]):
    """What `Cluster.connect_tcp` gives. `protocol` is what the caller's factory made."""

    __slots__ = ("_slot", "host", "peer_id", "protocol", "transport")

    def __init__(self, protocol: ProtocolT, dialed: Dialed, slot: TcpSlot) -> None:
        self.transport: asyncio.Transport = dialed.transport
        self.protocol: ProtocolT = protocol
        self.peer_id = dialed.peer_id
        self.host = slot.host
        self._slot = slot

    def release(self) -> None:
        """The connection has ended. Idempotent."""
        self._slot.release()
