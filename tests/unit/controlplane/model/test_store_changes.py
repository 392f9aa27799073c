"""The xDS resources that each change of a resource may alter."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.kinds.registry import KINDS
from controlplane.model.snapshot import SnapshotChange
from controlplane.model.store import Store
from protos.type_urls import CLUSTER, PUSH_ORDER, ROUTE
from tests.support.documents import (
    destination,
    document,
    feed,
    key_of,
    service,
    virtual_service,
    workload,
)
from tests.support.stores import (
    REVIEWS,
    mesh_of,
    reviews_mesh,
    snapshot_of,
    store_with,
)


class TestChanges:
    def test_the_first_snapshot_is_a_full_change_and_the_next_without_news_the_same(self) -> None:
        store = Store(KINDS)
        feed(store, *reviews_mesh())
        snapshot, change = store.build()
        assert (snapshot.generation, change.full) == (1, True)
        feed(store, *reviews_mesh())
        again, change = store.build()
        assert again is snapshot
        assert change == SnapshotChange(full=False)

    def test_a_workload_changes_the_endpoints_of_its_services_alone(self) -> None:
        store = store_with(*reviews_mesh(), service("ratings"), workload("r", "10.0.1.1", {"app": "ratings"}))
        before = snapshot_of(store)
        added = workload("reviews-3", "10.0.0.3", {"app": "reviews"})
        feed(store, added)
        snapshot, change = store.build()
        assert change == SnapshotChange(
            full=False, endpoints=frozenset({REVIEWS}), configs=frozenset({key_of(added)})
        )
        assert len(snapshot.endpoints[REVIEWS]) == 3
        ratings = "ratings.default.svc.cluster.local"
        assert snapshot.endpoints[ratings] is before.endpoints[ratings]
        assert snapshot.services is before.services
        assert snapshot.virtual_services is before.virtual_services

    def test_a_workload_that_leaves_a_selector_leaves_its_endpoints(self) -> None:
        store = store_with(*reviews_mesh())
        feed(store, workload("reviews-1", "10.0.0.1", {"app": "ratings"}))
        snapshot, change = store.build()
        assert [each.address for each in snapshot.endpoints[REVIEWS]] == ["10.0.0.2"]
        assert change.endpoints == {REVIEWS}

    def test_a_workload_that_no_service_selects_changes_no_endpoints(self) -> None:
        store = store_with(*reviews_mesh())
        feed(store, workload("x", "10.0.0.7", {"app": "nobody"}))
        snapshot, change = store.build()
        assert (change.full, change.endpoints) == (False, frozenset())
        assert "x" in {each.name for each in snapshot.workloads}

    def test_endpoints_that_are_resolved_by_dns_are_in_clusters(self) -> None:
        entry = document(
            "ServiceEntry",
            "api",
            {
                "hosts": ["api.example.com"],
                "ports": [{"number": 80, "name": "http"}],
                "resolution": "DNS",
                "workloadSelector": {"labels": {"app": "api"}},
            },
        )
        store = store_with(entry, workload("a", "a.example.com", {"app": "api"}))
        feed(store, workload("b", "b.example.com", {"app": "api"}))
        assert store.build()[1].types == {CLUSTER}

    def test_another_address_of_a_headless_service_is_reported_without_a_full_change(self) -> None:
        labels = {"app": "reviews"}
        headless = service("reviews", clusterIP="None")
        store = store_with(headless, service("ratings"), workload("a", "10.0.0.1", labels))
        feed(store, workload("b", "10.0.0.2", labels))
        _, change = store.build()
        assert (change.full, change.endpoints, change.addresses) == (False, {REVIEWS}, {REVIEWS})
        feed(store, workload("b", "10.0.0.2", {**labels, "version": "v2"}))
        _, change = store.build()
        assert (change.full, change.endpoints, change.addresses) == (False, {REVIEWS}, frozenset())

    def test_a_route_is_a_change_of_routes_that_names_it(self) -> None:
        store = store_with(*reviews_mesh())
        update = virtual_service("reviews", ["reviews"], destination("reviews", "v2"))
        feed(store, update)
        before = snapshot_of(store_with(*reviews_mesh()))
        snapshot, change = store.build()
        assert change == SnapshotChange(
            full=False, types=frozenset({ROUTE}), configs=frozenset({key_of(update)})
        )
        assert snapshot.destination_rules[0].spec == before.destination_rules[0].spec

    @pytest.mark.parametrize("metadata", [{"annotations": {"a": "b"}}, {"labels": {"a": "b"}}])
    def test_unused_metadata_changes_nothing(self, metadata: dict[str, Any]) -> None:
        store = store_with(*reviews_mesh())
        before, _ = store.build()
        for each in reviews_mesh():
            if each["kind"] in ("VirtualService", "DestinationRule"):
                feed(store, {**each, "metadata": {**each["metadata"], **metadata}})
        after, change = store.build()
        assert after is before
        assert change == SnapshotChange(full=False)

    def test_the_labels_of_a_service_are_shown_and_push_nothing(self) -> None:
        store = store_with(*reviews_mesh())
        labelled = service("reviews")
        labelled["metadata"]["labels"] = {"team": "books"}
        feed(store, labelled)
        snapshot, change = store.build()
        assert snapshot.services[REVIEWS].labels == {"team": "books"}
        assert (change.whole_types, change.endpoints) == (frozenset(), frozenset())

    def test_an_annotation_that_says_who_sees_a_service_counts(self) -> None:
        store = store_with(*reviews_mesh())
        hidden = service("reviews")
        hidden["metadata"]["annotations"] = {"networking.istio.io/exportTo": "."}
        feed(store, hidden)
        snapshot, change = store.build()
        assert snapshot.services[REVIEWS].export_to == (".",)
        assert change.whole_types == frozenset(PUSH_ORDER)

    def test_a_service_that_comes_or_goes_touches_everything(self) -> None:
        store = store_with(*reviews_mesh())
        feed(store, service("added"))
        assert store.build()[1].whole_types == frozenset(PUSH_ORDER)
        store.delete(key_of(service("added")), "mesh.yaml")
        assert store.build()[1].whole_types == frozenset(PUSH_ORDER)


def test_one_endpoint_of_many_services_changes_its_service_alone() -> None:
    store = Store(KINDS)
    feed(store, *mesh_of(services=50, replicas=4))
    before, _ = store.build()
    assert sum(map(len, before.endpoints.values())) == 200
    feed(store, workload("s7-3", "10.9.9.9", {"app": "s7", "version": "v1"}))
    after, change = store.build()
    hostname = "s7.default.svc.cluster.local"
    assert change.endpoints == {hostname}
    changed = {name for name in after.endpoints if after.endpoints[name] is not before.endpoints[name]}
    assert changed == {hostname}
