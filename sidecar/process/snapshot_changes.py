"""How a snapshot crosses to a worker in another process: only what has changed, and each resource once.

`SnapshotSender` mirrors `SnapshotReceiver`, so that a resource that did not change is the same object in both
processes as before. Pure: no I/O.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from itertools import islice
from typing import Any, Final

from sidecar.config.cluster import ClusterConfig
from sidecar.config.snapshot import EMPTY_SNAPSHOT, Snapshot
from sidecar.process.messages import Apply, LookUp, Resources

_KINDS: Final = tuple(field.name for field in fields(Snapshot))
# A worker takes one message after the other, and serves its connections between them.
_RESOURCES_A_MESSAGE: Final = 16


class SnapshotSender:
    """The supervisor's picture of a worker: the snapshot in force, and the resources that were sent ahead."""

    def __init__(self) -> None:
        self._in_force = EMPTY_SNAPSHOT
        self._before = EMPTY_SNAPSHOT
        self._ahead: dict[str, dict[str, object]] = {kind: {} for kind in _KINDS}

    def look_up(self, clusters: Mapping[str, ClusterConfig]) -> Iterator[Resources | LookUp]:
        yield from self._send_ahead("clusters", clusters)
        ahead = self._ahead["clusters"]
        for name in ahead.keys() - clusters.keys():
            del ahead[name]
        yield LookUp(clusters=tuple(clusters))

    def apply(self, snapshot: Snapshot) -> Iterator[Resources | Apply]:
        """`applied` must follow, unless the worker refuses the snapshot."""
        changed: dict[str, tuple[str, ...]] = {}
        names: dict[str, tuple[str, ...]] = {}
        for kind in _KINDS:
            old, new = getattr(self._in_force, kind), getattr(snapshot, kind)
            different = {name: value for name, value in new.items() if old.get(name) is not value}
            yield from self._send_ahead(kind, different)
            if different:
                changed[kind] = tuple(different)
            if list(old) != list(new):
                names[kind] = tuple(new)
        yield Apply(changed=changed, names=names)

    def applied(self, snapshot: Snapshot) -> None:
        for kind, ahead in self._ahead.items():
            in_force = getattr(snapshot, kind)
            for name in [name for name, value in ahead.items() if in_force.get(name) is value]:
                del ahead[name]
        self._before, self._in_force = self._in_force, snapshot

    def went_back(self) -> None:
        self._in_force = self._before

    def _send_ahead(self, kind: str, resources: Mapping[str, object]) -> Iterator[Resources]:
        in_force, ahead = getattr(self._in_force, kind), self._ahead[kind]
        new = {
            name: value
            for name, value in resources.items()
            if in_force.get(name) is not value and ahead.get(name) is not value
        }
        ahead.update(new)
        items = iter(new.items())
        while some := dict(islice(items, _RESOURCES_A_MESSAGE)):
            yield Resources(kind=kind, resources=some)


class SnapshotReceiver:
    """In the worker: puts the snapshots together."""

    def __init__(self) -> None:
        self._in_force = EMPTY_SNAPSHOT
        self._before = EMPTY_SNAPSHOT
        self._ahead: dict[str, dict[str, Any]] = {kind: {} for kind in _KINDS}

    def add(self, message: Resources) -> None:
        self._ahead[message.kind].update(message.resources)

    def clusters(self, message: LookUp) -> dict[str, ClusterConfig]:
        ahead = self._ahead["clusters"]
        for name in ahead.keys() - set(message.clusters):
            del ahead[name]
        return {name: ahead.get(name) or self._in_force.clusters[name] for name in message.clusters}

    def snapshot(self, message: Apply) -> Snapshot:
        """The next snapshot. `applied` must follow, unless it is refused."""
        parts: dict[str, Any] = {}
        for kind in _KINDS:
            part = getattr(self._in_force, kind)
            if kind in message.changed:
                ahead = self._ahead[kind]
                part = {**part, **{name: ahead[name] for name in message.changed[kind]}}
            if kind in message.names:
                part = {name: part[name] for name in message.names[kind]}
            parts[kind] = part
        return Snapshot(**parts)

    def applied(self, message: Apply, snapshot: Snapshot) -> None:
        for kind, names in message.changed.items():
            for name in names:
                del self._ahead[kind][name]
        self._before, self._in_force = self._in_force, snapshot

    def go_back(self) -> Snapshot:
        """The snapshot before the last one; it is in force again."""
        self._in_force = self._before
        return self._in_force
