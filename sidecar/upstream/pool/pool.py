"""Which connection takes which request: the bookkeeping of one host's pool. Pure.

It opens and closes nothing itself: it says how many connections to open and returns those to close. Source of
the rules: Envoy's "Connection pooling" and "Circuit breaking" architecture pages.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from sidecar.config.endpoint import SocketAddress
from sidecar.errors import RequestError, UpstreamConnectError, UpstreamOverflowError
from sidecar.observability.stats import ClusterStats
from sidecar.upstream.circuit_breaker import CircuitBreaker
from sidecar.upstream.connection import Connection


class Lease:
    """A connection in a pool. `lent` exchanges are under way or about to be; `lent_total` counts all.
    A `retiring` connection takes no new one, and is closed after its last."""

    __slots__ = (
        "connection",
        "idle_since_s",
        "lent",
        "lent_total",
        "local_address",
        "peer_id",
        "received_bytes",
        "retiring",
        "secured_by",
        "sent_bytes",
    )

    def __init__(
        self,
        connection: Connection,
        *,
        secured_by: object = None,
        peer_id: str = "",
        local_address: SocketAddress | None = None,
    ) -> None:
        self.connection = connection
        self.secured_by = secured_by
        """What the connection's TLS came from; compared by identity, None for plaintext."""
        self.peer_id = peer_id
        self.local_address = local_address
        self.idle_since_s = 0.0
        self.lent = 0
        self.lent_total = 0
        self.retiring = False
        self.received_bytes = 0
        self.sent_bytes = 0

    @property
    def reused(self) -> bool:
        return self.lent_total > 1


class Waiter(Protocol):
    """A future."""

    def done(self) -> bool: ...

    def set_result(self, result: Lease, /) -> None: ...

    def set_exception(self, exception: type | BaseException, /) -> None: ...


class Pool:
    """`leases` are all open connections; of those, `_available` have room, the last used at the end."""

    __slots__ = (
        "_available",
        "_breaker",
        "_max_requests_per_connection",
        "_stats",
        "_waiters",
        "connecting",
        "draining",
        "leases",
    )

    def __init__(
        self, breaker: CircuitBreaker, stats: ClusterStats, *, max_requests_per_connection: int = 0
    ) -> None:
        self._breaker = breaker
        self._stats = stats
        self._max_requests_per_connection = max_requests_per_connection
        self._available: list[Lease] = []
        self._waiters: deque[Waiter] = deque()
        self.leases: set[Lease] = set()
        self.connecting = 0
        self.draining = False

    # Taking and returning.

    def checkout(self) -> Lease | None:
        """The connection that was used last, which is the least likely to have timed out. None if none has
        room: `wait` is next."""
        available = self._available
        while available:
            lease = available[-1]
            connection = lease.connection
            if connection.closed or lease.retiring:
                available.pop()
                continue
            self._lend(lease)
            if lease.lent >= connection.capacity or lease.retiring:
                available.pop()
            return lease
        return None

    def _lend(self, lease: Lease) -> None:
        lease.lent += 1
        lease.lent_total += 1
        if lease.lent_total == self._max_requests_per_connection:
            self._stats.upstream_cx_max_requests += 1
            lease.retiring = True

    def wait(self, waiter: Waiter) -> None:
        """`waiter` gets the next connection with room, first come first served, or the error of the next
        attempt to open one that fails. Raises `UpstreamOverflowError` when too many wait already."""
        if not self._breaker.may_wait():
            self._stats.upstream_rq_pending_overflow += 1
            raise UpstreamOverflowError("too many requests are waiting for a connection")
        self._waiters.append(waiter)
        self._breaker.pending_requests += 1
        self._stats.upstream_rq_pending_total += 1
        self._stats.upstream_rq_pending_active += 1

    def stop_waiting(self, waiter: Waiter) -> None:
        """The waiter gave up."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)
            self._count_waiter_out()

    def returned(self, lease: Lease, now_s: float) -> bool:
        """An exchange has ended, or was never begun. Whether the connection is to be closed now."""
        was_full = lease.lent >= lease.connection.capacity
        lease.lent -= 1
        if lease.connection.closed:
            return False
        if lease.retiring or self.draining:
            lease.retiring = True
            return lease.lent == 0
        lease.idle_since_s = now_s
        if self._waiters:
            self._serve_waiters(lease)
        if was_full and lease.lent < lease.connection.capacity and not lease.retiring:
            self._available.append(lease)
        return False

    # Opening and losing.

    def connections_wanted(self) -> int:
        """How many to begin opening now. A pool with no connection at all may open one even where the limit
        is reached, or its requests would wait for what cannot come."""
        missing = len(self._waiters) - self.connecting
        allowed = self._breaker.limits.max_connections - self._breaker.connections
        if allowed <= 0 and missing > 0:
            self._stats.upstream_cx_overflow += 1
            allowed = 0 if self.connecting or self.leases else 1
        return max(0, min(missing, allowed))

    def opening(self) -> None:
        self.connecting += 1
        self._breaker.connections += 1

    def opened(self, lease: Lease, now_s: float) -> None:
        self.connecting -= 1
        self.leases.add(lease)
        lease.idle_since_s = now_s
        self._serve_waiters(lease)
        if lease.lent < lease.connection.capacity and not lease.retiring:
            self._available.append(lease)

    def open_failed(self, reason: str) -> None:
        """All requests that wait get an `UpstreamConnectError`: the host takes no connections now, and one
        that went on waiting would wait for as many failures as there are requests before it. As Envoy does,
        whatever other attempts are under way."""
        self.opening_ended()
        self._stats.upstream_rq_pending_failure_eject += self.refuse_waiters(
            lambda: UpstreamConnectError(reason)
        )

    def opening_ended(self) -> None:
        """The attempt was called off: nothing is known of the host."""
        self.connecting -= 1
        self._breaker.connections -= 1

    def lost(self, lease: Lease) -> None:
        """The connection is closed, by whomever. Idempotent."""
        if lease not in self.leases:
            return
        self.leases.discard(lease)
        self._breaker.connections -= 1
        if lease in self._available:
            self._available.remove(lease)

    # Closing what is idle or outdated.

    def expire(self, idle_before_s: float) -> list[Lease]:
        """Those to close because nobody has used them since. They are not lent again."""
        return self.let_go(
            [lease for lease in self._available if lease.lent == 0 and lease.idle_since_s <= idle_before_s]
        )

    def oldest_idle_s(self) -> float | None:
        """Since when the longest idle connection is idle."""
        return min((lease.idle_since_s for lease in self._available if lease.lent == 0), default=None)

    def retire(self, *, except_secured_by: object) -> list[Lease]:
        """Lets go of the connections whose TLS came from anything else: those to close now, as nothing is
        under way on them. The others are closed after their last exchange."""
        return self.let_go([lease for lease in self.leases if lease.secured_by is not except_secured_by])

    def drain(self) -> list[Lease]:
        """Lets go of all connections, those to come included. Returns those to close now."""
        self.draining = True
        return self.let_go(list(self.leases))

    def let_go(self, leases: list[Lease]) -> list[Lease]:
        """They are not lent again. Returns those to close now, as nothing is under way on them."""
        for lease in leases:
            lease.retiring = True
        self._available = [lease for lease in self._available if not lease.retiring]
        return [lease for lease in leases if lease.lent == 0]

    # The queue.

    def refuse_waiters(self, error: Callable[[], RequestError]) -> int:
        """Each gets an error of its own, as the router notes things on it. Returns how many there were."""
        refused = 0
        while (waiter := self._next_waiter()) is not None:
            waiter.set_exception(error())
            refused += 1
        return refused

    def _serve_waiters(self, lease: Lease) -> None:
        while lease.lent < lease.connection.capacity and not lease.retiring:
            waiter = self._next_waiter()
            if waiter is None:
                return
            self._lend(lease)
            waiter.set_result(lease)

    def _next_waiter(self) -> Waiter | None:
        while self._waiters:
            waiter = self._waiters.popleft()
            self._count_waiter_out()
            if not waiter.done():
                return waiter
        return None

    def _count_waiter_out(self) -> None:
        self._breaker.pending_requests -= 1
        self._stats.upstream_rq_pending_active -= 1
