"""The reports of the workers together with those of the sidecar's own calls, which no worker makes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sidecar.admin.state import WorkerReports
from sidecar.config.endpoint import Endpoint
from sidecar.grpc.call_stats import OwnCalls
from sidecar.identity.certs import CertificatesInUse
from sidecar.listener.manager import ListenerStatus
from sidecar.observability.report import StatsReport
from sidecar.process.merge import merge_clusters, merge_stats
from sidecar.upstream.status import ClusterStatus, HostStatus


class ReportsWithOwnCalls:
    """Own calls are merged into the reports of the workers as if one more worker made them."""

    def __init__(self, workers: WorkerReports, own: OwnCalls) -> None:
        self._workers: Final = workers
        self._own: Final = own

    async def stats(self) -> StatsReport:
        own = StatsReport(counters=tuple(self._own.sets()))
        return merge_stats([await self._workers.stats(), own])

    async def clusters(self, names: Sequence[str]) -> Sequence[ClusterStatus]:
        """The workers know the state of their hosts; only own calls use all addresses of a ``LOGICAL_DNS``
        cluster."""
        statuses = await self._workers.clusters(names)
        return merge_clusters([statuses, [self._status(each.name) for each in statuses]])

    def _status(self, cluster: str) -> ClusterStatus:
        hosts = [
            HostStatus(
                endpoint=Endpoint(address=replica.address, hostname=replica.name),
                stats=stats,
                ejected=False,
                health_flags="healthy",
            )
            for replica, stats in self._own.hosts(cluster)
        ]
        return ClusterStatus(name=cluster, hosts=tuple(hosts))

    async def listeners(self) -> Sequence[ListenerStatus]:
        return await self._workers.listeners()

    async def certificates(self) -> Sequence[CertificatesInUse]:
        return await self._workers.certificates()
