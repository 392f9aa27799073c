"""The objects in the cluster whose status the control plane writes, and the snapshot that brought their
version in force. Every replica keeps it, so that the elected one can start at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from controlplane.kinds.registry import KINDS
from controlplane.model.snapshot import MeshSnapshot, ResourceKey, SnapshotChange

Document = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An object as the cluster last reported it. ``version`` is its ``resourceVersion``; ``api_version`` is
    the one that the cluster serves. ``status`` None: not read yet."""

    api_version: str
    plural: str
    generation: int | None
    version: str
    status: Document | None


class Ledger:
    """Fed by the ``note`` methods and by `publish`. `changes` grows with each change."""

    def __init__(self) -> None:
        self.snapshot: MeshSnapshot | None = None
        self.changes = 0  # grows with each change
        self.newest = 0  # the generation of the snapshot that brought the newest version in force
        self._found: Final[dict[ResourceKey, Found]] = {}
        self._since: Final[dict[ResourceKey, int]] = {}

    def __contains__(self, key: ResourceKey) -> bool:
        return key in self._found

    def __iter__(self) -> Iterator[tuple[ResourceKey, Found]]:
        """Iterates over a copy, so that it can change meanwhile."""
        return iter(tuple(self._found.items()))

    def note(self, key: ResourceKey, document: Document | None) -> None:
        """The cluster reports an object of any kind; None means that it was deleted."""
        if not _has_status(key):
            return
        if document is None:
            self._forget(key)
            return
        kind = KINDS[key.kind]
        served = document.get("apiVersion", kind.api_versions[0])
        self._take(key, served, kind.plural, document, _status_of(document))

    def note_metadata(
        self, key: ResourceKey, api_version: str, plural: str, document: Document | None
    ) -> None:
        """Like `note`, when the cluster reports only the metadata."""
        found = self._found.get(key)
        if document is None:
            self._forget(key)
        elif found is None or found.version != document["metadata"]["resourceVersion"]:
            self._take(key, api_version, plural, document, None)

    def note_whole(self, key: ResourceKey, version: str, document: Document) -> None:
        """This process has changed or completely read this version of an object. The watch may already have
        reported it, or a newer one."""
        found = self._found.get(key)
        if found is not None and found.version == version:
            self._take(key, found.api_version, found.plural, document, _status_of(document))

    def _forget(self, key: ResourceKey) -> None:
        self.changes += 1
        self._found.pop(key, None)

    def _take(
        self, key: ResourceKey, api_version: str, plural: str, document: Document, status: Document | None
    ) -> None:
        self.changes += 1
        metadata = document["metadata"]
        self._found[key] = Found(
            api_version=api_version,
            plural=plural,
            generation=metadata.get("generation"),
            version=metadata["resourceVersion"],
            status=status,
        )

    def publish(
        self, snapshot: MeshSnapshot, change: SnapshotChange, in_force: Callable[[ResourceKey], object]
    ) -> None:
        """The store has built a snapshot. If only endpoints changed, no other proxies are affected."""
        self.snapshot = snapshot
        changed = [key for key in change.configs if _has_status(key)]
        if change.whole_types or changed:
            self.changes += 1
        for key in changed:
            if in_force(key) is None:
                self._since.pop(key, None)
            else:
                self._since[key] = self.newest = snapshot.generation

    def since(self, key: ResourceKey) -> int:
        """The generation of the snapshot that brought the version in force."""
        return self._since.get(key, 0)


def _has_status(key: ResourceKey) -> bool:
    """Whether the control plane writes the status of such a resource."""
    kind = KINDS.get(key.kind)
    return kind is not None and not kind.is_core


def _status_of(document: Document) -> Document:
    status = document.get("status")
    return status if isinstance(status, dict) else {}
