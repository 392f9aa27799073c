"""One endpoint of a cluster on the data path: its address, health, connections and statistics."""

from __future__ import annotations

from sidecar.config.endpoint import Endpoint, HealthStatus, SocketAddress
from sidecar.observability.stats import HostStats
from sidecar.upstream.outlier_detection import HostMonitor
from sidecar.upstream.pool.host_pool import HostPool

_EDS_HEALTHY = frozenset({HealthStatus.UNKNOWN, HealthStatus.HEALTHY})


class Host:
    """Exists as long as its address is in the cluster. Updates change `endpoint` only."""

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
        """Whether outlier detection has ejected it."""
        return self.monitor.ejected

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
        return self.pool.drained and self.stats.cx_active == 0
