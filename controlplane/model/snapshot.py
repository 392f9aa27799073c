"""The frozen state of the mesh that builders read: one `MeshSnapshot`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from controlplane.model.known_workloads import NO_WORKLOADS, KnownWorkloads
from controlplane.model.mesh_config import MeshConfig
from controlplane.model.service import Service, ServiceEndpoint, Workload
from controlplane.resources.destination_rule import DestinationRule
from controlplane.resources.peer_authentication import PeerAuthentication
from controlplane.resources.sidecar import Sidecar
from controlplane.resources.virtual_service import VirtualService
from protos.type_urls import PUSH_ORDER

SpecT = TypeVar("SpecT")

# The most resources of a change in a log line.
_MOST_NAMES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceKey:
    """Identifies a resource in statuses, logs and changes: ``VirtualService bookinfo/reviews``."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Generic[SpecT]):
    """A valid policy: its key and its spec (a frozen pydantic model). ``order`` sorts the oldest first: Istio
    lets the older of two conflicting resources win."""

    key: ResourceKey
    spec: SpecT
    order: tuple[str, str, str] = ("", "", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshSnapshot:
    """Immutable. A part that did not change since the previous snapshot is the same object, so that snapshots
    can be compared by identity.

    ``services`` by hostname; ``further_services`` are the other declarations of those hosts (see `Service`).
    ``endpoints`` by hostname, of all declarations. ``policies`` by kind, the oldest first, with fully
    qualified host names. ``workloads`` are those that have an address; ``known_workloads`` identify proxies,
    and include pods without an address. ``generation`` grows by one with each snapshot."""

    generation: int = 0
    mesh_config: MeshConfig = field(default_factory=MeshConfig)
    services: Mapping[str, Service] = field(default_factory=dict)
    further_services: Mapping[str, tuple[Service, ...]] = field(default_factory=dict)
    endpoints: Mapping[str, tuple[ServiceEndpoint, ...]] = field(default_factory=dict)
    workloads: tuple[Workload, ...] = ()
    known_workloads: KnownWorkloads = NO_WORKLOADS
    policies: Mapping[str, tuple[Config[Any], ...]] = field(default_factory=dict)

    @property
    def virtual_services(self) -> tuple[Config[VirtualService], ...]:
        return self.policies.get("VirtualService", ())

    @property
    def destination_rules(self) -> tuple[Config[DestinationRule], ...]:
        return self.policies.get("DestinationRule", ())

    @property
    def sidecars(self) -> tuple[Config[Sidecar], ...]:
        return self.policies.get("Sidecar", ())

    @property
    def peer_authentications(self) -> tuple[Config[PeerAuthentication], ...]:
        return self.policies.get("PeerAuthentication", ())

    def all_services(self) -> Iterator[Service]:
        """Every declaration, by hostname."""
        for hostname in self.services:
            yield from self.declarations(hostname)

    def declarations(self, hostname: str) -> tuple[Service, ...]:
        """The declarations of one host."""
        first = self.services.get(hostname)
        return () if first is None else (first, *self.further_services.get(hostname, ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotChange:
    """The differences between two snapshots. ``full``: every xDS resource may differ. ``types``: every
    resource of these types may differ. ``endpoints`` are the services whose load assignments may differ.
    ``addresses`` are the headless services whose addresses differ, which are in other resources too.
    ``names`` are those whose ready endpoints differ, which are in name tables.
    ``configs`` are the resources that caused the change, for logs."""

    full: bool
    types: frozenset[str] = frozenset()
    endpoints: frozenset[str] = frozenset()
    addresses: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    configs: frozenset[ResourceKey] = frozenset()

    @property
    def whole_types(self) -> frozenset[str]:
        """The types in which any resource may differ."""
        return frozenset(PUSH_ORDER) if self.full else self.types

    def __str__(self) -> str:
        names = sorted(map(str, self.configs))
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        return (", ".join(names[:_MOST_NAMES]) + more) or "nothing"

    def merge(self, newer: SnapshotChange) -> SnapshotChange:
        return SnapshotChange(
            full=self.full or newer.full,
            types=self.types | newer.types,
            endpoints=self.endpoints | newer.endpoints,
            addresses=self.addresses | newer.addresses,
            names=self.names | newer.names,
            configs=self.configs | newer.configs,
        )
