"""All clusters by name. A new snapshot replaces the clusters that it changes, and no others."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping, Set
from functools import partial

from sidecar.config.cluster import ClusterConfig, Discovery
from sidecar.config.codec_type import CodecType
from sidecar.config.dns import SYSTEM_RESOLVER, DnsResolver
from sidecar.config.endpoint import LoadAssignment, SocketAddress
from sidecar.config.snapshot import EMPTY_SNAPSHOT, Snapshot
from sidecar.errors import NoClusterError
from sidecar.observability.stats import Stats
from sidecar.timers import Timers
from sidecar.upstream.cluster import Cluster
from sidecar.upstream.connection import ConnectionFactory
from sidecar.upstream.connector import ClientTls
from sidecar.upstream.dns.discovery import DNS_KINDS, DnsDiscovery, DnsEnvironment
from sidecar.upstream.dns.names import NameCache, SharedLookUps
from sidecar.upstream.dns.question import Resolve
from sidecar.upstream.dns.resolver import CaresResolver
from sidecar.upstream.environment import UpstreamEnvironment
from sidecar.upstream.outlier_detection import HostEjection
from sidecar.upstream.shared_counters import SharedRow, WorkerCounters


class ClusterManager:
    """`update` takes effect at once, for requests that look for their cluster from then on. A cluster whose
    hosts are found by DNS is warmed before, by `resolve_first`; `on_warm` is called when one may be ready."""

    def __init__(
        self,
        *,
        stats: Stats,
        tls: ClientTls,
        http_connection_factory: ConnectionFactory,
        timers: Timers,
        loop: asyncio.AbstractEventLoop,
        rng: random.Random | None = None,
        resolve: Resolve | None = None,
        default_resolver: DnsResolver = SYSTEM_RESOLVER,
        is_own_listener: Callable[[SocketAddress], bool] = lambda address: False,
        on_warm: Callable[[], None] = lambda: None,
        counters: WorkerCounters | None = None,
        on_ejection: Callable[[HostEjection], None] = lambda ejection: None,
    ) -> None:
        self._stats = stats
        self._on_warm = on_warm
        self._cares = CaresResolver(loop)
        self._look_ups = SharedLookUps(resolve or self._cares, loop)
        self._dns = DnsEnvironment(resolve=self._look_ups, loop=loop, default_resolver=default_resolver)
        self._env = UpstreamEnvironment(
            loop=loop,
            timers=timers,
            tls=tls,
            connection_factory=http_connection_factory,
            resolve=NameCache(self._look_ups, loop.time),
            default_resolver=default_resolver,
            rng=rng or random.Random(),
            is_own_listener=is_own_listener,
            counters=counters,
            on_ejection=on_ejection,
        )
        self._snapshot = EMPTY_SNAPSHOT
        self._clusters: dict[str, Cluster] = {}
        self._early_ejections: list[HostEjection] = []
        self.find: Callable[[str], Cluster | None] = self._clusters.get
        """Like `get`, but returns None for an unknown name; called for each request."""
        self._discoveries: dict[str, DnsDiscovery] = {}
        self._warming: dict[str, DnsDiscovery] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def get(self, name: str) -> Cluster:
        """Raises `NoClusterError`."""
        cluster = self._clusters.get(name)
        if cluster is None:
            raise NoClusterError(f"the cluster {name!r:.300} does not exist")
        return cluster

    def __iter__(self) -> Iterator[Cluster]:
        return iter(self._clusters.values())

    def __len__(self) -> int:
        return len(self._clusters)

    def update(self, snapshot: Snapshot) -> None:
        """Resources that did not change are the same objects as before, and cost a comparison each."""
        for name in self._snapshot.clusters.keys() - snapshot.clusters.keys():
            self._remove(name)
            self._stats.forget_cluster(_stat_name(self._snapshot.clusters[name]))
        for name, config in snapshot.clusters.items():
            if self._snapshot.clusters.get(name) is not config:
                self._replace(config, _assignment(snapshot, config), self._shared_row(snapshot, name))
            elif config.discovery is Discovery.EDS:
                assignment = _assignment(snapshot, config)
                if assignment is not None and assignment is not _assignment(self._snapshot, config):
                    self._clusters[name].set_endpoints(assignment)
        self._snapshot = snapshot
        early, self._early_ejections = self._early_ejections, []
        for ejection in early:
            if ejection.cluster in self._clusters:
                self._clusters[ejection.cluster].follow_ejection(ejection)

    def follow_ejection(self, ejection: HostEjection) -> None:
        """As `Cluster.follow_ejection`. A new worker gets those of the others before its first clusters, so
        that it sends nothing to these hosts."""
        cluster = self._clusters.get(ejection.cluster)
        if cluster is None:
            self._early_ejections.append(ejection)
        else:
            cluster.follow_ejection(ejection)

    def _shared_row(self, snapshot: Snapshot, cluster: str) -> SharedRow | None:
        """None if there is one worker only, or if the cluster has no limits."""
        counters, row = self._env.counters, snapshot.counter_rows.get(cluster)
        return None if counters is None or row is None else counters.row(row)

    def resolve_first(self, clusters: Mapping[str, ClusterConfig]) -> Set[str]:
        """Begins the first look-ups of the clusters that are to serve next. Returns the names of those that
        have to wait for theirs. Look-ups of clusters that are no longer among them end."""
        wanted = {name: config for name, config in clusters.items() if config.discovery in DNS_KINDS}
        superseded: dict[str, DnsDiscovery] = {}
        for name, warming in tuple(self._warming.items()):
            if wanted.get(name) is not warming.config:
                superseded[name] = self._warming.pop(name)
                self._end(warming)
                if name not in wanted and name not in self._clusters:
                    self._stats.forget_cluster(_stat_name(warming.config))
        for name, config in wanted.items():
            serves = self._clusters.get(name)
            if name not in self._warming and (serves is None or serves.config is not config):
                self._warming[name] = self._discover(config, superseded.get(name))
        return {
            name
            for name, warming in self._warming.items()
            if not warming.warm and warming.config.dns.wait_for_warm
        }

    def _discover(self, config: ClusterConfig, superseded: DnsDiscovery | None = None) -> DnsDiscovery:
        """The names that are resolved already come from the discovery that was `superseded` before it served,
        if that was warm, otherwise from the one that serves."""
        known = (
            superseded if superseded is not None and superseded.warm else self._discoveries.get(config.name)
        )
        discovery = DnsDiscovery(
            config,
            self._stats.cluster(_stat_name(config)),
            self._dns,
            self._on_warm,
            known,
        )
        discovery.start()
        return discovery

    def _replace(
        self, config: ClusterConfig, assignment: LoadAssignment | None, shared: SharedRow | None
    ) -> None:
        """Active requests finish with the cluster that they began with."""
        discovery: DnsDiscovery | None = None
        if config.discovery in DNS_KINDS:
            discovery = self._warming.get(config.name)
            if discovery is None or discovery.config is not config:
                discovery = self._discover(config)
            self._warming.pop(config.name, None)
            assignment = discovery.assignment
        self._remove(config.name)
        stats, name = self._stats, _stat_name(config)
        http2_stats = None if config.codec_type is CodecType.HTTP1 else stats.http2(name)
        cluster = Cluster(config, stats.cluster(name), self._env, shared, http2_stats)
        self._clusters[config.name] = cluster
        if assignment is not None:
            cluster.set_endpoints(assignment)
        if discovery is not None:
            self._discoveries[config.name] = discovery
            discovery.on_change = partial(_follow, discovery, cluster)

    def _remove(self, name: str) -> None:
        discovery = self._discoveries.pop(name, None)
        if discovery is not None:
            self._end(discovery)
        cluster = self._clusters.pop(name, None)
        if cluster is not None:
            draining = self._env.draining
            draining.difference_update([removed for removed in draining if removed.drained])
            cluster.drain()

    def _end(self, discovery: DnsDiscovery) -> None:
        for task in discovery.stop():
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    def renew_tls(self) -> None:
        """The workload's certificate, or the roots that it trusts, have changed: connections with the old
        ones are closed as they become idle."""
        for cluster in self._clusters.values():
            cluster.renew_tls()

    async def close(self) -> None:
        """Closes every connection now, and ends active requests."""
        for discovery in (*self._discoveries.values(), *self._warming.values()):
            self._end(discovery)
        await asyncio.gather(*self._ending, return_exceptions=True)
        await self._look_ups.close()
        self._cares.close()
        for cluster in [*self._clusters.values(), *self._env.draining]:
            await cluster.close()


def _follow(discovery: DnsDiscovery, cluster: Cluster) -> None:
    cluster.set_endpoints(discovery.assignment)


def _stat_name(config: ClusterConfig) -> str:
    return config.alt_stat_name or config.name


def _assignment(snapshot: Snapshot, config: ClusterConfig) -> LoadAssignment | None:
    if config.discovery is Discovery.EDS:
        return snapshot.endpoints.get(config.eds_service_name or config.name)
    return config.load_assignment
