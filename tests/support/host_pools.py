"""A pool of a host, whose connections open when the test decides."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

from sidecar.config.cluster import CircuitBreakers, ClusterConfig, Discovery
from sidecar.config.endpoint import SocketAddress, UpstreamSource
from sidecar.config.tls import ServerNames, UpstreamTls
from sidecar.observability.stats import ClusterStats, HostStats
from sidecar.timers import Timers
from sidecar.upstream.circuit_breaker import CircuitBreaker
from sidecar.upstream.connection import ClientEnvironment, ConnectionFactory
from sidecar.upstream.connector import Dialed
from sidecar.upstream.pool.host_pool import HostPool, PoolEnvironment
from tests.support.fake_network import FakeNetwork

ADDRESS = SocketAddress("10.0.0.1", 9080)


class FakeDialer:
    """A `Dialer` whose connections open when the test decides. `alpn` is the choice of every host."""

    def __init__(self, alpn: str = "") -> None:
        self.alpn = alpn
        self.current: ssl.SSLContext | None = None
        self.pending: list[asyncio.Future[None]] = []
        self.sources: list[UpstreamSource | None] = []

    def context(self, tls: UpstreamTls | None) -> ssl.SSLContext | None:
        return self.current

    async def dial(
        self,
        address: SocketAddress,
        tls: UpstreamTls | None,
        factory: Callable[[str], Any],
        source: UpstreamSource | None,
        names: ServerNames | None,
    ) -> tuple[Any, Dialed]:
        context = self.current
        self.sources.append(source)
        opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.pending.append(opened)
        try:
            await opened
        finally:
            self.pending.remove(opened)
        dialed = Dialed(
            transport=asyncio.Transport(), context=context, peer_id="spiffe://a", local_address=ADDRESS
        )
        return factory(self.alpn), dialed


class HostPoolFixture:
    """A pool, and the objects that it works with."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        factory: ConnectionFactory,
        alpn: str = "",
        **config: Any,
    ) -> None:
        self.breaker = CircuitBreaker(config.pop("circuit_breakers", CircuitBreakers()))
        self.stats, self.host_stats = ClusterStats(), HostStats()
        self.dialer = FakeDialer(alpn)
        self.timers = Timers(loop.clock if isinstance(loop, FakeNetwork) else loop)
        config.setdefault("idle_timeout_s", 0)
        self.env = PoolEnvironment(
            config=ClusterConfig(name="up", discovery=Discovery.STATIC, **config),
            breaker=self.breaker,
            stats=self.stats,
            dialer=self.dialer,
            connection_factory=factory,
            client=ClientEnvironment(stats=self.stats, timers=self.timers),
            timers=self.timers,
            loop=loop,
        )
        self.pool = self.make_pool()

    def make_pool(self, source: UpstreamSource | None = None) -> HostPool:
        return HostPool(ADDRESS, None, self.env, self.host_stats, source)
