"""The store: sources feed it resources, and observations of a cluster's pods; it builds the `MeshSnapshot`s
that the builders read.

A faulty resource is quarantined alone; its last good version, if it had one, stays in force. Every `build`
validates again, so that the order in which resources arrive does not matter. `to_keep` has the state that a
process that starts later cannot find out by itself; `recall` gives it back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import copy
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, Final

from controlplane.errors import ResourceError
from controlplane.model.endpoint_changes import altering_clusters, readdressed, renamed
from controlplane.model.journal import Statuses, log_changes
from controlplane.model.kind import Account, ModelKind
from controlplane.model.last_good import LastGood, Unusable
from controlplane.model.mesh_config import MeshConfig
from controlplane.model.record import NOTHING_KEPT, Kept, Reading, Record, Version
from controlplane.model.snapshot import MeshSnapshot, ResourceKey, SnapshotChange
from controlplane.model.snapshot_builder import Observation, SnapshotBuilder
from controlplane.model.status import Origin, ResourceStatus
from controlplane.model.validator import Validator
from controlplane.model.view import View
from controlplane.resources.deprecation import deprecations
from controlplane.resources.resource import Resource
from protos.type_urls import CLUSTER

# The views in force before and after.
_Changes = dict[ResourceKey, tuple[View | None, View | None]]
_MESH_DEFAULTS = MeshConfig()


class Store:
    """Not thread-safe: one event loop feeds it and builds from it. ``kinds`` are those of the resources that
    it accepts, by name."""

    def __init__(
        self,
        kinds: Mapping[str, ModelKind[Any, Any]],
        mesh_config: MeshConfig = _MESH_DEFAULTS,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._kinds: Final = kinds
        self._mesh = mesh_config
        self._clock = clock
        self._records: dict[str, dict[ResourceKey, Record]] = defaultdict(dict)
        self._validator: Final = Validator(kinds, self._all, mesh_config.root_namespace)
        self._builder: Final = SnapshotBuilder(kinds, self._all, mesh_config)
        self._kept: dict[ResourceKey, Kept] = {}
        self._served: frozenset[ResourceKey] | None = None  # None: no state of an earlier process exists
        self._counting_files: Mapping[ResourceKey, str] = {}
        self._to_keep: dict[ResourceKey, LastGood] = {}
        self._dirty: dict[ResourceKey, None] = {}  # in the order of the events
        self._observed: dict[ResourceKey, Observation] = {}
        self._newly_observed: dict[ResourceKey, None] = {}
        self._accounts: set[Account] = set()
        self._in_force: dict[ResourceKey, Version] = {}
        self._arrived: dict[ResourceKey, int] = {}
        self._statuses: dict[ResourceKey, Statuses] = {}
        self._status_changes = 0

    def apply(self, key: ResourceKey, resource: Resource, origin: Origin) -> None:
        """A source has read a valid resource."""
        record = self._record(key)
        reading = record.readings.get(origin.file)
        known = reading.version if reading is not None else None
        if (
            reading is not None
            and known is not None
            and (known.resource, known.uid) == (resource, origin.uid)
        ):
            if reading.origin != origin:
                reading.origin = origin
                known.generation = max(known.generation, origin.generation or 0)
                self._dirty[key] = None
            return
        generation = reading.generation + 1 if reading else 1
        version = self._version(record, resource, origin.generation or 0, origin.uid)
        record.readings[origin.file] = Reading(origin=origin, generation=generation, version=version)
        self._dirty[key] = None

    def reject(self, key: ResourceKey, errors: Sequence[ResourceError], origin: Origin) -> None:
        """A source has read an invalid resource, or a document that is not a resource."""
        record = self._record(key)
        reading = record.readings.get(origin.file)
        if reading is not None and reading.says(errors) and reading.origin == origin:
            return
        generation = reading.generation + 1 if reading else 1
        record.readings[origin.file] = Reading(origin=origin, generation=generation, errors=tuple(errors))
        self._dirty[key] = None

    def delete(self, key: ResourceKey, file: str) -> None:
        """A source no longer has the resource."""
        record = self._records[key.kind].get(key)
        if record is not None and record.readings.pop(file, None) is not None:
            self._dirty[key] = None

    def observe(self, key: ResourceKey, observation: Observation | None) -> None:
        """A source sees a pod or an EndpointSlice; None means that it was deleted."""
        if self._observed.get(key) == observation:
            return
        if observation is None:
            del self._observed[key]
        else:
            self._observed[key] = observation
        self._newly_observed[key] = None

    def observe_accounts(self, *, present: Iterable[Account] = (), gone: Iterable[Account] = ()) -> None:
        """A source sees service accounts, or that they were deleted. A pod always has its account; a
        WorkloadEntry may name one that is missing, and gets a warning."""
        changed = set(present) - self._accounts | self._accounts.intersection(gone)
        self._accounts ^= changed
        naming = [name for name, kind in self._kinds.items() if kind.service_account is not None]
        for record in [record for name in naming if changed for record in self._all(name)]:
            if self._validator.account_of(record) in changed:
                self._dirty[record.key] = None

    def recall(self, key: ResourceKey, found: LastGood | Unusable | None) -> None:
        """Takes the stored version of a resource; None means that none is stored, or that it was removed."""
        record = self._records[key.kind].get(key)
        match found:
            case None:
                kept = NOTHING_KEPT
            case Unusable(reason=reason):
                kept = Kept(unusable=reason)
            case LastGood():
                holder = record or Record(key=key)
                version = self._version(holder, found.resource, found.generation, found.uid)
                kept = Kept(version=version, since=found.since)
        self._kept[key] = kept
        if kept is NOTHING_KEPT:
            del self._kept[key]
        if record is not None:
            record.kept = kept
            self._dirty[key] = None

    def remember(self, in_force: Iterable[ResourceKey]) -> None:
        """Must be called before the first `build`, with the resources that were in force after the last build
        of an earlier process. They take precedence over all others."""
        self._served = frozenset(in_force)

    def prefer(self, files: Mapping[ResourceKey, str]) -> None:
        """Must be called before the first resource is added: the file whose reading counts, for resources
        that several files have."""
        self._counting_files = files

    def to_keep(self) -> Mapping[ResourceKey, LastGood]:
        """The last good versions of all quarantined resources, after the last `build`."""
        return self._to_keep

    def keys_in_force(self) -> frozenset[ResourceKey]:
        """The resources in force after the last `build`."""
        return frozenset(self._in_force)

    def counting_files(self) -> dict[ResourceKey, str]:
        """The file whose reading counts, for resources that several files have, after the last `build`."""
        return {key: first.origin.file for key, (first, *others) in self._statuses.items() if others}

    def status(self, key: ResourceKey) -> ResourceStatus | None:
        """The status of a resource, by the reading that counts, after the last `build`."""
        return next(iter(self._statuses.get(key, ())), None)

    @property
    def has_news(self) -> bool:
        """Whether anything was added or deleted since the last `build`."""
        return bool(self._dirty or self._newly_observed)

    def statuses(self) -> list[ResourceStatus]:
        """The statuses of all resources after the last `build`."""
        keys = sorted(self._statuses, key=attrgetter("kind", "namespace", "name"))
        return [status for key in keys for status in self._statuses[key]]

    def in_force(self, key: ResourceKey) -> View | None:
        """The view of a resource in force: the same objects as in the last snapshot."""
        version = self._in_force.get(key)
        return version.view if version else None

    def arrived(self, key: ResourceKey) -> int:
        """The generation of the snapshot that brought the version in force."""
        return self._arrived.get(key, 0)

    def examine(
        self, key: ResourceKey, found: Resource | tuple[ResourceError, ...], origin: Origin
    ) -> ResourceStatus:
        """The status that a resource, or one with these errors, would have after the next `build`. Nothing
        changes."""
        known = self._records[key.kind].get(key)
        candidate = (
            copy(known) if known else Record(key=key, kept=self._kept.get(key, NOTHING_KEPT), late=True)
        )
        reading = Reading(origin=origin, generation=origin.generation or 0)
        if isinstance(found, Resource):
            reading.version = self._version(candidate, found, 0, origin.uid)
        else:
            reading.errors = found
        candidate.readings = {origin.file: reading}
        self._validator.examine(candidate, self._accounts, self._now())
        return candidate.statuses()[0]

    def knows_good(self, key: ResourceKey) -> bool:
        """Whether a version of a resource is in force or stored."""
        return key in self._in_force or self._kept.get(key, NOTHING_KEPT).version is not None

    def status_changes(self) -> int:
        """The number of builds that changed a status: a caller can tell whether to read them again."""
        return self._status_changes

    def build(self) -> tuple[MeshSnapshot, SnapshotChange]:
        """Returns the current snapshot and the changes since the last call. If nothing has changed, it is the
        same snapshot."""
        before = self._builder.snapshot
        first = before.generation == 0
        changes = self._settle()
        observed = {key: self._observed.get(key) for key in self._newly_observed}
        self._newly_observed = {}
        if not changes and not observed and not first:
            return before, SnapshotChange(full=False)
        hostnames = self._builder.build(changes, observed)
        snapshot = self._builder.snapshot
        self._arrived |= dict.fromkeys(changes, snapshot.generation)
        for key in changes.keys() - self._in_force.keys():
            del self._arrived[key]
        touched = [self._kinds[key.kind].touched(*views) for key, views in changes.items()]
        in_clusters = any(altering_clusters(before, snapshot, hostnames))
        return snapshot, SnapshotChange(
            full=first,
            types=frozenset({CLUSTER} if in_clusters else ()).union(*(each.types for each in touched)),
            endpoints=hostnames.union(*(each.endpoints for each in touched)),
            addresses=frozenset(readdressed(before, snapshot, hostnames)),
            names=frozenset(renamed(before, snapshot, hostnames)),
            configs=frozenset((*observed, *changes)),
        )

    def _record(self, key: ResourceKey) -> Record:
        record = self._records[key.kind].get(key)
        if record is None:
            late = self._builder.snapshot.generation > 0 or (
                self._served is not None and key not in self._served
            )
            record = Record(
                key=key,
                kept=self._kept.get(key, NOTHING_KEPT),
                counting_file=self._counting_files.get(key, ""),
                late=late,
            )
            self._records[key.kind][key] = record
        return record

    def _version(self, record: Record, resource: Resource, generation: int, uid: str) -> Version:
        """Returns the record's existing version if it equals the resource, or else a new version."""
        for known in (record.last_good, record.kept.version):
            if known is not None and (known.resource, known.uid) == (resource, uid):
                known.generation = max(known.generation, generation)
                return known
        kind, spec = self._kinds[record.key.kind], resource.spec
        view: View = kind.view(record.key, resource.metadata, spec, self._mesh)
        for known in (record.last_good, record.kept.version):
            if known is not None and known.view == view:
                view = known.view  # only metadata that the view does not have has changed
        warnings = (*deprecations(spec, "spec"), *kind.warnings(spec))
        return Version(resource=resource, view=view, warnings=warnings, generation=generation, uid=uid)

    def _all(self, kind: str) -> Collection[Record]:
        return self._records[kind].values()

    def _now(self) -> str:
        """RFC 3339."""
        return self._clock().strftime("%Y-%m-%dT%H:%M:%SZ")

    def _settle(self) -> _Changes:
        """Decides which versions are in force, and reports it. Returns the resources whose view changed."""
        self._forget_deleted()
        now = self._now()
        together = self._validator.together
        revalidates = any(key.kind in together for key in self._dirty)
        if revalidates:
            self._validator.validate_together(now)
        looked_at = {key: self._records[key.kind].get(key) for key in self._dirty}
        alone = [record for key, record in looked_at.items() if record and key.kind not in together]
        self._validator.validate_alone(alone, self._accounts, now)
        if revalidates:
            looked_at |= {record.key: record for kind in together for record in self._all(kind)}
        self._dirty.clear()
        self._report(looked_at)
        return self._take_changes(looked_at)

    def _forget_deleted(self) -> None:
        """Runs during a build, so that a resource that was deleted and written again before the build keeps
        its last good version."""
        for key in self._dirty:
            record = self._records[key.kind].get(key)
            if record is not None and not record.readings:
                del self._records[key.kind][key]

    def _report(self, looked_at: Mapping[ResourceKey, Record | None]) -> None:
        statuses = {key: record.statuses() if record else () for key, record in looked_at.items()}
        if any(self._statuses.get(key, ()) != found for key, found in statuses.items()):
            self._status_changes += 1
        log_changes(self._statuses, statuses)
        self._statuses |= statuses
        keep = {key: record.to_keep if record else None for key, record in looked_at.items()}
        known = self._to_keep | keep
        self._to_keep = {key: last_good for key, last_good in known.items() if last_good is not None}
        for key in [key for key, found in statuses.items() if not found]:
            del self._statuses[key]

    def _take_changes(self, looked_at: Mapping[ResourceKey, Record | None]) -> _Changes:
        changes: _Changes = {}
        for key, record in looked_at.items():
            before, after = self._in_force.pop(key, None), record.in_force if record else None
            if after is not None:
                self._in_force[key] = after
            views = before.view if before else None, after.view if after else None
            if views[0] is not views[1]:
                changes[key] = views
        return changes
