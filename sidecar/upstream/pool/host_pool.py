"""A host's pool at work: opens connections when requests wait for them, closes them when nobody does."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sidecar.config.cluster import ClusterConfig, HttpVersion
from sidecar.config.endpoint import SocketAddress
from sidecar.config.tls import UpstreamTls
from sidecar.errors import UpstreamConnectError, UpstreamResetError
from sidecar.observability.stats import ClusterStats, HostStats
from sidecar.timers import Timer, Timers
from sidecar.upstream.circuit_breaker import CircuitBreaker
from sidecar.upstream.connection import Connection
from sidecar.upstream.connector import Connector, Dialed
from sidecar.upstream.pool.pool import Lease, Pool


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolEnvironment:
    """What the pools of one cluster share."""

    config: ClusterConfig
    breaker: CircuitBreaker
    stats: ClusterStats
    connector: Connector
    connection_factory: Callable[[], Connection]
    timers: Timers
    loop: asyncio.AbstractEventLoop


class HostPool:
    """`checkout`, and where that finds nothing `acquire`; the codec gives connections back by itself when an
    exchange has ended, `give_back` is for one that was never begun."""

    __slots__ = (
        "_dials",
        "_env",
        "_host_stats",
        "_idle_timer",
        "_pool",
        "_tls_generation",
        "address",
        "checkout",
        "tls",
    )

    def __init__(
        self, address: SocketAddress, tls: UpstreamTls | None, env: PoolEnvironment, host_stats: HostStats
    ) -> None:
        self.address = address
        self.tls = tls
        self._env = env
        self._host_stats = host_stats
        self._pool = Pool(
            env.breaker, env.stats, max_requests_per_connection=env.config.max_requests_per_connection
        )
        self.checkout = self._pool.checkout
        self._dials: set[asyncio.Task[None]] = set()
        self._idle_timer: Timer | None = None
        self._tls_generation = 0

    @property
    def drained(self) -> bool:
        return not self._pool.leases and not self._dials

    async def acquire(self) -> Lease:
        """Waits for a connection. Raises `UpstreamOverflowError` and `UpstreamConnectError`."""
        waiter: asyncio.Future[Lease] = self._env.loop.create_future()
        self._pool.wait(waiter)
        self._open_wanted()
        try:
            return await waiter
        except asyncio.CancelledError:
            self._pool.stop_waiting(waiter)
            # It may have been served in the very moment that it was cancelled.
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.give_back(waiter.result())
            raise

    def give_back(self, lease: Lease) -> None:
        self._count_bytes(lease)
        if self._pool.returned(lease, self._env.loop.time()):
            lease.connection.close()
        self._watch_idle()

    def lost(self, lease: Lease) -> None:
        """The codec says that the connection is gone."""
        if lease not in self._pool.leases:
            return
        self._pool.lost(lease)
        self._count_bytes(lease)
        self._count_closed()
        if lease.connection.cut_short:
            self._count_cut_short(lease.connection)
        self._open_wanted()

    def _count_opening(self) -> None:
        """As for Envoy, a connection counts from the attempt to open it."""
        self._env.stats.upstream_cx_total += 1
        self._env.stats.upstream_cx_active += 1
        self._host_stats.cx_total += 1
        self._host_stats.cx_active += 1

    def _count_closed(self) -> None:
        self._env.stats.upstream_cx_active -= 1
        self._env.stats.upstream_cx_destroy += 1
        self._host_stats.cx_active -= 1

    def _count_cut_short(self, connection: Connection) -> None:
        stats = self._env.stats
        stats.upstream_cx_destroy_with_active_rq += 1
        if connection.closed_by_peer:
            stats.upstream_cx_destroy_remote_with_active_rq += 1
        else:
            stats.upstream_cx_destroy_local_with_active_rq += 1
            stats.upstream_rq_tx_reset += connection.cut_short

    def _count_bytes(self, lease: Lease) -> None:
        connection, stats = lease.connection, self._env.stats
        stats.upstream_cx_rx_bytes_total += connection.received_bytes - lease.received_bytes
        stats.upstream_cx_tx_bytes_total += connection.sent_bytes - lease.sent_bytes
        lease.received_bytes = connection.received_bytes
        lease.sent_bytes = connection.sent_bytes

    def use_tls(self, tls: UpstreamTls | None, context: ssl.SSLContext | None) -> None:
        """Connections that stand under another context are let go as they fall idle: a rotation of the
        workload's certificate drops no request."""
        self.tls = tls
        self._tls_generation += 1
        _close(self._pool.retire(except_secured_by=context))

    def drain(self) -> None:
        """The host has left: closes each connection after its last exchange."""
        _close(self._pool.drain())

    async def close(self) -> None:
        """Closes everything now, exchanges under way included."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self._pool.refuse_waiters(lambda: UpstreamResetError("the proxy is closing"))
        dials = list(self._dials)
        for dial in dials:
            dial.cancel()
        await asyncio.gather(*dials, return_exceptions=True)
        self._pool.drain()
        _close(list(self._pool.leases))

    def _open_wanted(self) -> None:
        for _ in range(self._pool.connections_wanted()):
            self._pool.opening()
            self._count_opening()
            dial = self._env.loop.create_task(self._open(), name=f"connect to {self.address}")
            self._dials.add(dial)
            dial.add_done_callback(self._dials.discard)

    async def _open(self) -> None:
        env, tls_generation = self._env, self._tls_generation
        try:
            dialed = await self._dial()
        except UpstreamConnectError as error:
            self._host_stats.cx_connect_fail += 1
            self._count_closed()
            self._pool.open_failed(str(error))
            return
        except asyncio.CancelledError:
            self._count_closed()
            self._pool.opening_ended()
            raise
        connection = dialed.protocol
        lease = Lease(
            connection,
            secured_by=dialed.context,
            peer_id=dialed.peer_id,
            local_address=dialed.local_address,
        )
        connection.observer = _Observer(self, lease)
        self._pool.opened(lease, env.loop.time())
        if connection.closed:
            self.lost(lease)
        elif self._pool.draining or tls_generation != self._tls_generation:
            _close(self._pool.let_go([lease]))  # what it was opened for has changed meanwhile
        self._watch_idle()

    async def _dial(self) -> Dialed[Connection]:
        env = self._env
        if env.config.http_version is HttpVersion.HTTP2:
            # Said, rather than HTTP/1.1 spoken to who will not understand it; tunnels to the host still work.
            raise UpstreamConnectError(
                "the upstream speaks HTTP/2 alone, which this proxy does not speak yet"
            )
        return await env.connector.dial(self.address, self.tls, env.connection_factory)

    def _watch_idle(self) -> None:
        """One timer a pool, for whichever connection has been idle longest."""
        timeout_s = self._env.config.idle_timeout_s
        if self._idle_timer is not None or timeout_s <= 0:
            return
        oldest_s = self._pool.oldest_idle_s()
        if oldest_s is not None:
            delay_s = max(0.0, oldest_s + timeout_s - self._env.loop.time())
            self._idle_timer = self._env.timers.after(delay_s, self._close_expired)

    def _close_expired(self) -> None:
        self._idle_timer = None
        expired = self._pool.expire(self._env.loop.time() - self._env.config.idle_timeout_s)
        self._env.stats.upstream_cx_idle_timeout += len(expired)
        _close(expired)
        self._watch_idle()


class _Observer:
    """Knows which lease of which pool a connection is."""

    __slots__ = ("_lease", "_pool")

    def __init__(self, pool: HostPool, lease: Lease) -> None:
        self._pool = pool
        self._lease = lease

    def connection_idle(self, connection: Connection) -> None:
        self._pool.give_back(self._lease)

    def connection_closed(self, connection: Connection) -> None:
        self._pool.lost(self._lease)


def _close(leases: Iterable[Lease]) -> None:
    for lease in leases:
        lease.connection.close()
