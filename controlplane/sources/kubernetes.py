"""A Kubernetes cluster as the source of resources. It lists and watches every kind that the mesh uses.

Objects that users write (Services, VirtualServices, ...) are applied to the store like the documents of a
folder. Objects that the cluster maintains (Pods, Nodes, EndpointSlices, ServiceAccounts) are given to it as
observations.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from prometheus_client import CollectorRegistry, Gauge

from controlplane.kinds.registry import KINDS
from controlplane.kinds.served import read_served
from controlplane.kubernetes.api import Document, Reader
from controlplane.kubernetes.list_watch import Changes, ListWatch, Timing, name_of
from controlplane.model.snapshot import ResourceKey
from controlplane.model.status import Origin
from controlplane.model.store import Store
from controlplane.resources.resource import Resource
from controlplane.sources.kubernetes_workloads import WorkloadJoin

_ORIGIN: Final = "Kubernetes"

# The paths of the watched collections: one for each version of a kind, the newest first. Istio's CRDs serve
# v1 since release 1.22 only.
_COLLECTIONS: Final[Mapping[str, Sequence[str]]] = {
    "Node": ["/api/v1/nodes"],
    "Pod": ["/api/v1/pods"],
    "EndpointSlice": ["/apis/discovery.k8s.io/v1/endpointslices"],
    "ServiceAccount": ["/api/v1/serviceaccounts"],
    **{name: kind.paths for name, kind in KINDS.items()},
}

_DEFAULT_TIMING: Final = Timing()

# Called with each new or changed object of a kind that users write; with None when it was deleted.
OnObject = Callable[[ResourceKey, Document | None], None]
# Called with the changes of a kind, after the store knows them.
OnChanges = Callable[[Changes], None]
_NOTHING: Final[Mapping[str, OnChanges]] = MappingProxyType({})


def _ignore(_: ResourceKey, __: Document | None) -> None:
    pass


class KubernetesSource:
    """Updates a store from a cluster. ``on_change`` is called on the event loop whenever the store has
    changed, for the first time after it has received all objects. ``observers`` get the changes of a kind,
    by its name. The source also runs the watches in ``more``, and waits for them at the start."""

    def __init__(
        self,
        api: Reader,
        store: Store,
        on_change: Callable[[], None],
        *,
        dns_domain: str,
        registry: CollectorRegistry,
        on_object: OnObject = _ignore,
        observers: Mapping[str, OnChanges] = _NOTHING,
        more: Sequence[ListWatch] = (),
        timing: Timing = _DEFAULT_TIMING,
    ) -> None:
        self._api: Final = api
        self._store: Final = store
        self._on_change: Final = on_change
        self._on_object: Final = on_object
        self._observers: Final = observers
        self._join: Final = WorkloadJoin(store, dns_domain)
        self._more: Final = more
        self._timing: Final = timing
        self._staleness: Final = Gauge(
            "outrigger_kubernetes_seconds_since_sync",
            "Seconds since the last list, event or bookmark for a kind from the API server.",
            ["kind"],
            registry=registry,
        )
        self._following: tuple[asyncio.Task[None], ...] = ()
        self._started = False

    async def start(self) -> None:
        """Returns once the store has all objects of the cluster. Waits without a limit for the API server."""
        watches = [*(self._list_watch(kind, *paths) for kind, paths in _COLLECTIONS.items()), *self._more]
        self._following = tuple(
            asyncio.create_task(watch.run(), name=f"follow {watch.path}") for watch in watches
        )
        await self._until_synced(watches)
        self._started = True
        self._on_change()

    async def watch(self) -> None:
        """Watches the cluster until cancelled."""
        await asyncio.gather(*self._following)

    async def close(self) -> None:
        for task in self._following:
            task.cancel()
        await asyncio.gather(*self._following, return_exceptions=True)

    async def _until_synced(self, watches: Iterable[ListWatch]) -> None:
        """Waits for the first sync of all watches. Raises the error of a watch that fails."""
        synced = asyncio.gather(*(watch.synced.wait() for watch in watches))
        awaited: set[asyncio.Future[Any]] = {synced, *self._following}
        try:
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
            if not synced.done():
                await self.watch()
        finally:
            synced.cancel()

    def _list_watch(self, kind: str, path: str, *older_paths: str) -> ListWatch:
        watch = ListWatch(
            self._api, path, partial(self._take, kind), timing=self._timing, older_paths=older_paths
        )
        self._staleness.labels(kind=kind).set_function(watch.seconds_since_sync)
        return watch

    def _take(self, kind: str, changes: Changes) -> None:
        match kind:
            case "Node":
                self._join.take_nodes(changes)
            case "Pod":
                self._join.take_pods(changes)
            case "EndpointSlice":
                self._join.take_slices(changes)
            case "ServiceAccount":
                self._store.observe_accounts(present=map(name_of, changes.present), gone=changes.gone)
            case _:
                self._take_written(kind, changes)
        if kind in self._observers:
            self._observers[kind](changes)
        # Most events change nothing in the store: statuses of pods, heartbeats of nodes.
        if self._started and self._store.has_news:
            self._on_change()

    def _take_written(self, kind: str, changes: Changes) -> None:
        for namespace, name in changes.gone:
            key = ResourceKey(kind=kind, namespace=namespace, name=name)
            self._store.delete(key, _ORIGIN)
            self._on_object(key, None)
        for document in changes.present:
            namespace, name = name_of(document)
            key = ResourceKey(kind=kind, namespace=namespace, name=name)
            self._tell(key, document)
            self._on_object(key, document)

    def _tell(self, key: ResourceKey, document: Document) -> None:
        """Parses an object and applies or rejects it."""
        metadata = document["metadata"]
        origin = Origin(
            file=_ORIGIN, generation=metadata.get("generation"), uid=str(metadata.get("uid") or "")
        )
        found = read_served(key.kind, document)
        if isinstance(found, Resource):
            self._store.apply(key, found, origin)
        else:
            self._store.reject(key, found, origin)
