"""Assigns requests to connections: the state of one host's pool. Pure.

It opens and closes nothing itself: it says how many connections to open, and returns those to close. Source
of the rules: Envoy's "Connection pooling" and "Circuit breaking" architecture pages.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from sidecar.errors import RequestError, UpstreamConnectError, UpstreamOverflowError
from sidecar.observability.stats import ClusterStats
from sidecar.upstream.circuit_breaker import CircuitBreaker
from sidecar.upstream.pool.pooled_connection import Lease, PooledConnection


class Waiter(Protocol):
    """A future."""

    def done(self) -> bool: ...

    def set_result(self, result: Lease, /) -> None: ...

    def set_exception(self, exception: type | BaseException, /) -> None: ...


class Pool:
    """`connections` are all open ones, `connecting` counts those being opened. `expected_streams` is the
    number of requests that a new connection is expected to carry at once.

    As long as a request waits, no connection has room: each event first serves the queue.
    """

    __slots__ = (
        "_assumed_streams",
        "_available",
        "_breaker",
        "_max_requests_per_connection",
        "_stats",
        "_told_streams",
        "_waiters",
        "connecting",
        "connections",
        "draining",
        "expected_streams",
    )

    def __init__(
        self, breaker: CircuitBreaker, stats: ClusterStats, *, max_requests_per_connection: int = 0
    ) -> None:
        """`max_requests_per_connection` 0: no limit."""
        self._breaker = breaker
        self._stats = stats
        self._max_requests_per_connection = max_requests_per_connection
        self._available: list[PooledConnection] = []  # those with room, the last used at the end
        self._waiters: deque[Waiter] = deque()
        self.connections: set[PooledConnection] = set()
        self.connecting = 0
        self.draining = False
        self.expected_streams = 1
        self._assumed_streams = 1
        self._told_streams = 0  # the limit that a connection told last; 0 is none

    def expect_streams(self, streams: int) -> None:
        """How many requests a connection carries at once, as far as it is known before it tells its limit."""
        self._assumed_streams = streams
        self._expect(streams)

    def _expect(self, streams: int) -> None:
        limit = self._max_requests_per_connection
        self.expected_streams = max(1, min(streams, limit) if limit else streams)

    # Leases.

    def checkout(self) -> Lease | None:
        """On the connection that was used last, which is the least likely to have timed out. None if no
        connection has room: the caller may `wait` then."""
        available = self._available
        while available:
            connection = available[-1]
            lease: Lease | None = None
            if connection.lent < connection.capacity and not connection.retiring:
                lease = self._lend(connection)
            if connection.lent >= connection.capacity or connection.retiring:
                available.pop()
                connection.listed = False
            if lease is not None:
                return lease
        return None

    def _lend(self, connection: PooledConnection) -> Lease:
        connection.lent += 1
        connection.lent_total += 1
        if connection.lent_total == self._max_requests_per_connection:
            self._stats.upstream_cx_max_requests += 1
            connection.retiring = True
        return Lease(connection)

    def exchange_ended(self, connection: PooledConnection, now_s: float) -> bool:
        """A lease of the connection has ended. Returns whether to close the connection now."""
        if connection.gone:  # all its leases ended with it
            return False
        connection.lent -= 1
        if connection.retiring:
            return connection.lent == 0
        connection.idle_since_s = now_s
        if self._waiters or connection.listed:
            self._offer(connection)
        elif connection.lent < connection.capacity:  # as `_offer` does, for each exchange of HTTP/1.1
            connection.listed = True
            self._available.append(connection)
        return False

    def _offer(self, connection: PooledConnection) -> None:
        """Gives the connection's room to the requests that wait, and the rest of it to later ones."""
        if self._waiters:
            self._serve_waiters(connection)
        if not connection.listed and connection.lent < connection.capacity and not connection.retiring:
            connection.listed = True
            self._available.append(connection)

    # Opening and losing connections.

    def dials_wanted(self) -> int:
        """How many connections to begin to open now: as many as the requests that wait need, less those being
        opened. A pool without any connection may open one even where the limit is reached: its requests could
        otherwise wait for ever."""
        needed = -(-len(self._waiters) // self.expected_streams)
        missing = needed - self.connecting
        if missing <= 0:
            return 0
        connections = self._breaker.connections
        allowed = connections.maximum - connections.total()
        if allowed <= 0:
            self._stats.upstream_cx_overflow += 1
            allowed = 0 if self.connecting or self.connections else 1
        return min(missing, allowed)

    def dial_begun(self) -> None:
        self.connecting += 1
        self._breaker.connections.force()

    def dial_cancelled(self) -> None:
        """A dial was cancelled: the state of the host is unknown."""
        self.connecting -= 1
        self._breaker.connections.end()

    def dial_failed(self, reason: str) -> None:
        """All requests that wait get an `UpstreamConnectError`: the host accepts no connections now, and the
        last request in the queue would otherwise wait for as many failures as there are requests before it.
        Envoy does the same, also during other attempts to connect."""
        self.dial_cancelled()
        self._stats.upstream_rq_pending_failure_eject += self.refuse_waiters(
            lambda: UpstreamConnectError(reason)
        )

    def opened(self, connection: PooledConnection, now_s: float, *, outdated: bool = False) -> bool:
        """`outdated`: the TLS configuration has changed since the dial began, so that the connection serves
        the requests that wait now, and no later ones. Returns whether to close it now."""
        self.connecting -= 1
        self.connections.add(connection)
        connection.idle_since_s = now_s
        if connection.capacity != self._assumed_streams:
            self._told_streams = connection.capacity
        elif self._told_streams:  # until this connection tells its own limit
            connection.capacity = min(connection.capacity, self._told_streams)
        self._learn_capacity(connection)
        self._serve_waiters(connection)
        if outdated or self.draining:
            connection.retiring = True
        self._offer(connection)
        return connection.retiring and connection.lent == 0

    def capacity_changed(self, connection: PooledConnection) -> None:
        """Leases above a smaller capacity continue."""
        connection.capacity = self._told_streams = connection.codec.capacity
        self._learn_capacity(connection)
        if not connection.retiring and not connection.gone:
            self._offer(connection)

    def _learn_capacity(self, connection: PooledConnection) -> None:
        """The next connection will be like this one."""
        self._expect(connection.capacity)

    def closed(self, connection: PooledConnection) -> None:
        """The connection is closed, and its leases have ended with it. Idempotent."""
        if connection.gone:
            return
        connection.gone = True
        connection.retiring = True
        connection.lent = 0
        self.connections.discard(connection)
        self._breaker.connections.end()
        self._unlist(connection)

    # Closing connections that are idle or outdated.

    def expire(self, idle_before_s: float) -> list[PooledConnection]:
        """Those to close because they have been idle since then, or longer."""
        return self.retire(
            [
                connection
                for connection in self.connections
                if connection.lent == 0
                and not connection.retiring
                and connection.idle_since_s <= idle_before_s
            ]
        )

    def oldest_idle_s(self) -> float | None:
        """Since when the longest idle connection is idle."""
        return min(
            (
                connection.idle_since_s
                for connection in self.connections
                if connection.lent == 0 and not connection.retiring
            ),
            default=None,
        )

    def retire_outdated(self, secured_by: object) -> list[PooledConnection]:
        """Retires the connections whose TLS context is another one than `secured_by`, as `retire` does."""
        return self.retire(
            [connection for connection in self.connections if connection.secured_by is not secured_by]
        )

    def drain(self) -> list[PooledConnection]:
        """Retires all connections, those to come included, as `retire` does."""
        self.draining = True
        return self.retire(list(self.connections))

    def retire(self, connections: Iterable[PooledConnection]) -> list[PooledConnection]:
        """They get no new leases. Returns those to close now, because no lease of them is left."""
        idle = []
        for connection in connections:
            connection.retiring = True
            self._unlist(connection)
            if connection.lent == 0 and not connection.gone:
                idle.append(connection)
        return idle

    def _unlist(self, connection: PooledConnection) -> None:
        if connection.listed:
            connection.listed = False
            self._available.remove(connection)

    # The queue.

    def wait(self, waiter: Waiter) -> None:
        """`waiter` gets the next lease, first come, first served, or the error of the next dial that fails.
        Raises `UpstreamOverflowError` when too many requests wait already."""
        if not self._breaker.pending_requests.begin():
            self._stats.upstream_rq_pending_overflow += 1
            raise UpstreamOverflowError("too many requests are waiting for a connection")
        self._waiters.append(waiter)
        self._stats.upstream_rq_pending_total += 1
        self._stats.upstream_rq_pending_active += 1

    def stop_waiting(self, waiter: Waiter) -> None:
        """The request was given up. Idempotent."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)
            self._count_waiter_out()

    def refuse_waiters(self, error: Callable[[], RequestError]) -> int:
        """Each request gets its own error, because the router changes errors. Returns how many waited."""
        refused = 0
        while (waiter := self._next_waiter()) is not None:
            waiter.set_exception(error())
            refused += 1
        return refused

    def _serve_waiters(self, connection: PooledConnection) -> None:
        while connection.lent < connection.capacity and not connection.retiring:
            waiter = self._next_waiter()
            if waiter is None:
                return
            waiter.set_result(self._lend(connection))

    def _next_waiter(self) -> Waiter | None:
        while self._waiters:
            waiter = self._waiters.popleft()
            self._count_waiter_out()
            if not waiter.done():
                return waiter
        return None

    def _count_waiter_out(self) -> None:
        self._breaker.pending_requests.end()
        self._stats.upstream_rq_pending_active -= 1
