"""Decides when accepted resources are served: not before the resources that they need. Pure.

A cluster waits for its first load assignment, or for the first look-up of its names; a listener for its route
configurations; a route configuration for new clusters that it uses. Meanwhile the version before is served.
Each wait has a limit, ``initial_fetch_timeout`` or the limit of the look-up, as in Envoy. A resource that
needs no new resource is replaced at once. Names wait until no listener does: they lead to its addresses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from dataclasses import fields

from protos import type_urls
from sidecar.config.cluster import ClusterConfig, Discovery
from sidecar.config.listener import Listener
from sidecar.config.route import RouteConfiguration
from sidecar.config.snapshot import EMPTY_SNAPSHOT, Snapshot
from sidecar.xds.references import clusters_of_listener, clusters_of_route, routes_of_listener
from sidecar.xds.store import Store


class Warming:
    """`published` is the snapshot of the data path; `candidate` is the next one."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._deadlines: dict[tuple[str, str], float] = {}
        self.published: Snapshot = EMPTY_SNAPSHOT
        self.warming_clusters: frozenset[str] = frozenset()
        self.warming_listeners: frozenset[str] = frozenset()

    def candidate(self, now: float, *, unresolved: Set[str] = frozenset()) -> Snapshot | None:
        """The snapshot to publish at ``now`` (monotonic clock); None if nothing would change. ``unresolved``:
        those of `next_clusters` whose names are being looked up for the first time."""
        awaited = self._awaited(now)
        clusters = self._clusters(awaited, unresolved)
        # A cluster whose version before is served does not block others.
        absent = self.warming_clusters - clusters.keys()
        routes = self._routes(absent)
        listeners = self._listeners(awaited, routes, absent)
        snapshot = Snapshot(
            listeners=listeners,
            routes=routes,
            clusters=clusters,
            endpoints=self._store.endpoints(),
            secrets=self._store.static.secrets,
            names=self.published.names if self.warming_listeners else self._store.names(),
        )
        return None if _same(snapshot, self.published) else snapshot

    @property
    def waits(self) -> bool:
        """Whether an accepted resource is not served yet, after the last `candidate`."""
        return bool(self.warming_clusters or self.warming_listeners)

    def next_clusters(self) -> dict[str, ClusterConfig]:
        """The clusters that were accepted and are not served yet."""
        served = self.published.clusters
        return {
            name: cluster
            for name, cluster in self._store.clusters().items()
            if served.get(name) is not cluster
        }

    def next_deadline(self) -> float | None:
        """The time of the next end of a wait; None if no wait has a limit."""
        return min((at for at in self._deadlines.values() if math.isfinite(at)), default=None)

    def wanted_endpoints(self) -> frozenset[str]:
        """The load assignments that clusters need; also those of clusters that are served until others are
        warm."""
        return frozenset(_assignments(self._store.clusters())) | frozenset(
            _assignments(self.published.clusters)
        )

    def wanted_routes(self) -> frozenset[str]:
        """The route configurations that listeners need, in the same way."""
        listeners = (*self._store.listeners().values(), *self.published.listeners.values())
        return frozenset(name for listener in listeners for name in routes_of_listener(listener))

    def _awaited(self, now: float) -> Set[tuple[str, str]]:
        """The (type, name) pairs that have not arrived and can still arrive."""
        timeouts: dict[tuple[str, str], float] = {}
        for name, timeout_s in _assignments(self._store.clusters()).items():
            timeouts[type_urls.ENDPOINT, name] = timeout_s
        for listener in self._store.listeners().values():
            for name, timeout_s in routes_of_listener(listener).items():
                timeouts[type_urls.ROUTE, name] = timeout_s
        deadlines = {
            key: self._deadlines.get(key, now + timeout_s if timeout_s else math.inf)
            for key, timeout_s in timeouts.items()
            if self._may_come(*key)
        }
        # A deadline that has passed is kept: each name is waited for once.
        self._deadlines = {
            key: deadline if deadline > now else -math.inf for key, deadline in deadlines.items()
        }
        return {key for key, deadline in deadlines.items() if deadline > now}

    def _may_come(self, type_url: str, name: str) -> bool:
        known = self._store.types[type_url]
        return not (name in known.accepted or name in known.missing or name in known.rejected)

    def _clusters(self, awaited: Set[tuple[str, str]], unresolved: Set[str]) -> dict[str, ClusterConfig]:
        ready: dict[str, ClusterConfig] = {}
        warming: set[str] = set()
        for name, cluster in self._store.clusters().items():
            if (type_urls.ENDPOINT, _assignment(cluster)) not in awaited and name not in unresolved:
                ready[name] = cluster
                continue
            warming.add(name)
            if name in self.published.clusters:
                ready[name] = self.published.clusters[name]
        self.warming_clusters = frozenset(warming)
        return ready

    def _routes(self, absent: Set[str]) -> dict[str, RouteConfiguration]:
        ready: dict[str, RouteConfiguration] = {}
        for name, route in self._store.routes().items():
            if not absent or absent.isdisjoint(clusters_of_route(route)):
                ready[name] = route
            elif name in self.published.routes:
                ready[name] = self.published.routes[name]
        return ready

    def _listeners(
        self,
        awaited: Set[tuple[str, str]],
        routes: Mapping[str, RouteConfiguration],
        absent: Set[str],
    ) -> dict[str, Listener]:
        ready: dict[str, Listener] = {}
        warming: set[str] = set()
        held_back = self._store.routes().keys() - routes.keys()
        for name, listener in self._store.listeners().items():
            names = routes_of_listener(listener)
            if (
                all((type_urls.ROUTE, route) not in awaited for route in names)
                and held_back.isdisjoint(names)
                and (not absent or absent.isdisjoint(clusters_of_listener(listener)))
            ):
                ready[name] = listener
                continue
            warming.add(name)
            if name in self.published.listeners:
                ready[name] = self.published.listeners[name]
        self.warming_listeners = frozenset(warming)
        return ready


def _assignment(cluster: ClusterConfig) -> str:
    return cluster.eds_service_name if cluster.discovery is Discovery.EDS else ""


def _assignments(clusters: Mapping[str, ClusterConfig]) -> dict[str, float]:
    """The load assignments to discover, with the seconds that their clusters wait."""
    return {
        cluster.eds_service_name: cluster.initial_fetch_timeout_s
        for cluster in clusters.values()
        if cluster.discovery is Discovery.EDS
    }


def _same(one: Snapshot, other: Snapshot) -> bool:
    """Whether both snapshots hold the same objects."""
    for field in fields(Snapshot):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if mine.keys() != theirs.keys() or any(mine[name] is not theirs[name] for name in mine):
            return False
    return True
