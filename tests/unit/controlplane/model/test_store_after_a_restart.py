"""The resources in force follow from stored state: a new process and every replica decide alike."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from controlplane.errors import ResourceError
from controlplane.kinds.registry import KINDS
from controlplane.last_good.entry import decode, encode
from controlplane.model.last_good import LastGood, Unusable
from controlplane.model.snapshot import SnapshotChange
from controlplane.model.status import Origin, ResourceStatus, State
from controlplane.model.store import Store
from tests.support.documents import (
    Document,
    destination,
    destination_rule,
    document,
    feed,
    feed_cluster,
    key_of,
    service,
    virtual_service,
    workload,
)

MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC)
BASE = [service("reviews"), destination_rule("reviews", "reviews", "v1", "v2", "v3")]
BROKEN = virtual_service("reviews", ["reviews"], {"destination": {"host": "reviews", "colour": "blue"}})
KEY = key_of(BROKEN)


def routed(subset: str) -> Document:
    return virtual_service("reviews", ["reviews"], destination("reviews", subset))


def recalled(store: Store, *before: Store) -> Store:
    """Fed with all versions that the others keep, as they are stored."""
    for other in before:
        for key, last_good in other.to_keep().items():
            store.recall(key, decode(encode(last_good), key))
        store.prefer(other.counting_files())
    store.remember(key for other in before for key in other.keys_in_force())
    return store


def subsets(store: Store) -> list[str | None]:
    snapshot, _ = store.build()
    return [each.spec.http[0].route[0].destination.subset for each in snapshot.virtual_services]


def status(store: Store, resource: Document = BROKEN) -> ResourceStatus:
    store.build()
    found = store.status(key_of(resource))
    assert found is not None
    return found


def cluster(*versions: tuple[Document, int], store: Store | None = None, uid: str = "") -> Store:
    """A replica that has built after each version."""
    store = store or Store(KINDS)
    for each in BASE:
        feed_cluster(store, each, 1)
    for resource, generation in versions:
        feed_cluster(store, resource, generation, uid)
        store.build()
    return store


@pytest.mark.parametrize(
    "good",
    [
        routed("v3"),
        document("DestinationRule", "a", {"host": "a.example.com", "trafficPolicy": {"loadBalancer": {}}}),
        document(
            "ServiceEntry", "a", {"hosts": ["a.example.com"], "ports": [{"number": 80, "name": "http"}]}
        ),
        workload("a", "10.0.0.1", {"app": "reviews"}),
        document("Sidecar", "a", {"egress": [{"hosts": ["./*"]}]}),
        document(
            "PeerAuthentication",
            "a",
            {"selector": {"matchLabels": {"app": "a"}}, "portLevelMtls": {"80": {"mode": "STRICT"}}},
        ),
        service("a", ports=[{"name": "http", "port": 1, "targetPort": "web"}]),
    ],
    ids=lambda resource: str(resource["kind"]),
)
def test_each_kinds_last_good_version_serves_in_the_next_process(good: Document) -> None:
    broken = {**good, "spec": {**good["spec"], "colour": "blue"}}
    first, second = Store(KINDS), Store(KINDS)
    feed(first, *BASE, good)
    first.build()
    first.reject(key_of(good), [ResourceError("spec", "is odd")], Origin(file="mesh.yaml"))
    first.build()
    recalled(second, first)
    feed(second, *BASE)
    second.reject(key_of(broken), [ResourceError("spec", "is odd")], Origin(file="mesh.yaml"))
    assert status(second, good).in_force
    assert replace(status(second, good), generation=2) == status(first, good)
    assert second.to_keep() == first.to_keep()


class TestReplicas:
    def test_a_new_replica_serves_the_same_version_as_the_others(self) -> None:
        old = cluster((routed("v3"), 1), (BROKEN, 2))
        new = cluster((BROKEN, 2), store=recalled(Store(KINDS), old))
        assert subsets(new) == subsets(old) == ["v3"]
        assert status(new) == status(old)
        assert status(new).serving_generation == 1

    def test_an_earlier_replica_serves_the_kept_version_once_it_is_recalled(self) -> None:
        old = cluster((routed("v3"), 1), (BROKEN, 2))
        new = cluster((BROKEN, 2))
        assert subsets(new) == []
        assert subsets(recalled(new, old)) == ["v3"]

    @pytest.mark.parametrize("swap", [False, True])
    def test_those_that_saw_different_versions_agree_on_the_newest(self, swap: bool) -> None:
        """One has built between generation 2 and 3, the other has not."""
        both = [
            cluster((routed("v1"), 1), (routed("v2"), 2), (BROKEN, 3)),
            cluster((routed("v1"), 1), (BROKEN, 3)),
        ]
        one, other = reversed(both) if swap else both
        recalled(one, other)
        recalled(other, one)
        assert subsets(one) == subsets(other) == ["v2"]

    def test_a_version_that_is_written_again_counts_as_the_newer_one(self) -> None:
        """As a revert does it. One replica has not seen the version between, the other not the revert."""
        one = cluster((routed("v1"), 1), (routed("v1"), 3), (BROKEN, 4))
        other = cluster((routed("v1"), 1), (routed("v2"), 2), (BROKEN, 4))
        recalled(one, other)
        recalled(other, one)
        assert subsets(one) == subsets(other) == ["v1"]

    def test_a_recovery_to_the_version_before_is_of_its_own_generation(self) -> None:
        old = cluster((routed("v3"), 1), (BROKEN, 2), (routed("v3"), 3), (BROKEN, 4))
        new = cluster((routed("v3"), 3), (BROKEN, 4))
        assert status(old).serving_generation == status(new).serving_generation == 3
        assert old.to_keep()[KEY].generation == 3

    def test_a_version_kept_before_the_last_recovery_does_not_come_back(self) -> None:
        first = cluster((routed("v1"), 1), (BROKEN, 2))
        cluster((routed("v3"), 3), (BROKEN, 4), store=recalled(first, first))
        assert subsets(first) == ["v3"]
        assert first.to_keep()[KEY].generation == 3

    def test_a_recreated_object_has_no_last_good_version(self) -> None:
        old = cluster((routed("v3"), 1), (BROKEN, 2), uid="first")
        assert subsets(cluster((BROKEN, 1), store=old, uid="second")) == []
        new = recalled(Store(KINDS), cluster((routed("v3"), 1), (BROKEN, 2), uid="first"))
        assert subsets(cluster((BROKEN, 1), store=new, uid="second")) == []

    def test_recalling_the_version_that_serves_changes_nothing(self) -> None:
        store = cluster((routed("v3"), 1), (BROKEN, 2))
        before, _ = store.build()
        recalled(store, store)
        assert store.build() == (before, SnapshotChange(full=False))

    def test_of_equally_old_ones_the_first_by_name_wins_whichever_came_first(self) -> None:
        """A `kubectl apply` creates many within the second that a creation timestamp has."""
        born = "2026-01-01T00:00:00Z"
        a = virtual_service("a", ["reviews"], destination("reviews", "v1"), creationTimestamp=born)
        b = virtual_service("b", ["reviews"], destination("reviews", "v2"), creationTimestamp=born)
        assert subsets(cluster((b, 1), (a, 1))) == subsets(cluster((a, 1), (b, 1))) == ["v1"]

    def test_a_quarantined_resource_keeps_the_age_of_its_last_good_version(self) -> None:
        """An unreadable version has no age; the last good version has."""
        old = virtual_service(
            "z", ["reviews"], destination("reviews", "v1"), creationTimestamp="2025-01-01T00:00:00Z"
        )
        young = virtual_service(
            "reviews", ["reviews"], destination("reviews", "v2"), creationTimestamp="2026-01-01T00:00:00Z"
        )
        store = cluster((young, 1), (BROKEN, 2))
        assert subsets(store) == ["v2"]
        assert subsets(cluster((old, 1), store=store)) == ["v1"]

    def test_the_reasons_of_a_status_are_ordered(self) -> None:
        """Whichever replica is elected writes them."""
        http = [{"directResponse": {"status": 200}}]
        namespaces = [f"n{number}" for number in range(9)]
        older = document(
            "VirtualService",
            "older",
            {"hosts": ["a.example.com"], "http": http, "exportTo": namespaces},
            creationTimestamp="2025-01-01T00:00:00Z",
        )
        owned = [
            document(
                "VirtualService",
                "own",
                {"hosts": ["a.example.com"], "http": http, "exportTo": ["."]},
                namespace,
                creationTimestamp="2026-01-01T00:00:00Z",
            )
            for namespace in namespaces
        ]
        for order in (owned, owned[::-1]):
            warnings = status(cluster((older, 1), *((each, 1) for each in order)), older).warnings
            routed_in = [words for words in warnings if "is routed" in words]
            assert len(routed_in) == len(namespaces)
            assert routed_in == sorted(routed_in)


class TestAFolder:
    def restarted(self, store: Store, *resources: Document) -> Store:
        again = recalled(Store(KINDS), store)
        feed(again, *resources)
        again.build()
        return again

    def test_a_slip_does_not_take_over_a_host_by_a_restart(self) -> None:
        store = Store(KINDS)
        feed(store, *BASE, routed("v3"))
        store.build()
        slip = virtual_service("a-slip", ["reviews"], destination("reviews", "v1"))
        feed(store, slip, file="slip.yaml")
        assert subsets(store) == ["v3"]
        assert subsets(self.restarted(store, *BASE, slip, routed("v3"))) == ["v3"]

    def test_nor_does_one_that_is_written_while_no_control_plane_runs(self) -> None:
        store = Store(KINDS)
        feed(store, *BASE, routed("v3"))
        store.build()
        slip = virtual_service("a-slip", ["reviews"], destination("reviews", "v1"))
        again = self.restarted(store, *BASE, slip, routed("v3"))
        assert subsets(again) == ["v3"]
        assert "is already routed by VirtualService default/reviews" in status(again, slip).reasons[0]

    def test_nor_does_an_older_resource_that_asks_for_more(self) -> None:
        store = Store(KINDS)
        modest = document(
            "VirtualService", "a", {"hosts": ["a.example.com"], "http": [{"directResponse": {"status": 200}}]}
        )
        greedy = {**modest, "spec": {**modest["spec"], "hosts": ["a.example.com", "reviews"]}}
        feed(store, *BASE, modest, routed("v3"))
        store.build()
        feed(store, greedy)
        assert not status(store, routed("v3")).reasons
        again = self.restarted(store, *BASE, greedy, routed("v3"))
        for each in (store, again):
            assert status(each, routed("v3")).state is State.APPLIED
            assert (status(each, greedy).state, status(each, greedy).in_force) == (State.QUARANTINED, True)

    def test_of_two_files_with_one_resource_the_first_still_counts(self) -> None:
        store = Store(KINDS)
        feed(store, *BASE)
        feed(store, routed("v3"), file="z.yaml")
        feed(store, routed("v1"), file="a.yaml")
        assert subsets(store) == ["v3"]
        again = recalled(Store(KINDS), store)
        feed(again, *BASE)
        feed(again, routed("v1"), file="a.yaml")
        feed(again, routed("v3"), file="z.yaml")
        assert subsets(again) == ["v3"]
        again.delete(KEY, "z.yaml")
        assert subsets(again) == ["v1"]

    def test_a_later_resource_for_its_own_namespace_displaces_nothing_after_a_restart(self) -> None:
        """It takes precedence there; the other host of the older resource has no other claim."""
        http = [{"directResponse": {"status": 200}}]
        shared = document(
            "VirtualService",
            "shared",
            {"hosts": ["a.example.com", "b.example.com"], "http": http, "exportTo": ["one"]},
            "two",
        )
        own = document(
            "VirtualService", "own", {"hosts": ["a.example.com"], "http": http, "exportTo": ["."]}, "one"
        )
        store = Store(KINDS)
        feed(store, shared)
        store.build()
        feed(store, own)
        store.build()
        for each in (store, self.restarted(store, own, shared)):
            assert [status(each, resource).state for resource in (own, shared)] == [State.APPLIED] * 2
            (words,) = [words for words in status(each, shared).warnings if "is routed" in words]
            assert "a.example.com is routed in the namespace one by VirtualService one/own" in words

    def test_a_later_resource_for_more_namespaces_displaces_nothing_after_a_restart(self) -> None:
        http = [{"directResponse": {"status": 200}}]
        narrow, wide = (
            document(
                "VirtualService",
                name,
                {"hosts": ["a.example.com"], "http": http, "exportTo": export_to},
                name,
            )
            for name, export_to in (("two", ["shared"]), ("one", ["shared", "three"]))
        )
        store = Store(KINDS)
        feed(store, narrow)
        store.build()
        feed(store, wide)
        store.build()
        for each in (store, self.restarted(store, wide, narrow)):
            assert [status(each, resource).state for resource in (narrow, wide)] == [State.APPLIED] * 2

    def test_a_conflict_names_all_conflicting_resources_in_any_order_of_arrival(self) -> None:
        """Until the next build it was only those that came first."""
        http = [{"directResponse": {"status": 200}}]
        first, greedy, last = (
            document("VirtualService", name, {"hosts": hosts, "http": http})
            for name, hosts in (
                ("z", ["z.example.com"]),
                ("a", ["z.example.com", "b.example.com"]),
                ("b", ["b.example.com"]),
            )
        )
        store = Store(KINDS)
        feed(store, first)
        store.build()
        feed(store, greedy, last)
        store.build()
        for each in (store, self.restarted(store, first, greedy, last)):
            (words,) = status(each, greedy).reasons
            assert "the host z.example.com is already routed by VirtualService default/z" in words
            assert "the host b.example.com is already routed by VirtualService default/b" in words


class TestSince:
    def test_the_status_says_since_when_an_older_version_serves(self) -> None:
        now = MIDNIGHT
        store = cluster((routed("v3"), 1), store=Store(KINDS, clock=lambda: now))
        assert status(store).since == ""
        cluster((BROKEN, 2), store=store)
        now += timedelta(hours=1)
        cluster((BROKEN, 3), store=store)
        found = status(store)
        assert (found.since, found.serving_generation) == ("2026-01-01T00:00:00Z", 1)
        assert found.lasting_consequence == (
            "the last good version stays in force (generation 1, since 2026-01-01T00:00:00Z)"
        )

    def test_a_later_process_reports_the_same_time(self) -> None:
        old = cluster((routed("v3"), 1), (BROKEN, 2), store=Store(KINDS, clock=lambda: MIDNIGHT))
        new = Store(KINDS, clock=lambda: MIDNIGHT + timedelta(days=1))
        assert status(cluster((BROKEN, 2), store=recalled(new, old))).since == "2026-01-01T00:00:00Z"

    def test_a_recovered_resource_serves_its_newest_version(self) -> None:
        store = cluster((routed("v3"), 1), (BROKEN, 2), (routed("v2"), 3))
        assert (status(store).since, status(store).serving_generation) == ("", 0)
        assert store.to_keep() == {}


class TestUnusable:
    def test_an_unusable_kept_version_is_reported_if_no_version_serves(self) -> None:
        store = Store(KINDS)
        store.recall(KEY, Unusable(reason="spec.http: is of another release"))
        assert not status(cluster((BROKEN, 1), store=store)).in_force
        assert status(store).reasons[-1] == (
            "the stored last good version cannot be used: spec.http: is of another release"
        )

    def test_a_version_that_this_process_knows_to_be_good_keeps_serving(self) -> None:
        store = cluster((routed("v3"), 1), (BROKEN, 2))
        store.recall(KEY, Unusable(reason="not JSON"))
        assert subsets(store) == ["v3"]
        assert store.to_keep()[KEY].generation == 1

    def test_the_kept_version_of_a_deleted_resource_is_not_in_force(self) -> None:
        last_good = cluster((routed("v3"), 1), (BROKEN, 2)).to_keep()[KEY]
        store = Store(KINDS)
        store.recall(KEY, last_good)
        assert subsets(cluster(store=store)) == []
        assert store.status(KEY) is None

    def test_a_kept_version_that_contradicts_another_by_now_waits(self) -> None:
        kept = cluster((routed("v3"), 1), (BROKEN, 2)).to_keep()[KEY]
        assert isinstance(kept, LastGood)
        other = virtual_service("a", ["reviews"], destination("reviews", "v1"))
        store = Store(KINDS)
        store.recall(KEY, kept)
        cluster((other, 1), (BROKEN, 2), store=store)
        assert subsets(store) == ["v1"]
        assert "the last good version cannot stay in force" in status(store).reasons[-1]
        store.delete(key_of(other), "Kubernetes")
        assert subsets(store) == ["v3"]
