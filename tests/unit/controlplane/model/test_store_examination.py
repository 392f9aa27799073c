"""The status that a resource would have is the one that it gets."""

from __future__ import annotations

from itertools import permutations

import pytest

from controlplane.kinds.registry import KINDS
from controlplane.kinds.served import read_served
from controlplane.model.status import Origin, ResourceStatus
from controlplane.model.store import Store
from tests.support.documents import (
    Document,
    destination,
    destination_rule,
    document,
    feed_cluster,
    key_of,
    service,
    virtual_service,
    workload,
)


def entry(name: str, host: str, number: int, **changes: object) -> Document:
    ports = [{"name": "tcp", "number": number, "protocol": "TCP"}]
    return document("ServiceEntry", name, {"hosts": [host], "ports": ports, "resolution": "DNS", **changes})


def exported(resource: Document, *scopes: str, namespace: str = "default") -> Document:
    metadata = {**resource["metadata"], "namespace": namespace}
    return {**resource, "metadata": metadata, "spec": {**resource["spec"], "exportTo": list(scopes)}}


RESOURCES = [
    service("reviews"),
    service("ratings", namespace="other"),
    virtual_service("a", ["reviews"], destination("reviews", "v1")),
    virtual_service("b", ["reviews"], destination("ratings.other.svc.cluster.local")),
    exported(virtual_service("c", ["reviews"], destination("reviews")), ".", "other"),
    virtual_service("d", ["*.example.com"], destination("db.example.com")),
    destination_rule("e", "reviews", "v1"),
    destination_rule("f", "reviews", "v2"),
    exported(destination_rule("g", "reviews.default.svc.cluster.local", "v1"), "*", namespace="other"),
    entry("h", "db.example.com", 5432),
    entry("i", "db.example.com", 5433),
    entry("j", "cache.example.com", 5432),
    entry("k", "reviews.default.svc.cluster.local", 9080),
    document("Sidecar", "l", {"egress": [{"hosts": ["other/*", "./nowhere"]}]}),
    document("Sidecar", "m", {"egress": [{"hosts": ["./*"]}]}),
    document("PeerAuthentication", "n", {"mtls": {"mode": "STRICT"}}),
    document("PeerAuthentication", "o", {"mtls": {"mode": "PERMISSIVE"}}),
    workload("p", "10.0.0.1", {"app": "reviews"}, network="other"),
]


def created(resource: Document, time: str) -> Document:
    return {**resource, "metadata": {**resource["metadata"], "creationTimestamp": time}}


def examine(store: Store, resource: Document) -> ResourceStatus:
    key = key_of(resource)
    origin = Origin(file="Kubernetes", generation=1, uid=f"uid of {key}")
    return store.examine(key, read_served(resource["kind"], resource), origin)


@pytest.mark.parametrize("built", [True, False])
@pytest.mark.parametrize("order", ["older", "younger"])
def test_the_examined_status_is_the_later_one(built: bool, order: str) -> None:
    """With one resource, and another that the candidate is older or younger than."""
    different = 0
    for stored, candidate in permutations(RESOURCES, 2):
        store = Store(KINDS)
        feed_cluster(store, created(RESOURCES[0], "2026-01-01T00:00:00Z"), generation=1)
        feed_cluster(store, created(stored, "2026-01-02T00:00:00Z"), generation=1)
        if built:
            store.build()
        time = "2026-01-01T12:00:00Z" if order == "older" else "2026-01-03T00:00:00Z"
        changed = created(candidate, time)
        examined = examine(store, changed)
        store.build()
        assert store.status(key_of(stored))
        feed_cluster(store, changed, generation=1)
        store.build()
        status = store.status(key_of(candidate))
        assert examined == status
        different += bool(examined.reasons or examined.warnings)
    assert different > 50


def test_a_new_version_is_examined_against_the_last_good_one() -> None:
    store = Store(KINDS)
    for resource in (RESOURCES[0], RESOURCES[2]):
        feed_cluster(store, created(resource, "2026-01-01T00:00:00Z"), generation=1)
    store.build()
    invalid = created(virtual_service("a", [], destination("reviews")), "2026-01-01T00:00:00Z")
    examined = examine(store, invalid)
    assert examined.in_force
    assert examined.consequence == "the last good version stays in force"
    assert not store.has_news
    status = store.status(key_of(invalid))
    assert status is not None
    assert not status.reasons
