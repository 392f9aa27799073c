"""One endpoint of a cluster as the data path sees it: where it is, how it fares, what is under way there."""

from __future__ import annotations

from sidecar.config.endpoint import Endpoint, HealthStatus, SocketAddress
from sidecar.observability.stats import HostStats
from sidecar.upstream.outlier_detection import HostMonitor
from sidecar.upstream.pool.host_pool import HostPool

_EDS_HEALTHY = frozenset({HealthStatus.UNKNOWN, HealthStatus.HEALTHY})


class Host:
    """Lives as long as its address is in the cluster: updates change `endpoint`, and keep all the rest."""

    __slots__ = ("address", "endpoint", "monitor", "pool", "stats")

    def __init__(self, endpoint: Endpoint, stats: HostStats, pool: HostPool) -> None:
        self.endpoint = endpoint
        self.address: SocketAddress = endpoint.address
        self.stats = stats
        self.pool = pool
        self.monitor = HostMonitor()

    @property
    def weight(self) -> int:
        return self.endpoint.weight

    @property
    def ejected(self) -> bool:
        """By outlier detection."""
        return self.monitor.ejected

    @property
    def healthy(self) -> bool:
        return not self.monitor.ejected and self.endpoint.health in _EDS_HEALTHY

    @property
    def degraded(self) -> bool:
        return not self.monitor.ejected and self.endpoint.health is HealthStatus.DEGRADED

    @property
    def health_flags(self) -> str:
        """As Envoy's ``/clusters`` shows them."""
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
        """Neither a connection nor an attempt to make one."""
        return self.pool.drained and self.stats.cx_active == 0
