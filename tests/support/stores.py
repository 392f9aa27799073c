"""Stores with the resources of a small mesh, and the parts of their results that tests compare."""

from __future__ import annotations

from collections.abc import Iterator

from controlplane.kinds.registry import KINDS
from controlplane.model.snapshot import MeshSnapshot
from controlplane.model.status import ResourceStatus, State
from controlplane.model.store import Store
from tests.support.documents import (
    Document,
    destination,
    destination_rule,
    document,
    feed,
    key_of,
    service,
    virtual_service,
    workload,
)

REVIEWS = "reviews.default.svc.cluster.local"


def reviews_mesh() -> list[Document]:
    return [
        service("reviews"),
        workload("reviews-1", "10.0.0.1", {"app": "reviews", "version": "v1"}),
        workload("reviews-2", "10.0.0.2", {"app": "reviews", "version": "v2"}),
        destination_rule("reviews", "reviews", "v1", "v2"),
        virtual_service("reviews", ["reviews"], destination("reviews", "v1")),
    ]


def mesh_of(*, services: int, replicas: int) -> Iterator[Document]:
    """Services s0, s1, ..., each with a subset, a route to it, and the workloads s0-0, s0-1, ..."""
    for number in range(services):
        name = f"s{number}"
        yield service(name)
        yield destination_rule(name, name, "v1")
        yield virtual_service(name, [name], destination(name, "v1"))
        for replica in range(replicas):
            address = f"10.{number >> 8}.{number & 255}.{replica + 1}"
            yield workload(f"{name}-{replica}", address, {"app": name, "version": "v1"})


def store_with(*resources: Document) -> Store:
    store = Store(KINDS)
    feed(store, *resources)
    store.build()
    return store


def snapshot_of(store: Store) -> MeshSnapshot:
    return store.build()[0]


def status_of(store: Store, resource: Document) -> ResourceStatus:
    (status,) = [each for each in store.statuses() if each.key == key_of(resource)]
    return status


def quarantine_reason(store: Store, resource: Document) -> str:
    store.build()
    status = status_of(store, resource)
    assert status.state is State.QUARANTINED
    return "; ".join(status.reasons)


def unresolved(store: Store, resource: Document) -> list[str]:
    """The destinations that are not there, of a resource that is in force all the same."""
    store.build()
    status = status_of(store, resource)
    assert status.in_force
    return list(status.unresolved)


def subsets_in_force(store: Store) -> list[str | None]:
    """Where the VirtualServices that are in force lead."""
    return [
        weighted.destination.subset
        for config in snapshot_of(store).virtual_services
        for route in config.spec.http
        for weighted in route.route
    ]


def entry(name: str, namespace: str = "default", *numbers: int, **spec: object) -> Document:
    ports = [{"number": number, "name": f"http-{number}", "protocol": "HTTP"} for number in numbers or (80,)]
    fields = {"hosts": ["api.example.com"], "ports": ports, "resolution": "STATIC", **spec}
    return document("ServiceEntry", name, fields, namespace)


def at(address: str) -> list[Document]:
    return [{"address": address}]


def substance(store: Store) -> object:
    snapshot = snapshot_of(store)
    statuses = [(each.key, each.state, each.in_force) for each in store.statuses()]
    return (
        snapshot.services,
        snapshot.endpoints,
        snapshot.workloads,
        [config.spec for config in snapshot.virtual_services],
        [config.spec for config in snapshot.destination_rules],
        statuses,
    )
