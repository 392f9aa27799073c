"""The store: sources tell it what resources they have, and what they observe of a cluster's pods; it builds
the world that builders read.

Whatever is wrong with a resource, it is quarantined alone; its last good version, if it had one, stays in
force as long as what it refers to is there. Every `build` judges anew, so that the order in which resources
arrive does not matter.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any, cast

from controlplane.errors import ResourceError
from controlplane.model.accounts import Account, account_of, warn_of_accounts
from controlplane.model.arbiter import Arbiter
from controlplane.model.conversion import DeclaredService, View, convert, oddities
from controlplane.model.endpoint_index import EndpointIndex
from controlplane.model.journal import Statuses, log_changes
from controlplane.model.judge import JUDGED, configs_in_force, judge, services_in_force
from controlplane.model.known_workloads import KnownWorkloads, WorkloadName
from controlplane.model.mesh_config import MeshConfig
from controlplane.model.record import Reading, Record, Version
from controlplane.model.service import EndpointSlice, Registry, Resolution, ServiceEndpoint, Workload
from controlplane.model.snapshot import MeshSnapshot, ResourceKey, SnapshotChange
from controlplane.model.status import Origin, ResourceStatus
from controlplane.resources.registry import Resource

_DECLARING = ("Service", "ServiceEntry")
# The kinds that a snapshot has as they are, by the name of its field.
_POLICIES = {
    "VirtualService": "virtual_services",
    "DestinationRule": "destination_rules",
    "Sidecar": "sidecars",
    "PeerAuthentication": "peer_authentications",
}
# What proxies see nothing of but endpoints, or nothing at all.
_UNSEEN_KINDS = ("WorkloadEntry", "Namespace")
# The version in force before, and after.
_Changes = dict[ResourceKey, tuple[Version | None, Version | None]]
_MESH_DEFAULTS = MeshConfig()

# A pod, or the endpoints of a Service. Nobody wrote it: it is never judged, and has no status.
Observation = Workload | EndpointSlice


class Store:
    """Not thread-safe: one event loop feeds it and builds from it."""

    def __init__(self, mesh_config: MeshConfig = _MESH_DEFAULTS) -> None:
        self._mesh = mesh_config
        self._records: dict[str, dict[ResourceKey, Record]] = defaultdict(dict)
        self._dirty: dict[ResourceKey, None] = {}  # in the order of what was told
        self._observed: dict[ResourceKey, Observation] = {}
        self._newly_observed: dict[ResourceKey, None] = {}
        self._accounts: set[Account] = set()
        self._index = EndpointIndex()
        self._pods: dict[WorkloadName, Workload] = {}
        self._entries: dict[WorkloadName, Workload] = {}
        self._in_force: dict[ResourceKey, Version] = {}
        self._statuses: dict[ResourceKey, Statuses] = {}
        self._status_changes = 0
        self._snapshot = MeshSnapshot(mesh_config=mesh_config)

    def apply(self, key: ResourceKey, resource: Resource, origin: Origin) -> None:
        """A source has read a valid resource."""
        record = self._record(key)
        reading = record.readings.get(origin.file)
        if reading is not None and reading.version is not None and reading.version.resource == resource:
            if reading.origin != origin:
                reading.origin = origin
                self._dirty[key] = None
            return
        generation = reading.generation + 1 if reading else 1
        version = record.last_good
        if version is None or version.resource != resource:
            view = convert(key, resource, self._mesh)
            version = Version(resource=resource, view=view, warnings=oddities(resource.spec))
        record.readings[origin.file] = Reading(origin=origin, generation=generation, version=version)
        self._dirty[key] = None

    def reject(self, key: ResourceKey, errors: Sequence[ResourceError], origin: Origin) -> None:
        """A source has read a resource that is not valid, or something that should have been one."""
        record = self._record(key)
        reading = record.readings.get(origin.file)
        if reading is not None and reading.says(errors) and reading.origin == origin:
            return
        generation = reading.generation + 1 if reading else 1
        record.readings[origin.file] = Reading(origin=origin, generation=generation, errors=tuple(errors))
        self._dirty[key] = None

    def delete(self, key: ResourceKey, file: str) -> None:
        """A source has the resource no more."""
        record = self._records[key.kind].get(key)
        if record is not None and record.readings.pop(file, None) is not None:
            self._dirty[key] = None

    def observe(self, key: ResourceKey, observation: Observation | None) -> None:
        """A source sees a pod or an EndpointSlice, or (None) that it is there no more."""
        if self._observed.get(key) == observation:
            return
        if observation is None:
            del self._observed[key]
        else:
            self._observed[key] = observation
        self._newly_observed[key] = None

    def observe_accounts(self, *, present: Iterable[Account] = (), gone: Iterable[Account] = ()) -> None:
        """A source sees service accounts, or that they are there no more. Pods cannot be without theirs; a
        WorkloadEntry can, and is warned."""
        changed = set(present) - self._accounts | self._accounts.intersection(gone)
        self._accounts ^= changed
        for record in self._all("WorkloadEntry") if changed else ():
            if account_of(record) in changed:
                self._dirty[record.key] = None

    @property
    def has_news(self) -> bool:
        """Whether it was told anything since the last `build` that it did not know."""
        return bool(self._dirty or self._newly_observed)

    def statuses(self) -> list[ResourceStatus]:
        """What became of every resource, as of the last `build`."""
        keys = sorted(self._statuses, key=attrgetter("kind", "namespace", "name"))
        return [status for key in keys for status in self._statuses[key]]

    def in_force(self, key: ResourceKey) -> View | None:
        """What a resource is to the last snapshot: the very objects that are in it."""
        version = self._in_force.get(key)
        return version.view if version else None

    def status_changes(self) -> int:
        """How many builds changed any of them: whoever looked before can tell whether to look again."""
        return self._status_changes

    def build(self) -> tuple[MeshSnapshot, SnapshotChange]:
        """The world as it is now, and what changed since the last call: the same snapshot if nothing did."""
        before = self._snapshot
        first = before.generation == 0
        changes = self._settle()
        observed, self._newly_observed = frozenset(self._newly_observed), {}
        if not changes and not observed and not first:
            return before, SnapshotChange(full=False)
        hostnames = self._update_index(changes, observed)
        self._snapshot = self._next_snapshot({key.kind for key in (*changes, *observed)})
        full = (
            first
            or any(key.kind not in _UNSEEN_KINDS for key in changes)
            or any(_alters_clusters(before, self._snapshot, hostname) for hostname in hostnames)
        )
        return self._snapshot, SnapshotChange(
            full=full, endpoints=hostnames, configs=observed | changes.keys()
        )

    def _record(self, key: ResourceKey) -> Record:
        return self._records[key.kind].setdefault(key, Record(key=key))

    def _all(self, kind: str) -> Collection[Record]:
        return self._records[kind].values()

    def _settle(self) -> _Changes:
        """Decides what is in force, and tells of it. Returns the resources where that changed."""
        self._forget_deleted()
        judged = any(key.kind in JUDGED for key in self._dirty)
        if judged:
            judge(self._all, self._mesh)
        looked_at = {key: self._records[key.kind].get(key) for key in self._dirty}
        unjudged = [record for key, record in looked_at.items() if record and key.kind not in JUDGED]
        Arbiter().settle(unjudged)
        warn_of_accounts(unjudged, self._accounts)
        if judged:
            looked_at |= {record.key: record for kind in JUDGED for record in self._all(kind)}
        self._dirty.clear()
        self._report(looked_at)
        return self._take_changes(looked_at)

    def _forget_deleted(self) -> None:
        """Only now: what was deleted and written anew before this build still had a last good version."""
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
        for key in [key for key, found in statuses.items() if not found]:
            del self._statuses[key]

    def _take_changes(self, looked_at: Mapping[ResourceKey, Record | None]) -> _Changes:
        changes: _Changes = {}
        for key, record in looked_at.items():
            before, after = self._in_force.pop(key, None), record.in_force if record else None
            if after is not None:
                self._in_force[key] = after
            if after is not before:
                changes[key] = (before, after)
        return changes

    def _update_index(self, changes: _Changes, observed: frozenset[ResourceKey]) -> frozenset[str]:
        """Returns the host names of the services whose endpoints changed."""
        declaring = {key: versions for key, versions in changes.items() if key.kind in _DECLARING}
        # All removals come first: a host may have moved from one resource to another.
        for before, _ in declaring.values():
            for declared in _declared(before):
                self._index.remove_service(declared.service.hostname)
        for _, after in declaring.values():
            for declared in _declared(after):
                self._index.add_service(declared)
        for key, (_, after) in changes.items():
            if key.kind == "WorkloadEntry":
                if after is None:
                    self._entries.pop((key.namespace, key.name), None)
                    self._index.remove_workload(key.namespace, key.name)
                else:
                    entry = self._entries[key.namespace, key.name] = cast("Workload", after.view)
                    self._index.add_workload(entry)
        for key in observed:
            self._index_observation(key)
        return self._index.refresh()

    def _index_observation(self, key: ResourceKey) -> None:
        match self._observed.get(key):
            case Workload() as pod:
                self._pods[key.namespace, key.name] = pod
                if pod.address:
                    self._index.add_workload(pod)
                else:  # nothing can be sent to it yet
                    self._index.remove_workload(key.namespace, key.name, Registry.KUBERNETES)
            case EndpointSlice() as endpoint_slice:
                self._index.add_slice(key.namespace, key.name, endpoint_slice)
            case None if key.kind == "Pod":
                self._pods.pop((key.namespace, key.name), None)
                self._index.remove_workload(key.namespace, key.name, Registry.KUBERNETES)
            case None:
                self._index.remove_slice(key.namespace, key.name)

    def _next_snapshot(self, kinds: set[str]) -> MeshSnapshot:
        """``kinds`` are those that changed; everything else is the same object as before."""
        parts: dict[str, Any] = {
            name: configs_in_force(self._all(kind)) for kind, name in _POLICIES.items() if kind in kinds
        }
        if not kinds.isdisjoint(_DECLARING):
            declarations = [record for kind in _DECLARING for record in self._all(kind)]
            services = sorted(services_in_force(declarations), key=attrgetter("hostname"))
            parts["services"] = {service.hostname: service for service in services}
        if not kinds.isdisjoint(("WorkloadEntry", "ServiceEntry", "Pod")):
            parts["workloads"] = self._index.workloads()
        if not kinds.isdisjoint(("WorkloadEntry", "Pod")):
            parts["known_workloads"] = KnownWorkloads(pods=dict(self._pods), entries=dict(self._entries))
        generation = self._snapshot.generation + 1
        return replace(self._snapshot, generation=generation, endpoints=self._index.endpoints, **parts)


def _declared(version: Version | None) -> tuple[DeclaredService, ...]:
    return cast("tuple[DeclaredService, ...]", version.view) if version else ()


def _alters_clusters(before: MeshSnapshot, after: MeshSnapshot, hostname: str) -> bool:
    """Whether a service's new endpoints change more than load assignments: a cluster holds the endpoints that
    are resolved by DNS, and the identities that endpoints may prove."""
    service = after.services.get(hostname)
    if service is not None and service.resolution in (Resolution.DNS, Resolution.DNS_ROUND_ROBIN):
        return True
    old, new = before.endpoints.get(hostname, ()), after.endpoints.get(hostname, ())
    return _accounts(old) != _accounts(new)


def _accounts(endpoints: Iterable[ServiceEndpoint]) -> set[tuple[str, str]]:
    return {(endpoint.workload.namespace, endpoint.workload.service_account) for endpoint in endpoints}
