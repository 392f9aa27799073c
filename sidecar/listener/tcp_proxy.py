"""Carries bytes between a client and one host of a cluster: ``envoy.filters.network.tcp_proxy``."""

from __future__ import annotations

import asyncio
import random
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, Protocol, cast

from sidecar.config.listener import TcpProxy
from sidecar.errors import (
    NoClusterError,
    RequestError,
    TcpDurationError,
    TcpIdleTimeoutError,
    TcpUpstreamResetAtOnceError,
    TcpUpstreamResetError,
    UpstreamConnectError,
)
from sidecar.listener.relay import Relay
from sidecar.observability.stats import TcpProxyStats
from sidecar.observability.stream_info import DownstreamConnection, StreamInfo, fail
from sidecar.timers import Timer, Timers
from sidecar.transport.closing import Progress
from sidecar.transport.forwarding import Forwarder

# How often the bytes of open connections are reported (tcp_reporting_duration of Istio's metrics).
REPORT_INTERVAL_S: Final = 5.0


class TcpUpstream(Protocol):
    """A connection to a host, counted until it is released."""

    def release(self) -> None: ...


class TcpCluster(Protocol):
    """The part of `sidecar.upstream.cluster.Cluster` that a TCP proxy uses."""

    async def connect_tcp(self, protocol_factory: Callable[[], Relay], info: StreamInfo) -> TcpUpstream:
        """Connects to a host that the cluster picks, and records it in ``info``. Raises `RequestError`."""


class TcpObserver(Protocol):
    """Metrics and access log. All calls of one connection pass the same ``info`` object."""

    def opened(self, info: StreamInfo) -> None:
        """The host was reached."""

    def progressed(self, info: StreamInfo) -> None:
        """The byte counts of ``info`` were updated; the connection is still open."""

    def closed(self, info: StreamInfo) -> None:
        """Called also when no host was reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpProxyServices:
    """The objects that all TCP proxies share. ``find_cluster`` searches the snapshot in force, and raises
    `NoClusterError`."""

    find_cluster: Callable[[str], TcpCluster]
    timers: Timers
    forwarder: Forwarder
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

    def protocol(self, connection: DownstreamConnection) -> asyncio.Protocol:
        session = _Session(self, connection)
        self._sessions.add(session)
        self._schedule_report()
        self.stats.downstream_cx_total += 1
        self.stats.downstream_cx_active += 1
        return cast("asyncio.Protocol", session.downstream)  # it has the methods, not the base class

    def drain(self) -> None:
        """TCP cannot ask a client to disconnect: connections stay open until `close`."""

    def close(self) -> None:
        for session in tuple(self._sessions):
            session.cut()

    def choose_cluster(self) -> str:
        if len(self._clusters) == 1:
            return self._clusters[0]
        point = self.services.rng.random() * self._cumulative_weights[-1]
        return self._clusters[bisect_right(self._cumulative_weights, point)]

    def longest_duration_s(self) -> float:
        """Of a connection, 0 without a limit."""
        config = self.config
        if not config.max_duration_jitter:
            return config.max_duration_s
        return config.max_duration_s * (1 + config.max_duration_jitter * self.services.rng.random())

    def ended(self, session: _Session) -> None:
        if session in self._sessions:
            self._sessions.remove(session)
            self.stats.downstream_cx_active -= 1
            self.services.observer.closed(session.info)

    def _schedule_report(self) -> None:
        """One timer for all sessions; none without sessions."""
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
    """The connection of a client, and the one to its host.

    Each direction ends separately. When both have ended, both connections close, and the session ends when
    all written data has been sent. A broken connection breaks the other one: a reader must not take it for a
    regular end.
    """

    __slots__ = (
        "_closing",
        "_connecting",
        "_duration_timer",
        "_lease",
        "_progress",
        "_proxy",
        "_timer",
        "downstream",
        "info",
        "upstream",
    )

    def __init__(self, proxy: TcpProxyHandler, connection: DownstreamConnection) -> None:
        services = proxy.services
        self._proxy = proxy
        self._closing = False
        self._connecting: asyncio.Task[None] | None = None
        self._lease: TcpUpstream | None = None
        self._progress: Progress | None = None
        self._timer: Timer | None = None
        self._duration_timer: Timer | None = None
        self.info = StreamInfo(connection, services.clock(), services.wall_clock())
        self.info.protocol = ""  # not HTTP
        self.downstream = Relay(
            services.forwarder,
            on_made=self._client_connected,
            on_eof=self._on_eof,
            on_lost=self._on_lost,
        )
        self.upstream = self._new_upstream()

    def close(self) -> None:
        """Reads no further, and closes both sides when the written data has been sent."""
        if self._closing:
            return
        self._closing = True
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        self.downstream.close()
        self.upstream.close()
        self._end_if_both_are_lost()

    def cut(self) -> None:
        """Closes at once; a side that would miss data is reset."""
        sides = (self.downstream, self.upstream)
        cut_sides = [side for side in sides if side.unsent_bytes or (side.peer and side.peer.holds_unread)]
        for side in cut_sides:
            side.reset()
        self.close()

    def _end_if_both_are_lost(self) -> None:
        if self._lease is not None and not self.upstream.connected:
            self._lease.release()
            self._lease = None
        if not self._closing or self.downstream.connected or self.upstream.connected:
            return
        if self._timer is not None:
            self._timer.cancel()
        if self._duration_timer is not None:
            self._duration_timer.cancel()
        self.info.end_s = self._proxy.services.clock()
        self.count_bytes()
        self.downstream.end()
        self.upstream.end()
        self._proxy.ended(self)

    def count_bytes(self) -> None:
        """Records the bytes since the last call."""
        info, stats = self.info, self._proxy.stats
        stats.downstream_cx_rx_bytes_total += self.downstream.received_bytes - info.bytes_received
        stats.downstream_cx_tx_bytes_total += self.upstream.received_bytes - info.bytes_sent
        info.bytes_received = self.downstream.received_bytes
        info.bytes_sent = self.upstream.received_bytes

    def _client_connected(self) -> None:
        longest_s = self._proxy.longest_duration_s()
        if longest_s > 0:
            self._duration_timer = self._proxy.services.timers.after(longest_s, self._end_life)
        # The session owns the task, and cancels it in `close`.
        self._connecting = asyncio.get_running_loop().create_task(self._connect(), name="tcp proxy connect")

    async def _connect(self) -> None:
        try:
            await self._connect_to_a_host()
        except RequestError as error:
            fail(self.info, error)
            self._connecting = None
            self.close()
            return
        self._connecting = None
        if not self.upstream.connected:
            fail(self.info, TcpUpstreamResetAtOnceError("the host reset the connection at once"))
            self._break_other(self.upstream)
            self.close()
            return
        self._proxy.services.observer.opened(self.info)
        self._watch_idleness()
        # Not earlier: the identity of the host is verified now.
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
        """A new relay for each attempt: late events of a failed one do not affect the next."""
        upstream = Relay(self._proxy.services.forwarder, on_eof=self._on_eof, on_lost=self._on_lost)
        upstream.peer = self.downstream
        self.downstream.peer = upstream
        self.upstream = upstream
        return upstream

    def _watch_idleness(self) -> None:
        idle_timeout_s = self._proxy.config.idle_timeout_s
        if idle_timeout_s > 0:
            self._progress = Progress(idle_timeout_s, self._moved_bytes(), self._proxy.services.clock())
            self._watch_again(self._progress)

    def _watch_again(self, progress: Progress) -> None:
        self._timer = self._proxy.services.timers.after(progress.check_after_s, self._check_idleness)

    def _moved_bytes(self) -> int:
        """Bytes read from, or sent to, either side. A side that only flushes is not idle."""
        up, down = self.upstream, self.downstream
        return up.received_bytes + up.sent_bytes + down.received_bytes + down.sent_bytes

    def _check_idleness(self) -> None:
        """One timer for each session, set again when it is due and not for every byte."""
        assert self._progress is not None
        if not self._progress.stalled(self._moved_bytes(), self._proxy.services.clock()):
            self._watch_again(self._progress)
            return
        self._timer = None
        self._proxy.stats.idle_timeout += 1
        fail(self.info, TcpIdleTimeoutError(f"no bytes moved for {self._proxy.config.idle_timeout_s:g} s"))
        self.cut()

    def _end_life(self) -> None:
        self._duration_timer = None
        self._proxy.stats.max_downstream_connection_duration += 1
        longest_s = self._proxy.config.max_duration_s
        fail(self.info, TcpDurationError(f"the connection is older than {longest_s:g} s"))
        self.cut()

    def _on_eof(self, side: Relay) -> None:
        other = self.upstream if side is self.downstream else self.downstream
        if self.downstream.ended and self.upstream.ended:
            self.close()
        else:
            other.write_eof()

    def _on_lost(self, side: Relay, error: Exception | None) -> None:
        if side is not self.downstream and (side is not self.upstream or self._connecting is not None):
            return  # `connect_tcp` reports the end of an attempt
        if error is not None and not self._closing:
            if side is self.upstream:
                fail(self.info, TcpUpstreamResetError(str(error)))
            self._break_other(side)
        self.close()
        self._end_if_both_are_lost()

    def _break_other(self, side: Relay) -> None:
        """`side` is broken. The other one still gets the data before its end, if that had come."""
        other = self.upstream if side is self.downstream else self.downstream
        if not (side.ended and other.has_untaken):
            other.reset()
