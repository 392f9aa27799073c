"""Watches the unsupported kinds of Istio's API groups in a cluster: found by their CRDs, and watched while
the CRDs exist. Only the metadata of their resources is read.

A resource that may restrict traffic is rejected in the store, so that its ``.status`` reports that it has no
effect. All others are only counted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final

from controlplane.errors import KubernetesError, RefusedError
from controlplane.kinds.registry import KINDS
from controlplane.kubernetes.api import Document, Reader
from controlplane.kubernetes.list_watch import Changes, ListWatch, ObjectName, Timing, name_of
from controlplane.model.snapshot import ResourceKey
from controlplane.model.status import Origin
from controlplane.model.store import Store
from controlplane.resources.foreign import ForeignKind, is_istios
from controlplane.resources.kind_registry import unsupported
from controlplane.sources.foreign_resources import ForeignResources

_LOG = logging.getLogger(__name__)

_CRDS: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_ORIGIN: Final = "Kubernetes"
_NOT_FOUND: Final = 404
_DEFAULT_TIMING: Final = Timing()


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A kind as a cluster serves it. ``versions`` are sorted, the newest first."""

    kind: ForeignKind
    plural: str
    versions: tuple[str, ...]

    @property
    def api_version(self) -> str:
        return f"{self.kind.group}/{self.versions[0]}"

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(f"/apis/{self.kind.group}/{version}/{self.plural}" for version in self.versions)


# Called with the metadata of each object that may restrict traffic; with None when it was deleted.
OnMetadata = Callable[[ResourceKey, Served, Document | None], None]


def _ignore(_: ResourceKey, __: Served, ___: Document | None) -> None:
    pass


class ForeignKinds:
    """Watches the kinds. ``on_change`` is called on the event loop when the store has changed."""

    def __init__(
        self,
        api: Reader,
        metadata: Reader,
        store: Store,
        on_change: Callable[[], None],
        resources: ForeignResources,
        *,
        on_metadata: OnMetadata = _ignore,
        timing: Timing = _DEFAULT_TIMING,
    ) -> None:
        self._api: Final = api
        self._metadata: Final = metadata
        self._store: Final = store
        self._on_change: Final = on_change
        self._resources: Final = resources
        self._on_metadata: Final = on_metadata
        self._timing: Final = timing
        self._rng: Final = Random()
        self._to_look_at: Final[asyncio.Queue[tuple[str, int]]] = asyncio.Queue()  # with failures before
        self._followed: Final[dict[str, tuple[Served, asyncio.Task[None]]]] = {}  # by the CRD's name

    async def run(self) -> None:
        """Runs until cancelled."""
        crds = ListWatch(self._metadata, _CRDS, self._take_crds, timing=self._timing)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(crds.run(), name="follow CRDs")
            while True:
                await self._look_at(*await self._to_look_at.get(), tasks)

    def _take_crds(self, changes: Changes) -> None:
        names = [*map(name_of, changes.present), *changes.gone]
        for _, name in names:
            if is_istios(name.partition(".")[2]):  # a CRD's name is <plural>.<group>
                self._to_look_at.put_nowait((name, 0))

    async def _look_at(self, name: str, failures: int, tasks: asyncio.TaskGroup) -> None:
        """Starts, restarts or stops watching the kind of a CRD, depending on the versions that are served."""
        try:
            served = _served(await self._api.get(f"{_CRDS}/{name}"))
        except RefusedError as error:
            if error.status != _NOT_FOUND:
                self._look_again(name, failures, error)
                return
            served = None
        except KubernetesError as error:
            self._look_again(name, failures, error)
            return
        before = self._followed.get(name)
        if before is not None and before[0] == served:
            return
        if before is not None:
            self._stop_following(name)
        if served is not None:
            self._resources.update(served.kind)
            self._followed[name] = served, tasks.create_task(self._follow(served), name=f"follow {name}")

    def _look_again(self, name: str, failures: int, error: KubernetesError) -> None:
        if failures == 0:
            _LOG.warning("cannot read the CRD %s, trying again: %s", name, error)
        delay_s = self._timing.backoff.delay_s(failures + 1, self._rng)
        asyncio.get_running_loop().call_later(delay_s, self._to_look_at.put_nowait, (name, failures + 1))

    async def _follow(self, served: Served) -> None:
        path, *older = served.paths
        await ListWatch(
            self._metadata, path, partial(self._take, served), timing=self._timing, older_paths=older
        ).run()

    def _stop_following(self, name: str) -> None:
        served, task = self._followed.pop(name)
        task.cancel()
        self._take(served, Changes(gone=tuple(self._resources.names(served.kind))))
        self._resources.forget(served.kind)

    def _take(self, served: Served, changes: Changes) -> None:
        kind = served.kind
        present = {name_of(document): document for document in changes.present}
        self._resources.update(kind, present=present.keys(), gone=changes.gone)
        if not kind.may_restrict:
            return
        for name in changes.gone:
            key = _key(kind, name)
            self._store.delete(key, _ORIGIN)
            self._on_metadata(key, served, None)
        for name, document in present.items():
            key = _key(kind, name)
            origin = Origin(file=_ORIGIN, generation=document["metadata"].get("generation"))
            self._store.reject(key, (unsupported(kind),), origin)
            self._on_metadata(key, served, document)
        if self._store.has_news:
            self._on_change()


def _served(crd: Document) -> Served | None:
    """Returns None for a supported kind, and for a kind without a served version."""
    match crd.get("spec"):
        case {
            "group": str(group),
            "names": {"kind": str(name), "plural": str(plural)},
            "versions": [*versions],
        }:
            pass
        case _:
            return None
    served = tuple(sorted((each["name"] for each in versions if each.get("served")), key=_age))
    if not served or KINDS.supports(group, name):
        return None
    return Served(kind=ForeignKind(group=group, name=name), plural=plural, versions=served)


def _age(version: str) -> tuple[bool, bool, str]:
    """Sorts ``v1``, ``v1beta1``, ``v1alpha3``."""
    return "alpha" in version, "beta" in version, version


def _key(kind: ForeignKind, name: ObjectName) -> ResourceKey:
    namespace, own_name = name
    return ResourceKey(kind=kind.name, namespace=namespace, name=own_name)
