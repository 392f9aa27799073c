"""Carries bytes between a client and one host of a cluster: ``envoy.filters.network.tcp_proxy``."""

from __future__ import annotations

import asyncio
import random
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, Protocol

from sidecar.config.listener import TcpProxy
from sidecar.errors import NoClusterError, RequestError, UpstreamConnectError, UpstreamResetError
from sidecar.listener.relay import Relay
from sidecar.observability.stats import TcpProxyStats
from sidecar.observability.stream_info import Connection, StreamInfo
from sidecar.timers import Timer, Timers

# How long a side that is closed may take what was already written to it.
_FLUSH_TIMEOUT_S: Final = 5.0
# TLS streams of asyncio cannot be half-closed. When one side has ended and the other cannot be told so, what
# is still under way in the other direction may go on until it is silent for this long.
_LINGER_S: Final = 5.0
# So often are the bytes of open connections reported (the tcp_reporting_duration of Istio's metrics).
REPORT_INTERVAL_S: Final = 5.0


class TcpUpstream(Protocol):
    """A connection to a host, counted until it is released."""

    def release(self) -> None: ...


class TcpCluster(Protocol):
    """The part of `sidecar.upstream.cluster.Cluster` that a TCP proxy uses."""

    async def connect_tcp(self, protocol_factory: Callable[[], Relay], info: StreamInfo) -> TcpUpstream:
        """A connection to a host of its choice, noted in ``info``. Raises a `RequestError`."""


class TcpObserver(Protocol):
    """Metrics and access log. The ``info`` of all calls is the same object."""

    def opened(self, info: StreamInfo) -> None:
        """The host was reached."""

    def progressed(self, info: StreamInfo) -> None:
        """Its byte counts have been brought up to date; the connection goes on."""

    def closed(self, info: StreamInfo) -> None:
        """Due also when no host was reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpProxyServices:
    """What every TCP proxy of the process shares. ``find_cluster`` asks the snapshot in force, and
    raises `NoClusterError`."""

    find_cluster: Callable[[str], TcpCluster]
    timers: Timers
    observer: TcpObserver
    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time
    rng: random.Random


class TcpProxyHandler:
    """The connections of one filter chain (a `ConnectionHandler`)."""

    def __init__(self, config: TcpProxy, stats: TcpProxyStats, services: TcpProxyServices) -> None:
        self.config: Final = config
        self.stats: Final = stats
        self.services: Final = services
        self._clusters: Final = tuple(cluster.name for cluster in config.clusters)
        self._cumulative_weights: Final = tuple(accumulate(cluster.weight for cluster in config.clusters))
        self._sessions: set[_Session] = set()
        self._report_timer: Timer | None = None

    @property
    def active_connections(self) -> int:
        return len(self._sessions)

    def protocol(self, connection: Connection) -> asyncio.Protocol:
        session = _Session(self, connection)
        self._sessions.add(session)
        self._schedule_report()
        self.stats.downstream_cx_total += 1
        self.stats.downstream_cx_active += 1
        return session.downstream

    def drain(self) -> None:
        """Nothing in TCP tells a client to leave: its connections last until `close`."""

    def close(self) -> None:
        for session in tuple(self._sessions):
            session.close()

    def choose_cluster(self) -> str:
        if len(self._clusters) == 1:
            return self._clusters[0]
        point = self.services.rng.random() * self._cumulative_weights[-1]
        return self._clusters[bisect_right(self._cumulative_weights, point)]

    def ended(self, session: _Session) -> None:
        if session in self._sessions:
            self._sessions.remove(session)
            self.stats.downstream_cx_active -= 1
            self.services.observer.closed(session.info)

    def _schedule_report(self) -> None:
        """One timer for all sessions, as long as there are any."""
        if self._report_timer is None:
            self._report_timer = self.services.timers.after(REPORT_INTERVAL_S, self._report)

    def _report(self) -> None:
        self._report_timer = None
        for session in self._sessions:
            session.count_bytes()
            self.services.observer.progressed(session.info)
        if self._sessions:
            self._schedule_report()


class _Session:
    """One client's connection and the one to the host that serves it."""

    __slots__ = (
        "_closed",
        "_connecting",
        "_idle_timeout_s",
        "_lease",
        "_proxy",
        "_timer",
        "downstream",
        "info",
        "upstream",
    )

    def __init__(self, proxy: TcpProxyHandler, connection: Connection) -> None:
        services = proxy.services
        self._proxy = proxy
        self._closed = False
        self._connecting: asyncio.Task[None] | None = None
        self._lease: TcpUpstream | None = None
        self._timer: Timer | None = None
        self._idle_timeout_s = proxy.config.idle_timeout_s
        self.info = StreamInfo(connection, services.clock(), services.wall_clock())
        self.info.protocol = ""  # no HTTP, of whatever version
        self.downstream = Relay(
            clock=services.clock, on_made=self._client_connected, on_eof=self._on_eof, on_lost=self._on_lost
        )
        self.upstream = self._new_upstream()

    def close(self) -> None:
        """Both sides; what was written and not yet sent still goes out."""
        if self._closed:
            return
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self._timer is not None:
            self._timer.cancel()
        self.info.end_s = self._proxy.services.clock()
        self.count_bytes()
        for side in (self.downstream, self.upstream):
            if side.close():
                self._proxy.services.timers.after(_FLUSH_TIMEOUT_S, side.abort)
        if self._lease is not None:
            self._lease.release()
        self._proxy.ended(self)

    def count_bytes(self) -> None:
        """Notes what has passed since the last time."""
        info, stats = self.info, self._proxy.stats
        stats.downstream_cx_rx_bytes_total += self.downstream.received_bytes - info.bytes_received
        stats.downstream_cx_tx_bytes_total += self.upstream.received_bytes - info.bytes_sent
        info.bytes_received = self.downstream.received_bytes
        info.bytes_sent = self.upstream.received_bytes

    def _client_connected(self) -> None:
        # The session owns the task, and cancels it in `close`.
        self._connecting = asyncio.get_running_loop().create_task(self._connect(), name="tcp proxy connect")

    async def _connect(self) -> None:
        try:
            await self._connect_to_a_host()
        except RequestError as error:
            self.info.add_flag(error.flag)
            self.info.details = error.details
            self.info.upstream_failure = str(error)
            self._connecting = None
            self.close()
            return
        self._connecting = None
        if not self.upstream.connected:
            self.info.add_flag(UpstreamResetError.flag)
            self.info.details = UpstreamResetError.details
            self.close()
            return
        self._proxy.services.observer.opened(self.info)
        self._watch_idleness()
        # Only now: the host has proved who it is.
        self.upstream.start()
        self.downstream.start()

    async def _connect_to_a_host(self) -> None:
        name = self._proxy.choose_cluster()
        self.info.cluster = name
        try:
            cluster = self._proxy.services.find_cluster(name)
        except NoClusterError:
            self._proxy.stats.downstream_cx_no_route += 1
            raise
        while True:
            self.info.attempts += 1
            try:
                self._lease = await cluster.connect_tcp(self._new_upstream, self.info)
            except UpstreamConnectError:
                if self.info.attempts >= self._proxy.config.max_connect_attempts:
                    raise
            else:
                return

    def _new_upstream(self) -> Relay:
        """One for each attempt: what a failed one still reports is not mistaken for the next one's."""
        upstream = Relay(clock=self._proxy.services.clock, on_eof=self._on_eof, on_lost=self._on_lost)
        upstream.peer = self.downstream
        self.downstream.peer = upstream
        self.upstream = upstream
        return upstream

    def _watch_idleness(self) -> None:
        if self._idle_timeout_s > 0:
            self._timer = self._proxy.services.timers.after(self._idle_timeout_s, self._check_idleness)

    def _check_idleness(self) -> None:
        """One timer a session, set anew when it is due and not for every byte."""
        last_active_s = max(self.downstream.last_read_s, self.upstream.last_read_s, self.info.start_s)
        left_s = last_active_s + self._idle_timeout_s - self._proxy.services.clock()
        if left_s > 0:
            self._timer = self._proxy.services.timers.after(left_s, self._check_idleness)
            return
        self._proxy.stats.idle_timeout += 1
        self.info.details = "idle_timeout"
        self.close()

    def _on_eof(self, side: Relay) -> None:
        other = self.upstream if side is self.downstream else self.downstream
        if self.downstream.ended and self.upstream.ended:
            self.close()
        elif not other.write_eof():
            self._linger()

    def _linger(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._idle_timeout_s = min(self._idle_timeout_s or _LINGER_S, _LINGER_S)
        self._watch_idleness()

    def _on_lost(self, side: Relay) -> None:
        # An attempt to connect reports its own end.
        if side is self.downstream or (side is self.upstream and self._connecting is None):
            self.close()
