"""Upstream hosts and connections without sockets."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from typing import Any, cast

from sidecar.config.cluster import CircuitBreakers, ClusterConfig, Discovery
from sidecar.config.endpoint import Endpoint, HealthStatus, SocketAddress, UpstreamSource
from sidecar.config.tls import ServerNames, UpstreamTls
from sidecar.observability.stats import ClusterStats, HostStats
from sidecar.timers import Timers
from sidecar.upstream.circuit_breaker import CircuitBreaker
from sidecar.upstream.connection import ClientEnvironment, ConnectionEvents
from sidecar.upstream.connector import Dialed
from sidecar.upstream.host import Host
from sidecar.upstream.pool.host_pool import PoolEnvironment
from tests.support.virtual_time import VirtualTime


def endpoint(
    number: int = 1,
    *,
    weight: int = 1,
    priority: int = 0,
    health: HealthStatus = HealthStatus.UNKNOWN,
    labels: Mapping[str, str] | None = None,
) -> Endpoint:
    return Endpoint(
        address=SocketAddress(f"10.0.0.{number}", 9080),
        weight=weight,
        priority=priority,
        health=health,
        subset_labels=labels or {},
    )


def make_host(number: int = 1, **options: Any) -> Host:
    """A host whose pool opens no connection; `options` are those of `endpoint`."""
    where = endpoint(number, **options)
    loop = cast("asyncio.AbstractEventLoop", None)
    stats, cluster_stats, timers = HostStats(), ClusterStats(), Timers(VirtualTime())
    environment = PoolEnvironment(
        config=ClusterConfig(name="up", discovery=Discovery.STATIC),
        breaker=CircuitBreaker(CircuitBreakers()),
        stats=cluster_stats,
        dialer=NoDialer(),
        connection_factory=lambda codec_type, client: lambda alpn: FakeConnection(),
        client=ClientEnvironment(stats=cluster_stats, timers=timers),
        timers=timers,
        loop=loop,
    )
    return Host(where, stats, None, environment)


class NoDialer:
    """A `Dialer` for pools that open no connection."""

    def context(self, tls: UpstreamTls | None) -> ssl.SSLContext | None:
        return None

    async def dial(
        self,
        address: SocketAddress,
        tls: UpstreamTls | None,
        factory: Callable[[str], Any],
        source: UpstreamSource | None,
        names: ServerNames | None,
    ) -> tuple[Any, Dialed]:
        raise AssertionError(f"{address} was dialed")


class FakeConnection:
    """A `ClientConnection` that multiplexes exchanges: each ends when the test says so."""

    def __init__(self, capacity: int = 1) -> None:
        self.capacity = capacity
        self.closed = False
        self.closed_by_peer = False
        self.broke_protocol = False
        self.counts_resets = False
        self.cut_short = 0
        self.received_bytes = 0
        self.sent_bytes = 0
        self.events: ConnectionEvents | None = None
        self.goaway = False
        self.under_way = 0

    def send(self, request: object, /) -> asyncio.Future[object]:
        self.under_way += 1
        self.sent_bytes += 10
        response: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        response.set_result(request)
        return response

    def give_up(self, response: asyncio.Future[object], /) -> None:
        pass

    def end_exchange(self) -> None:
        self.under_way -= 1
        self.received_bytes += 10
        assert self.events is not None
        self.events.exchange_ended()

    def limit(self, capacity: int) -> None:
        """SETTINGS_MAX_CONCURRENT_STREAMS."""
        self.capacity = capacity
        assert self.events is not None
        self.events.capacity_changed()

    def go_away(self) -> None:
        self.goaway = True
        assert self.events is not None
        self.events.draining()

    def lose(self) -> None:
        """The peer closes it."""
        self.closed_by_peer = True
        self.close()

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self.cut_short = self.under_way
        self.under_way = 0
        if self.events is not None:
            self.events.closed()
