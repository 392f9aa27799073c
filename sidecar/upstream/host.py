"""One endpoint of a cluster on the data path: its address, health, connections and statistics."""

from __future__ import annotations

from typing import Final

from sidecar.config.codec_type import CodecType
from sidecar.config.endpoint import Endpoint, HealthStatus, SocketAddress, UpstreamSource
from sidecar.config.proxy_protocol import UpstreamProxyProtocol
from sidecar.config.tls import ServerNames, UpstreamTls
from sidecar.observability.stats import HostStats
from sidecar.observability.stream_info import DownstreamConnection
from sidecar.upstream.outlier_detection import HostEjection, HostMonitor
from sidecar.upstream.pool.host_pool import HostPool, PoolEnvironment
from sidecar.upstream.proxy_header import with_proxy_header

_EDS_HEALTHY = frozenset({HealthStatus.UNKNOWN, HealthStatus.HEALTHY})

_MIN_POOLS_TO_PRUNE: Final = 64

_PoolKey = tuple[UpstreamSource | None, bool, tuple[str, ...], ServerNames | None]


class Host:
    """Exists as long as its address is in the cluster. Updates change `endpoint` and `tls` only.

    It has a pool from its first request on: most hosts of a large mesh never get one, and a pool takes 1.4
    KB."""

    __slots__ = (
        "_draining",
        "_other_pools",
        "_pool",
        "_pool_env",
        "_prune_at",
        "address",
        "endpoint",
        "monitor",
        "proxy_protocol",
        "stats",
        "tls",
    )

    def __init__(
        self,
        endpoint: Endpoint,
        stats: HostStats,
        tls: UpstreamTls | None,
        pool_env: PoolEnvironment,
        proxy_protocol: UpstreamProxyProtocol | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.address: SocketAddress = endpoint.address
        self.stats = stats
        self.tls = tls
        self.proxy_protocol = proxy_protocol
        self.monitor = HostMonitor()
        self._pool_env = pool_env
        self._pool: HostPool | None = None
        self._draining = False
        self._other_pools: dict[_PoolKey, HostPool] | None = None
        self._prune_at = _MIN_POOLS_TO_PRUNE

    # Connections.

    @property
    def pool(self) -> HostPool:
        pool = self._pool
        if pool is None:
            pool = self._pool = self._make_pool(None, http2=False)
        return pool

    def _make_pool(
        self,
        source: UpstreamSource | None,
        *,
        http2: bool,
        alpn: tuple[str, ...] = (),
        names: ServerNames | None = None,
    ) -> HostPool:
        codec_type = self._pool_env.config.codec_type
        if codec_type is CodecType.DOWNSTREAM:
            codec_type = CodecType.HTTP2 if http2 else CodecType.HTTP1
        pool = HostPool(self.address, self.tls, self._pool_env, self.stats, source, codec_type, alpn, names)
        if self._draining:
            pool.drain()
        return pool

    def source_for(self, connection: DownstreamConnection) -> UpstreamSource | None:
        """How connections for this client tell it. None: they can serve any client."""
        if self.proxy_protocol is None:
            return connection.upstream_source
        return with_proxy_header(self.proxy_protocol, connection)

    def pool_for(
        self,
        source: UpstreamSource | None,
        *,
        http2: bool = False,
        alpn: tuple[str, ...] = (),
        names: ServerNames | None = None,
    ) -> HostPool:
        """The connections for the clients with this address, for the clients of HTTP/2 in a cluster that
        follows them (`CodecType.DOWNSTREAM`), for which a filter has chosen the protocols to offer, or with
        the names that requests demand; `pool` has those for all others."""
        pools = self._other_pools
        if pools is None:
            pools = self._other_pools = {}
        key = (source, http2, alpn, names)
        pool = pools.get(key)
        if pool is None:
            self._prune(pools)
            pool = pools[key] = self._make_pool(source, http2=http2, alpn=alpn, names=names)
        return pool

    def _prune(self, pools: dict[_PoolKey, HostPool]) -> None:
        """Removes the pools without connections when the number of pools has doubled."""
        if len(pools) >= self._prune_at:
            for key in [key for key, pool in pools.items() if pool.drained]:
                del pools[key]
            self._prune_at = max(_MIN_POOLS_TO_PRUNE, 2 * len(pools))

    def use_tls(self, tls: UpstreamTls | None) -> None:
        self.tls = tls
        for pool in self._pools():
            pool.use_tls(tls)

    def drain(self) -> None:
        """Closes each connection after its last exchange."""
        self._draining = True
        for pool in self._pools():
            pool.drain()

    @property
    def drained(self) -> bool:
        return all(pool.drained for pool in self._pools())

    async def close(self) -> None:
        for pool in self._pools():
            await pool.close()

    def _pools(self) -> list[HostPool]:
        pools = [] if self._pool is None else [self._pool]
        return pools if self._other_pools is None else [*pools, *self._other_pools.values()]

    # Health and balancing.

    @property
    def weight(self) -> int:
        return self.endpoint.weight

    @property
    def ejected(self) -> bool:
        """Whether outlier detection has ejected it."""
        return self.monitor.ejected

    def ejection(self, cluster: str) -> HostEjection:
        """Its state, for the other workers."""
        monitor = self.monitor
        return HostEjection(
            cluster=cluster,
            address=self.address,
            since_s=monitor.ejected_at_s if monitor.ejected else None,
            multiplier=monitor.ejection_multiplier,
        )

    @property
    def healthy(self) -> bool:
        return not self.monitor.ejected and self.endpoint.health in _EDS_HEALTHY

    @property
    def degraded(self) -> bool:
        return not self.monitor.ejected and self.endpoint.health is HealthStatus.DEGRADED

    @property
    def health_flags(self) -> str:
        """In the form of Envoy's ``/clusters``."""
        flags = ""
        if self.monitor.ejected:
            flags += "/failed_outlier_check"
        if self.endpoint.health is HealthStatus.DEGRADED:
            flags += "/degraded_eds_health"
        elif self.endpoint.health not in _EDS_HEALTHY:
            flags += "/failed_eds_health"
        return flags or "healthy"

    @property
    def unused(self) -> bool:
        """Whether it has no connection, and none is being opened."""
        return self.drained and self.stats.cx_active == 0
