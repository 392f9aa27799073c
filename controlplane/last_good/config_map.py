"""Stores the last good versions of a cluster's resources in one ConfigMap, which every replica reads and can
write.

Each entry belongs to one resource. For one object (``uid``), the entry with the highest ``generation`` is
kept, so that replicas that saw different versions agree in the end; two replicas may write the same entry. An
entry is removed when its resource has recovered or was deleted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from random import Random
from typing import Final

from prometheus_client import CollectorRegistry, Gauge

from controlplane.errors import KubernetesError, RefusedError
from controlplane.kubernetes.api import Document, KubernetesApi
from controlplane.kubernetes.list_watch import Changes, ListWatch, Timing
from controlplane.last_good.entry import decode, encode
from controlplane.model.last_good import LastGood, Unusable
from controlplane.model.snapshot import MeshSnapshot, ResourceKey, SnapshotChange
from controlplane.model.status import State
from controlplane.model.store import Store

_LOG = logging.getLogger(__name__)

CONFIG_MAP: Final = "outrigger-last-good"

_DEFAULT_TIMING: Final = Timing()
# The API server limits the keys and values of a ConfigMap to 1 MiB in total.
_MOST_BYTES: Final = 900_000
# The longest key of a ConfigMap, in characters.
_LONGEST_KEY: Final = 253
# An entry can look obsolete for a moment, because the events of different watches arrive in any order.
_REMOVAL_DELAY_S: Final = 5.0
_NOT_FOUND: Final = 404
_CONFLICT: Final = 409


class LastGoodConfigMap:
    """The caller must run ``watch``, and wait until it has synced before the first build of the store."""

    def __init__(
        self,
        api: KubernetesApi,
        namespace: str,
        store: Store,
        on_change: Callable[[], None],
        *,
        registry: CollectorRegistry,
        timing: Timing = _DEFAULT_TIMING,
        most_bytes: int = _MOST_BYTES,
        removal_delay_s: float = _REMOVAL_DELAY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api: Final = api
        self._collection: Final = f"/api/v1/namespaces/{namespace}/configmaps"
        self._store: Final = store
        self._on_change: Final = on_change
        self._backoff: Final = timing.backoff
        self._most_bytes: Final = most_bytes
        self._removal_delay_s: Final = removal_delay_s
        self._clock: Final = clock
        self._built = False  # until then, resources may still be missing in the store
        self._exists = False
        self._data: Mapping[str, str] = {}  # the ConfigMap's current data
        self._entries: Final[dict[ResourceKey, LastGood | Unusable]] = {}
        self._obsolete_since: dict[ResourceKey, float] = {}
        self._changed: Final = asyncio.Event()
        self._last_warning = ""
        self._unkept: Final = Gauge(
            "outrigger_last_good_unkept",
            "Last good versions in force that a restart would lose: the ConfigMap has no room for them.",
            registry=registry,
        )
        self.watch: Final = ListWatch(
            api,
            self._collection,
            self._take,
            timing=timing,
            selector={"fieldSelector": f"metadata.name={CONFIG_MAP}"},
        )

    def note_build(self, snapshot: MeshSnapshot, change: SnapshotChange) -> None:
        """Must be called after each build of the store."""
        self._built = True
        self._changed.set()

    async def run(self) -> None:
        """Writes changed entries until cancelled."""
        await self.watch.synced.wait()
        rng, failures = Random(), 0
        while True:
            self._changed.clear()
            try:
                await self._write_what_differs()
                failures = 0
            except KubernetesError as error:
                failures += 1
                self._warn_of(error)
            await asyncio.sleep(self._backoff.delay_s(failures, rng))
            if failures == 0:
                await self._until_news()

    async def _until_news(self) -> None:
        """Waits for a change, or until entries that seemed obsolete must be checked again."""
        try:
            async with asyncio.timeout(self._removal_delay_s if self._obsolete_since else None):
                await self._changed.wait()
        except TimeoutError:
            pass

    def _take(self, changes: Changes) -> None:
        """Takes the current state of the ConfigMap."""
        self._exists = bool(changes.present)
        data = (changes.present[-1].get("data") or {}) if changes.present else {}
        before, self._data = self._data, {name: str(value) for name, value in data.items()}
        for name in before.keys() | self._data.keys():
            key, text = _key_of(name), self._data.get(name)
            if key is None or before.get(name) == text:
                continue
            found = None if text is None else decode(text, key)
            if found is None:
                self._entries.pop(key, None)
            else:
                self._entries[key] = found
            if isinstance(found, Unusable):
                where = f"ConfigMap {CONFIG_MAP}, {name}"
                _LOG.warning("%s: the stored version cannot be used: %s", where, found.reason)
            self._store.recall(key, found)
        self._changed.set()
        if self._built and self._store.has_news:
            self._on_change()

    async def _write_what_differs(self) -> None:
        to_write = {
            _name_of(key): encode(last_good)
            for key, last_good in self._store.to_keep().items()
            if not self._has(key, last_good)
        }
        obsolete = map(_name_of, self._obsolete())
        removed = {name: None for name in obsolete if name in self._data and name not in to_write}
        fitting = self._fitting(to_write, removed)
        if not (fitting or removed):
            return
        if self._exists:
            await self._api.merge(f"{self._collection}/{CONFIG_MAP}", {"data": {**fitting, **removed}})
        else:
            await self._create(fitting)
        self._last_warning = ""

    async def _create(self, data: Mapping[str, str]) -> None:
        config_map: Document = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": CONFIG_MAP, "labels": {"app.kubernetes.io/part-of": "outrigger"}},
            "data": dict(data),
        }
        await self._api.create(self._collection, config_map)

    def _has(self, key: ResourceKey, last_good: LastGood) -> bool:
        """Whether the stored version of a resource has the same or a higher generation."""
        kept = self._entries.get(key)
        return (
            isinstance(kept, LastGood)
            and kept.uid == last_good.uid
            and kept.generation >= last_good.generation
        )

    def _obsolete(self) -> list[ResourceKey]:
        """Returns the entries that have been obsolete for `_removal_delay_s`."""
        now = self._clock()
        seen = {key for key, kept in self._entries.items() if self._is_obsolete(key, kept)}
        self._obsolete_since = {key: self._obsolete_since.get(key, now) for key in seen}
        return [key for key, at in self._obsolete_since.items() if now - at >= self._removal_delay_s]

    def _is_obsolete(self, key: ResourceKey, kept: LastGood | Unusable) -> bool:
        status = self._store.status(key)
        if status is None:
            return True
        if isinstance(kept, LastGood) and kept.uid != status.origin.uid:
            return True
        # A replica with old data may see an applied version that is older than the faulty one.
        faulty = kept.faulty_generation if isinstance(kept, LastGood) else 0
        return status.state is State.APPLIED and (status.origin.generation or 0) >= faulty

    def _fitting(self, to_write: Mapping[str, str], removed: Mapping[str, None]) -> dict[str, str]:
        """Returns the entries of ``to_write`` for which the ConfigMap has room, in the order of their
        names."""
        stay = {
            name: text for name, text in self._data.items() if name not in removed and name not in to_write
        }
        room = self._most_bytes - sum(len(name) + len(text.encode()) for name, text in stay.items())
        fitting = {}
        for name, text in sorted(to_write.items()):
            size = len(name) + len(text)
            if size <= room and len(name) <= _LONGEST_KEY:
                fitting[name] = text
                room -= size
        missing = sorted(to_write.keys() - fitting.keys())
        self._unkept.set(len(missing))
        if missing:
            text = f"ConfigMap {CONFIG_MAP} has no room for {missing[0]}"
            self._warn_once(f"{text} and {len(missing) - 1} others" if len(missing) > 1 else text)
        return fitting

    def _warn_of(self, error: KubernetesError) -> None:
        """Reports a failure, unless another replica has created or deleted the ConfigMap in the meantime."""
        status = error.status if isinstance(error, RefusedError) else None
        if status != (_NOT_FOUND if self._exists else _CONFLICT):
            self._warn_once(f"cannot write ConfigMap {CONFIG_MAP}: {error}")

    def _warn_once(self, text: str) -> None:
        """Logs a warning once, until its text changes."""
        if text != self._last_warning:
            self._last_warning = text
            _LOG.warning("a restart would lose last good versions: %s", text)


def _name_of(key: ResourceKey) -> str:
    """Returns the ConfigMap's key: ``VirtualService.bookinfo.reviews``. Kinds and namespaces contain no
    dots."""
    return f"{key.kind}.{key.namespace}.{key.name}"


def _key_of(name: str) -> ResourceKey | None:
    """Returns None for a key that does not have this form."""
    parts = name.split(".", 2)
    return ResourceKey(kind=parts[0], namespace=parts[1], name=parts[2]) if len(parts) == 3 else None
