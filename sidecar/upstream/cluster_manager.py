"""All clusters by name. A new snapshot changes those that it changes, and no other."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator

from sidecar.config.cluster import Cluster as ClusterConfig
from sidecar.config.cluster import Discovery
from sidecar.config.endpoint import LoadAssignment, SocketAddress
from sidecar.config.snapshot import EMPTY_SNAPSHOT, Snapshot
from sidecar.errors import NoClusterError
from sidecar.observability.stats import Stats
from sidecar.timers import Timers
from sidecar.upstream.cluster import Cluster
from sidecar.upstream.connection import Connection
from sidecar.upstream.connector import ClientTls
from sidecar.upstream.dns import DnsDiscovery, system_resolver
from sidecar.upstream.environment import Resolver, UpstreamEnvironment

_DNS = frozenset({Discovery.STRICT_DNS, Discovery.LOGICAL_DNS})


class ClusterManager:
    """`update` takes effect at once, for requests that ask for their cluster from then on."""

    def __init__(
        self,
        *,
        stats: Stats,
        tls: ClientTls,
        http_connection_factory: Callable[[], Connection],
        timers: Timers,
        loop: asyncio.AbstractEventLoop,
        rng: random.Random | None = None,
        resolve: Resolver | None = None,
        is_own_listener: Callable[[SocketAddress], bool] = lambda address: False,
    ) -> None:
        self._stats = stats
        self._env = UpstreamEnvironment(
            loop=loop,
            timers=timers,
            tls=tls,
            connection_factory=http_connection_factory,
            resolve=resolve or system_resolver(loop),
            rng=rng or random.Random(),
            is_own_listener=is_own_listener,
        )
        self._snapshot = EMPTY_SNAPSHOT
        self._clusters: dict[str, Cluster] = {}
        self._draining: list[Cluster] = []
        self._discoveries: dict[str, asyncio.Task[None]] = {}

    def get(self, name: str) -> Cluster:
        """Raises `NoClusterError`."""
        cluster = self._clusters.get(name)
        if cluster is None:
            raise NoClusterError(f"there is no cluster {name!r}")
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
                self._replace(config, _assignment(snapshot, config))
            elif config.discovery is Discovery.EDS:
                assignment = _assignment(snapshot, config)
                if assignment is not None and assignment is not _assignment(self._snapshot, config):
                    self._clusters[name].set_endpoints(assignment)
        self._snapshot = snapshot

    def _replace(self, config: ClusterConfig, assignment: LoadAssignment | None) -> None:
        """Requests under way finish with the cluster that they began with."""
        self._remove(config.name)
        cluster = Cluster(config, self._stats.cluster(_stat_name(config)), self._env)
        self._clusters[config.name] = cluster
        if config.discovery in _DNS:
            discovery = DnsDiscovery(config, cluster.stats, self._env.resolve, cluster.set_endpoints)
            self._discoveries[config.name] = self._env.loop.create_task(
                discovery.run(), name=f"resolve {config.name}"
            )
        elif assignment is not None:
            cluster.set_endpoints(assignment)

    def _remove(self, name: str) -> None:
        discovery = self._discoveries.pop(name, None)
        if discovery is not None:
            discovery.cancel()
        cluster = self._clusters.pop(name, None)
        if cluster is not None:
            cluster.drain()
            self._draining = [draining for draining in self._draining if not draining.drained]
            self._draining.append(cluster)

    def renew_tls(self) -> None:
        """To be called when the workload's certificate, or the roots that it trusts, have changed:
        connections under the old ones are closed as they fall idle."""
        for cluster in self._clusters.values():
            cluster.renew_tls()

    async def close(self) -> None:
        """Closes every connection now, requests under way included."""
        tasks = list(self._discoveries.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for cluster in [*self._clusters.values(), *self._draining]:
            await cluster.close()


def _stat_name(config: ClusterConfig) -> str:
    return config.alt_stat_name or config.name


def _assignment(snapshot: Snapshot, config: ClusterConfig) -> LoadAssignment | None:
    if config.discovery is Discovery.EDS:
        return snapshot.endpoints.get(config.eds_service_name or config.name)
    return config.load_assignment
