"""Builds each `MeshSnapshot` from the one before and the changes since then."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from controlplane.model.endpoint_index import EndpointIndex
from controlplane.model.hosts import export_scopes
from controlplane.model.known_workloads import KnownWorkloads, WorkloadName
from controlplane.model.mesh_config import MeshConfig
from controlplane.model.record import Record
from controlplane.model.service import EndpointSlice, Registry, Service, Workload
from controlplane.model.snapshot import Config, MeshSnapshot, ResourceKey
from controlplane.model.validator import RecordsOf, configs_in_force, services_in_force
from controlplane.model.view import DeclaredService, View

# A pod, or the endpoints of a Service. Kubernetes writes both: they are not validated, and have no status.
Observation = Workload | EndpointSlice

# The views in force before and after; None: not in force.
Changes = Mapping[ResourceKey, tuple[View | None, View | None]]


class SnapshotBuilder:
    """``snapshot`` is the last one. ``records`` gives the records of a kind by its name."""

    def __init__(self, kinds: Iterable[str], records: RecordsOf, mesh_config: MeshConfig) -> None:
        self.snapshot = MeshSnapshot(mesh_config=mesh_config)
        self._kinds: Final = tuple(kinds)
        self._records: Final = records
        self._index: Final = EndpointIndex()
        self._pods: Final[dict[WorkloadName, Workload]] = {}
        self._entries: Final[dict[WorkloadName, Workload]] = {}

    def build(self, changes: Changes, observed: Mapping[ResourceKey, Observation | None]) -> frozenset[str]:
        """Returns the hostnames of the services whose endpoints changed. ``observed`` are the changed pods
        and EndpointSlices; None marks a deleted one."""
        self._index_declarations(changes)
        for key, observation in observed.items():
            self._index_observation(key, observation)
        hostnames = self._index.refresh()
        pods_changed = any(key.kind == "Pod" for key in observed)
        parts = {**self._changed_policies(changes), **self._changed_services(changes, pods_changed)}
        self.snapshot = replace(
            self.snapshot, generation=self.snapshot.generation + 1, endpoints=self._index.endpoints, **parts
        )
        return hostnames

    def _index_declarations(self, changes: Changes) -> None:
        # All removals come first: a host may have moved from one resource to another.
        for before, _ in changes.values():
            for declared in _declared(before):
                self._index.remove_service(declared.service.hostname, declared.service.declaration)
        for _, after in changes.values():
            for declared in _declared(after):
                self._index.add_service(declared)
        for key, (before, after) in changes.items():
            if isinstance(after, Workload):
                self._entries[key.namespace, key.name] = after
                self._index.add_workload(after)
            elif isinstance(before, Workload):
                self._entries.pop((key.namespace, key.name), None)
                self._index.remove_workload(key.namespace, key.name)

    def _index_observation(self, key: ResourceKey, observation: Observation | None) -> None:
        match observation:
            case Workload() as pod:
                self._pods[key.namespace, key.name] = pod
                if pod.address:
                    self._index.add_workload(pod)
                else:  # it has no address yet
                    self._index.remove_workload(key.namespace, key.name, Registry.KUBERNETES)
            case EndpointSlice() as endpoint_slice:
                self._index.add_slice(key.namespace, key.name, endpoint_slice)
            case None if key.kind == "Pod":
                self._pods.pop((key.namespace, key.name), None)
                self._index.remove_workload(key.namespace, key.name, Registry.KUBERNETES)
            case None:
                self._index.remove_slice(key.namespace, key.name)

    def _changed_policies(self, changes: Changes) -> dict[str, Any]:
        kinds = {
            key.kind for key, views in changes.items() if any(isinstance(each, Config) for each in views)
        }
        if not kinds:
            return {}
        renewed = {kind: configs_in_force(self._records(kind)) for kind in kinds}
        return {"policies": {**self.snapshot.policies, **renewed}}

    def _changed_services(self, changes: Changes, pods_changed: bool) -> dict[str, Any]:
        parts: dict[str, Any] = {}
        views = [view for pair in changes.values() for view in pair]
        declared = [each for view in views for each in _declared(view)]
        if declared:
            parts |= _by_hostname(services_in_force(self._all_records()))
        if pods_changed or any(isinstance(view, Workload) for view in views):
            parts["known_workloads"] = KnownWorkloads(pods=dict(self._pods), entries=dict(self._entries))
        if "known_workloads" in parts or any(each.endpoints for each in declared):
            parts["workloads"] = self._index.workloads()
        return parts

    def _all_records(self) -> Iterable[Record]:
        return (record for kind in self._kinds for record in self._records(kind))


def _declared(view: View | None) -> tuple[DeclaredService, ...]:
    return view if isinstance(view, tuple) else ()


def _by_hostname(services: Iterable[Service]) -> dict[str, Any]:
    """Parts of a snapshot. Of several declarations the first is one that all namespaces see, if there is
    one."""
    found: dict[str, list[Service]] = defaultdict(list)
    for service in sorted(services, key=_precedence):
        found[service.hostname].append(service)
    return {
        "services": {hostname: first for hostname, (first, *_) in sorted(found.items())},
        "further_services": {host: tuple(more) for host, (_, *more) in sorted(found.items()) if more},
    }


def _precedence(service: Service) -> tuple[object, ...]:
    return "*" not in export_scopes(service.export_to, service.namespace), service.seniority
