"""The connections to one host: opened when requests wait for them, closed when no request needs them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Protocol

from sidecar.config.cluster import ClusterConfig
from sidecar.config.codec_type import CodecType
from sidecar.config.endpoint import SocketAddress, UpstreamSource
from sidecar.config.tls import ServerNames, UpstreamTls
from sidecar.errors import IdentityError, UpstreamConnectError, UpstreamResetError
from sidecar.observability.stats import ClusterStats, HostStats
from sidecar.timers import Timer, Timers
from sidecar.upstream.circuit_breaker import CircuitBreaker
from sidecar.upstream.connection import ClientConnection, ClientEnvironment, ConnectionFactory
from sidecar.upstream.connector import Dialed, ProtocolT
from sidecar.upstream.pool.pool import Pool
from sidecar.upstream.pool.pooled_connection import Lease, PooledConnection

# Connections for one client are of no use to others, and there may be any number of clients.
SOURCE_IDLE_TIMEOUT_S: Final = 60.0


class Dialer(Protocol):
    """The part of `Connector` that a pool uses."""

    def context(self, tls: UpstreamTls | None) -> ssl.SSLContext | None: ...

    async def dial(
        self,
        address: SocketAddress,
        tls: UpstreamTls | None,
        factory: Callable[[str], ProtocolT],
        source: UpstreamSource | None,
        names: ServerNames | None,
    ) -> tuple[ProtocolT, Dialed]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolEnvironment:
    """The objects that the pools of one cluster share."""

    config: ClusterConfig
    breaker: CircuitBreaker
    stats: ClusterStats
    dialer: Dialer
    connection_factory: ConnectionFactory
    client: ClientEnvironment
    timers: Timers
    loop: asyncio.AbstractEventLoop


class HostPool:
    """`checkout` gives a lease if a connection has room, and `acquire` waits for one. The events of the
    connections end the leases."""

    __slots__ = (
        "_alpn",
        "_codec_type",
        "_dials",
        "_env",
        "_host_stats",
        "_idle_timeout_s",
        "_idle_timer",
        "_names",
        "_pool",
        "_source",
        "_tls_generation",
        "address",
        "checkout",
        "tls",
    )

    def __init__(
        self,
        address: SocketAddress,
        tls: UpstreamTls | None,
        env: PoolEnvironment,
        host_stats: HostStats,
        source: UpstreamSource | None = None,
        codec_type: CodecType | None = None,
        alpn: tuple[str, ...] = (),
        names: ServerNames | None = None,
    ) -> None:
        """`source`: all connections come from this address, for one client. `codec_type`: None is that of the
        cluster. `alpn`: the protocols to offer in TLS, and `names`: those of the host, instead of the
        configured ones."""
        self._source = source
        self._names = names
        self._codec_type = env.config.codec_type if codec_type is None else codec_type
        self._idle_timeout_s = env.config.idle_timeout_s
        if source is not None and not 0 < self._idle_timeout_s < SOURCE_IDLE_TIMEOUT_S:
            self._idle_timeout_s = SOURCE_IDLE_TIMEOUT_S
        self.address = address
        self._alpn = alpn
        self.tls = offering_alpn(tls, self._codec_type, alpn)
        self._env = env
        self._host_stats = host_stats
        self._pool = Pool(
            env.breaker, env.stats, max_requests_per_connection=env.config.max_requests_per_connection
        )
        if self._codec_type is not CodecType.HTTP1:
            # Until the first connection knows better: the requests that wait for it need no others.
            self._pool.expect_streams(env.config.http2.max_concurrent_streams)
        self.checkout = self._pool.checkout
        self._dials: set[asyncio.Task[None]] = set()
        self._idle_timer: Timer | None = None
        self._tls_generation = 0

    @property
    def drained(self) -> bool:
        """No connection is open or being opened."""
        return not self._pool.connections and not self._dials

    async def acquire(self) -> Lease:
        """Raises `UpstreamOverflowError` and `UpstreamConnectError`."""
        waiter: asyncio.Future[Lease] = self._env.loop.create_future()
        self._pool.wait(waiter)
        self._begin_dials()
        try:
            return await waiter
        except asyncio.CancelledError:
            self._pool.stop_waiting(waiter)
            # The waiter may have got its lease just before the request was cancelled.
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                waiter.result().give_back()
            raise

    # The events of its connections.

    def exchange_ended(self, connection: PooledConnection) -> None:
        self._count_bytes(connection)
        if self._pool.exchange_ended(connection, self._env.loop.time()):
            connection.codec.close()
        if self._idle_timer is None:
            self._watch_idle()

    def capacity_changed(self, connection: PooledConnection) -> None:
        expected_streams = self._pool.expected_streams
        self._pool.capacity_changed(connection)
        self._begin_dials_if_fewer(expected_streams)

    def connection_draining(self, connection: PooledConnection) -> None:
        _close(self._pool.retire([connection]))
        self._begin_dials()

    def duration_reached(self, connection: PooledConnection) -> None:
        """The connection is as old as it may be."""
        connection.duration_timer = None
        self._env.stats.upstream_cx_max_duration_reached += 1
        self.connection_draining(connection)

    def connection_closed(self, connection: PooledConnection) -> None:
        if connection.gone:
            return
        self._pool.closed(connection)
        if connection.duration_timer is not None:
            connection.duration_timer.cancel()
        self._count_bytes(connection)
        self._count_closed()
        self._env.stats.upstream_cx_protocol_error += connection.codec.broke_protocol
        if connection.codec.cut_short:
            self._count_cut_short(connection.codec)
        self._begin_dials()

    # Statistics.

    def _count_opening(self) -> None:
        """Like Envoy, a connection counts from the attempt to open it."""
        self._env.stats.upstream_cx_total += 1
        self._env.stats.upstream_cx_active += 1
        self._host_stats.cx_total += 1
        self._host_stats.cx_active += 1

    def _count_closed(self) -> None:
        self._env.stats.upstream_cx_active -= 1
        self._env.stats.upstream_cx_destroy += 1
        self._host_stats.cx_active -= 1

    def _count_cut_short(self, codec: ClientConnection) -> None:
        stats = self._env.stats
        stats.upstream_cx_destroy_with_active_rq += 1
        if codec.closed_by_peer:
            stats.upstream_cx_destroy_remote_with_active_rq += 1
        else:
            stats.upstream_cx_destroy_local_with_active_rq += 1
            if not codec.counts_resets:
                stats.upstream_rq_tx_reset += codec.cut_short

    def _count_bytes(self, connection: PooledConnection) -> None:
        codec, stats = connection.codec, self._env.stats
        received_bytes, sent_bytes = codec.received_bytes, codec.sent_bytes
        stats.upstream_cx_rx_bytes_total += received_bytes - connection.received_bytes
        stats.upstream_cx_tx_bytes_total += sent_bytes - connection.sent_bytes
        connection.received_bytes = received_bytes
        connection.sent_bytes = sent_bytes

    # Configuration, and the end.

    def use_tls(self, tls: UpstreamTls | None) -> None:
        """Connections with another context are closed as they become idle: a rotation of the workload's
        certificate fails no request."""
        self.tls = offering_alpn(tls, self._codec_type, self._alpn)
        self._tls_generation += 1
        try:
            context = self._env.dialer.context(self.tls)
        except IdentityError:
            return  # open connections remain; requests that need a new one get the error
        _close(self._pool.retire_outdated(context))

    def drain(self) -> None:
        """The host has left: closes each connection after its last exchange."""
        self._stop_watching_idle()  # else the timer keeps the pool in memory
        _close(self._pool.drain())

    async def close(self) -> None:
        """Closes all connections now, and ends active exchanges."""
        self._stop_watching_idle()
        self._pool.refuse_waiters(lambda: UpstreamResetError("the proxy is closing"))
        dials = list(self._dials)
        for dial in dials:
            dial.cancel()
        await asyncio.gather(*dials, return_exceptions=True)
        self._pool.drain()
        _close(list(self._pool.connections))

    # Dials.

    def _begin_dials(self) -> None:
        for _ in range(self._pool.dials_wanted()):
            self._pool.dial_begun()
            self._count_opening()
            dial = self._env.loop.create_task(self._open(), name=f"connect to {self.address}")
            self._dials.add(dial)
            dial.add_done_callback(self._dials.discard)

    def _begin_dials_if_fewer(self, expected_streams: int) -> None:
        """A new connection carries fewer streams than were expected when the dials began."""
        if self._pool.expected_streams < expected_streams:
            self._begin_dials()

    async def _open(self) -> None:
        tls_generation = self._tls_generation
        try:
            codec, dialed = await self._dial()
        except UpstreamConnectError as error:
            self._host_stats.cx_connect_fail += 1
            self._count_closed()
            self._pool.dial_failed(str(error))
            return
        except asyncio.CancelledError:
            self._count_closed()
            self._pool.dial_cancelled()
            raise
        self._add(codec, dialed, outdated=tls_generation != self._tls_generation)

    async def _dial(self) -> tuple[ClientConnection, Dialed]:
        env = self._env
        make_codec = env.connection_factory(self._codec_type, env.client)
        return await env.dialer.dial(self.address, self.tls, make_codec, self._source, self._names)

    def _add(self, codec: ClientConnection, dialed: Dialed, *, outdated: bool) -> None:
        connection = _OwnedConnection(codec, self, dialed)
        codec.events = connection
        expected_streams = self._pool.expected_streams
        unused = self._pool.opened(connection, self._env.loop.time(), outdated=outdated)
        if codec.closed:
            self.connection_closed(connection)
        elif unused:
            codec.close()
        elif self._env.config.max_connection_duration_s > 0:
            longest_s = self._env.config.max_connection_duration_s
            connection.duration_timer = self._env.timers.after(longest_s, connection.duration_reached)
        self._begin_dials_if_fewer(expected_streams)
        self._watch_idle()

    # Idle connections.

    def _watch_idle(self) -> None:
        """One timer for the pool, for the connection that has been idle longest."""
        timeout_s = self._idle_timeout_s
        if self._idle_timer is not None or timeout_s <= 0:
            return
        oldest_s = self._pool.oldest_idle_s()
        if oldest_s is not None:
            delay_s = max(0.0, oldest_s + timeout_s - self._env.loop.time())
            self._idle_timer = self._env.timers.after(delay_s, self._close_expired)

    def _stop_watching_idle(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None

    def _close_expired(self) -> None:
        self._idle_timer = None
        expired = self._pool.expire(self._env.loop.time() - self._idle_timeout_s)
        self._env.stats.upstream_cx_idle_timeout += len(expired)
        _close(expired)
        self._watch_idle()


class _OwnedConnection(PooledConnection):
    """The `ConnectionEvents` of a codec: passes them to the pool."""

    __slots__ = ("_owner",)

    def __init__(self, codec: ClientConnection, owner: HostPool, dialed: Dialed) -> None:
        super().__init__(
            codec,
            secured_by=dialed.context,
            peer_id=dialed.peer_id,
            local_address=dialed.local_address,
        )
        self._owner = owner

    def exchange_ended(self) -> None:
        self._owner.exchange_ended(self)

    def capacity_changed(self) -> None:
        self._owner.capacity_changed(self)

    def duration_reached(self) -> None:
        self._owner.duration_reached(self)

    def draining(self) -> None:
        self._owner.connection_draining(self)

    def closed(self) -> None:
        self._owner.connection_closed(self)


_ALPN: Final = {
    CodecType.HTTP1: ("http/1.1",),
    CodecType.HTTP2: ("h2",),
    CodecType.AUTO: ("h2", "http/1.1"),
}


@lru_cache(maxsize=256)
def offering_alpn(
    tls: UpstreamTls | None, codec_type: CodecType, alpn: tuple[str, ...] = ()
) -> UpstreamTls | None:
    """TLS that offers `alpn` to a host; if it is empty, the configured ``alpn_protocols``, or else, as in
    Envoy, the protocols of `codec_type`."""
    if tls is None or (tls.parameters.alpn_protocols and not alpn):
        return tls
    return replace(tls, parameters=replace(tls.parameters, alpn_protocols=alpn or _ALPN[codec_type]))


def _close(connections: Iterable[PooledConnection]) -> None:
    for connection in connections:
        connection.codec.close()
