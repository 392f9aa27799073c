"""The half of the sidecar that carries traffic: listeners, routes, clusters, and their statistics.

One worker serves one core. Every argument and every answer of a method is a value that can be pickled, so
that a worker can run in a separate process, at the other end of a socket.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field

from protos.node import WORKLOAD_METADATA
from sidecar.config.cluster import ClusterConfig
from sidecar.config.dns import SYSTEM_RESOLVER, DnsResolver
from sidecar.config.endpoint import WorkloadMetadata
from sidecar.config.listener import TrafficDirection
from sidecar.config.snapshot import Snapshot
from sidecar.errors import ConfigError
from sidecar.identity.certs import CertificatesInUse, certificates_in_use
from sidecar.identity.svid_pem import SvidPem
from sidecar.listener.bound_addresses import BindKey
from sidecar.listener.listen_socket import OpenSocket, bind
from sidecar.listener.manager import ListenerStatus
from sidecar.observability.log_levels import set_log_levels
from sidecar.observability.report import StatsReport
from sidecar.observability.request_metrics import LocalWorkload
from sidecar.observability.series import SWEEP_INTERVAL_S
from sidecar.observability.stats import Stats
from sidecar.observability.telemetry import Telemetry
from sidecar.process.stack import build_stack
from sidecar.timers import Timers
from sidecar.upstream.outlier_detection import HostEjection
from sidecar.upstream.shared_counters import WorkerCounters
from sidecar.upstream.status import ClusterStatus, cluster_status

_LOG = logging.getLogger(__name__)

# How often certificates and roots that the configuration names as files are read again.
FOLLOW_FILES_S = 5.0
# By how many resources a configuration must grow until the collector is told that they stay.
SPARED_STEP = 100
ALL_DIRECTIONS = tuple(TrafficDirection)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """The settings of a worker, which never change. ``access_log``: ``off``, ``text`` or ``json``."""

    local_workload: LocalWorkload = field(default_factory=LocalWorkload)
    access_log: str = "off"
    drain_time_s: float = 45.0
    dns_resolver: DnsResolver = SYSTEM_RESOLVER
    node_id: str = ""
    node_cluster: str = ""


class Worker:
    """Serves the last `Snapshot` that `apply` was given, until `close`."""

    def __init__(
        self,
        config: WorkerConfig,
        *,
        timers: Timers,
        on_warm: Callable[[], None],
        open_socket: OpenSocket = bind,
        counters: WorkerCounters | None = None,
        on_ejection: Callable[[HostEjection], None] = lambda ejection: None,
    ) -> None:
        """``on_warm`` is called when the answer of `resolve_first` may have changed; ``open_socket`` returns
        the sockets to listen on. Several workers share `counters`, and learn of each other's ejections:
        `on_ejection` is called for those of this worker, and `follow_ejection` takes those of the others."""
        self._timers = timers
        self._spared = 0
        self._stats = Stats()
        self._telemetry = Telemetry(config.local_workload, access_log=config.access_log)
        stack = build_stack(
            timers=timers,
            stats=self._stats,
            telemetry=self._telemetry,
            drain_time_s=config.drain_time_s,
            dns_resolver=config.dns_resolver,
            node_id=config.node_id,
            node_cluster=config.node_cluster,
            on_warm=on_warm,
            open_socket=open_socket,
            counters=counters,
            on_ejection=on_ejection,
        )
        self._listeners = stack.listeners
        self._routes = stack.routes
        self._router = stack.router
        self._clusters = stack.clusters
        self._contexts = stack.contexts
        timers.after(FOLLOW_FILES_S, self._follow_files)
        timers.after(SWEEP_INTERVAL_S, self._forget_unused)

    # Configuration.

    async def resolve_first(self, clusters: Mapping[str, ClusterConfig]) -> Set[str]:
        """As `ClusterManager.resolve_first`."""
        return self._clusters.resolve_first(clusters)

    async def apply(self, snapshot: Snapshot) -> Mapping[str, ConfigError]:
        """Puts a snapshot in force. Everything that can be refused is built first; then clusters are replaced
        before the routes that name them, and routes before the listeners that use them.

        Returns the error of each listener that cannot be served. If it raises `ConfigError`, nothing
        has changed."""
        resources = len(snapshot.clusters) + len(snapshot.routes) + len(snapshot.listeners)
        if resources < self._spared + SPARED_STEP:
            return self._put_in_force(snapshot)
        # The garbage collector visits a large configuration neither now nor later: 1000 clusters of 10
        # endpoints would take 30 to 70 ms. Removed resources form no cycles, and are freed without it.
        gc.disable()
        try:
            errors = self._put_in_force(snapshot)
            gc.freeze()
        finally:
            gc.enable()
        self._spared = resources
        return errors

    def _put_in_force(self, snapshot: Snapshot) -> Mapping[str, ConfigError]:
        tables = self._routes.compile(snapshot.routes)
        self._contexts.use_secrets(snapshot.secrets)
        self._clusters.update(snapshot)
        self._routes.use(snapshot.routes, tables)
        self._name_workload(snapshot)
        return self._listeners.update(snapshot)

    def _name_workload(self, snapshot: Snapshot) -> None:
        """The control plane sends the workload's name with listeners: a pod does not know its owner."""
        for listener in snapshot.listeners.values():
            if own := listener.metadata.get(WORKLOAD_METADATA):
                self._telemetry.name_workload(WorkloadMetadata.parse(own))
                return

    async def use_svid(self, svid: SvidPem) -> Mapping[str, ConfigError]:
        """New connections use this certificate. Returns errors as `apply` does: listeners that waited for it
        come into service."""
        self._contexts.use_svid(svid)
        self._clusters.renew_tls()
        return self._listeners.identity_ready() if self._listeners.warming else {}

    def _follow_files(self) -> None:
        if self._contexts.follow_files():
            _LOG.info("certificate or root files have changed: new connections use them")
            self._clusters.renew_tls()
        self._timers.after(FOLLOW_FILES_S, self._follow_files)

    # Outlier detection by the other workers.

    async def follow_ejection(self, ejection: HostEjection) -> None:
        """As `ClusterManager.follow_ejection`."""
        self._clusters.follow_ejection(ejection)

    async def ejections(self) -> list[HostEjection]:
        """All hosts that are ejected now, for a new worker."""
        return [ejection for cluster in self._clusters for ejection in cluster.ejections()]

    # The end.

    async def drain(self, directions: Collection[TrafficDirection] = ALL_DIRECTIONS) -> None:
        """Asks all clients to disconnect; listeners still accept."""
        self._listeners.drain(directions)

    async def stop_accepting(self, directions: Collection[TrafficDirection] = ALL_DIRECTIONS) -> None:
        """Drains, and closes the listening sockets; open connections continue."""
        self._listeners.stop(directions)

    async def close(self) -> None:
        """Ends everything at once, requests in progress included."""
        await self._listeners.close()
        await self._router.close()
        await self._clusters.close()
        await self._telemetry.close()

    # Reports for the supervisor and the admin interface.

    async def active_connections(self) -> int:
        return self._listeners.active_connections

    @property
    def warming_listeners(self) -> frozenset[str]:
        """The names of listeners that wait for a certificate or for their routes."""
        return self._listeners.warming

    @property
    def bind_keys(self) -> frozenset[BindKey]:
        """The addresses whose sockets listeners use or will use."""
        return self._listeners.bind_keys

    async def stats(self) -> StatsReport:
        self._listeners.refresh_stats()
        reporters = self._telemetry.reporters
        return StatsReport(
            counters=tuple(self._stats.sets()),
            requests=tuple(series for reporter in reporters for series in reporter.requests()),
            connections=tuple(series for reporter in reporters for series in reporter.connections()),
        )

    async def clusters(self, names: Sequence[str]) -> list[ClusterStatus]:
        """Those clusters of ``names`` that exist, in this order."""
        found = map(self._clusters.find, names)
        return [cluster_status(cluster) for cluster in found if cluster is not None]

    async def listeners(self) -> list[ListenerStatus]:
        return self._listeners.statuses()

    async def certificates(self) -> list[CertificatesInUse]:
        return certificates_in_use(self._contexts)

    async def reopen_logs(self) -> None:
        self._telemetry.reopen_logs()

    async def set_log_levels(self, levels: Mapping[str, int]) -> None:
        set_log_levels(levels)

    def _forget_unused(self) -> None:
        """Drops the counters of removed listeners, and the series of hosts and peers that no longer exist."""
        places = {(cluster.name, "") for cluster in self._clusters}
        for cluster in self._clusters:
            workloads = (host.endpoint.workload for host in cluster.hosts.values())
            places.update((cluster.name, workload.key) for workload in workloads if workload is not None)
        self._telemetry.sweep(places)
        self._stats.keep_listeners(self._listeners.stat_prefixes())
        self._timers.after(SWEEP_INTERVAL_S, self._forget_unused)
