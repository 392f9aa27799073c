"""Resources in, snapshots and statuses out."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.errors import ResourceError
from controlplane.kinds.registry import KINDS
from controlplane.model.mesh_config import MeshConfig
from controlplane.model.service import Protocol, Resolution
from controlplane.model.snapshot import SnapshotChange
from controlplane.model.status import Fault, Origin, State
from controlplane.model.store import Store
from tests.support.documents import (
    destination,
    destination_rule,
    document,
    feed,
    key_of,
    service,
    virtual_service,
    workload,
)
from tests.support.stores import (
    REVIEWS,
    quarantine_reason,
    reviews_mesh,
    snapshot_of,
    status_of,
    store_with,
    subsets_in_force,
    substance,
)


class TestServicesAndEndpoints:
    def test_a_services_selector_finds_the_workloads_of_its_namespace(self) -> None:
        store = store_with(
            *reviews_mesh(),
            workload("elsewhere", "10.0.0.3", {"app": "reviews"}, namespace="other"),
            workload("ratings", "10.0.0.4", {"app": "ratings"}),
        )
        endpoints = snapshot_of(store).endpoints[REVIEWS]
        assert [(each.address, each.port) for each in endpoints] == [("10.0.0.1", 9080), ("10.0.0.2", 9080)]

    def test_a_service_without_a_selector_has_no_endpoints(self) -> None:
        store = store_with(service("reviews", selector={}), workload("a", "10.0.0.1", {"app": "reviews"}))
        assert snapshot_of(store).endpoints == {}

    @pytest.mark.parametrize(
        ("target", "ports", "expected"),
        [
            (8080, {"http": 1111, "web": 2222}, 1111),
            ("web", {"web": 2222}, 2222),
            (8080, {}, 8080),
            (None, {}, 9080),
            ("web", {}, None),
        ],
    )
    def test_an_endpoints_port_is_the_workloads_by_name_else_the_target_port(
        self, target: int | str | None, ports: dict[str, int], expected: int | None
    ) -> None:
        port = {"name": "http", "port": 9080} | ({"targetPort": target} if target else {})
        store = store_with(
            service("reviews", ports=[port]), workload("a", "10.0.0.1", {"app": "reviews"}, ports=ports)
        )
        endpoints = snapshot_of(store).endpoints.get(REVIEWS, ())
        assert [each.port for each in endpoints] == ([expected] if expected else [])

    def test_a_kubernetes_service_is_known_by_its_host_name_and_protocols(self) -> None:
        ports = [
            {"name": "http-web", "port": 80},
            {"name": "x", "port": 81, "appProtocol": "grpc"},
            {"name": "dns", "port": 53, "protocol": "UDP"},
        ]
        store = store_with(service("reviews", clusterIP="10.96.0.7", ports=ports))
        found = snapshot_of(store).services[REVIEWS]
        assert found.addresses == ("10.96.0.7",)
        assert [(each.number, each.protocol) for each in found.ports] == [
            (80, Protocol.HTTP),
            (81, Protocol.GRPC),
        ]

    def test_a_headless_service_has_no_address(self) -> None:
        for address in ({"clusterIP": "None"}, {"clusterIPs": ["None"]}):
            found = snapshot_of(store_with(service("reviews", **address))).services[REVIEWS]
            assert (found.addresses, found.headless) == ((), True)
        assert not snapshot_of(store_with(service("reviews"))).services[REVIEWS].headless

    def test_an_external_name_is_resolved_by_dns(self) -> None:
        store = store_with(service("reviews", type="ExternalName", externalName="reviews.example.com"))
        found = snapshot_of(store).services[REVIEWS]
        assert (found.resolution, found.external_name) == (Resolution.DNS, "reviews.example.com")

    def test_a_service_entry_declares_its_hosts_and_its_endpoints(self) -> None:
        entry = document(
            "ServiceEntry",
            "api",
            {
                "hosts": ["a.example.com", "b.example.com"],
                "ports": [{"number": 443, "name": "tls", "protocol": "TLS", "targetPort": 8443}],
                "resolution": "STATIC",
                "endpoints": [{"address": "192.0.2.1"}, {"address": "192.0.2.2", "ports": {"tls": 9443}}],
            },
        )
        snapshot = snapshot_of(store_with(entry))
        assert list(snapshot.services) == ["a.example.com", "b.example.com"]
        assert [(each.address, each.port) for each in snapshot.endpoints["a.example.com"]] == [
            ("192.0.2.1", 8443),
            ("192.0.2.2", 9443),
        ]

    def test_a_service_entrys_selector_finds_workloads(self) -> None:
        entry = document(
            "ServiceEntry",
            "legacy",
            {
                "hosts": ["legacy.example.com"],
                "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
                "resolution": "STATIC",
                "workloadSelector": {"labels": {"app": "legacy"}},
            },
        )
        store = store_with(entry, workload("legacy-1", "10.0.0.9", {"app": "legacy"}))
        assert [each.address for each in snapshot_of(store).endpoints["legacy.example.com"]] == ["10.0.0.9"]

    def test_the_label_says_that_a_workload_has_a_sidecar(self) -> None:
        labels = {"app": "reviews", "security.istio.io/tlsMode": "istio"}
        store = store_with(service("reviews"), workload("a", "10.0.0.1", labels))
        assert snapshot_of(store).endpoints[REVIEWS][0].workload.mesh_tls

    def test_a_workload_whose_address_is_a_name_is_applied_with_a_warning(self) -> None:
        entry = workload("a", "a.example.com", {"app": "reviews"})
        store = store_with(service("reviews"), entry)
        status = status_of(store, entry)
        assert status.state is State.APPLIED
        assert "resolution DNS" in status.warnings[0]

    def test_two_declarations_of_one_host_leave_the_first(self) -> None:
        first, second = (
            document("ServiceEntry", name, {"hosts": ["api.example.com"], "addresses": [address]})
            for name, address in (("a", "192.0.2.1"), ("b", "192.0.2.2"))
        )
        store = store_with(second, first)
        assert snapshot_of(store).services["api.example.com"].addresses == ("192.0.2.1",)
        assert quarantine_reason(store, second) == (
            "spec.hosts[0]: the host api.example.com is already declared by "
            "ServiceEntry default/a (mesh.yaml:2)"
        )

    def test_an_older_service_entry_does_not_take_the_host_of_a_kubernetes_service(self) -> None:
        squatter = document(
            "ServiceEntry",
            "a",
            {"hosts": [REVIEWS], "addresses": ["192.0.2.1"]},
            namespace="other",
            creationTimestamp="2024-01-01T00:00:00Z",
        )
        store = store_with(squatter)
        assert snapshot_of(store).services[REVIEWS].addresses == ("192.0.2.1",)
        late = service("reviews", clusterIP="10.96.0.7")
        late["metadata"]["creationTimestamp"] = "2025-01-01T00:00:00Z"
        feed(store, late, file="late.yaml")
        assert snapshot_of(store).services[REVIEWS].addresses == ("10.96.0.7",)
        assert "Service default/reviews (late.yaml:1)" in quarantine_reason(store, squatter)


class TestNames:
    def test_short_names_are_services_of_the_resources_namespace(self) -> None:
        store = store_with(
            service("reviews", namespace="books"),
            destination_rule("reviews", "reviews", "v1", namespace="books"),
            virtual_service("reviews", ["reviews"], destination("reviews", "v1"), namespace="books"),
            document("Sidecar", "default", {"egress": [{"hosts": ["./reviews", "*/*"]}]}, "books"),
        )
        snapshot = snapshot_of(store)
        host = "reviews.books.svc.cluster.local"
        assert snapshot.virtual_services[0].spec.hosts == (host,)
        assert snapshot.virtual_services[0].spec.http[0].route[0].destination.host == host
        assert snapshot.destination_rules[0].spec.host == host
        assert snapshot.sidecars[0].spec.egress[0].hosts == (f"./{host}", "*/*")

    def test_the_dns_domain_is_the_meshs(self) -> None:
        store = Store(KINDS, MeshConfig(dns_domain="corp.example"))
        feed(store, service("reviews"))
        assert list(snapshot_of(store).services) == ["reviews.default.svc.corp.example"]

    def test_a_name_with_a_dot_is_unchanged(self) -> None:
        rule = destination_rule("reviews", "reviews.default")
        store = store_with(service("reviews"), rule)
        assert snapshot_of(store).destination_rules[0].spec.host == "reviews.default"
        assert status_of(store, rule).warnings == ("spec.host: no service has the host reviews.default",)


class TestLastGoodVersion:
    def test_an_invalid_update_leaves_the_last_good_version_in_force(self) -> None:
        store = store_with(*reviews_mesh())
        resource = reviews_mesh()[-1]
        origin = Origin(file="mesh.yaml", line=5)
        store.reject(key_of(resource), [ResourceError("spec.http[0].rout", "unknown field")], origin)
        snapshot, change = store.build()
        assert change == SnapshotChange(full=False)
        assert len(snapshot.virtual_services) == 1
        status = status_of(store, resource)
        assert (status.state, status.in_force) == (State.QUARANTINED, True)
        assert status.reasons == ("spec.http[0].rout: unknown field",)
        assert status.origin == origin

    def test_a_resource_without_a_good_version_is_not_in_force(self) -> None:
        store = Store(KINDS)
        resource = reviews_mesh()[-1]
        store.reject(key_of(resource), [ResourceError("spec", "is bad")], Origin(file="mesh.yaml"))
        assert snapshot_of(store).virtual_services == ()
        assert not status_of(store, resource).in_force

    def test_a_resource_deleted_and_recreated_before_a_build_keeps_its_last_good_version(self) -> None:
        store = store_with(*reviews_mesh())
        key = key_of(reviews_mesh()[-1])
        store.delete(key, "mesh.yaml")
        store.reject(key, [ResourceError("spec", "is bad")], Origin(file="mesh.yaml"))
        assert subsets_in_force(store) == ["v1"]

    def test_a_deleted_resource_has_no_status(self) -> None:
        store = store_with(*reviews_mesh())
        key = key_of(reviews_mesh()[-1])
        store.delete(key, "mesh.yaml")
        assert subsets_in_force(store) == []
        assert key not in {status.key for status in store.statuses()}

    def test_restoring_the_last_good_version_changes_nothing(self) -> None:
        store = store_with(*reviews_mesh())
        resource = reviews_mesh()[-1]
        store.reject(key_of(resource), [ResourceError("spec", "is bad")], Origin(file="mesh.yaml"))
        before = snapshot_of(store)
        feed(store, resource)
        assert store.build() == (before, SnapshotChange(full=False))
        assert status_of(store, resource).state is State.APPLIED


class TestFaults:
    """Why the newest version is not in force, in the one word that programs read."""

    def test_an_unreadable_resource_is_invalid_with_or_without_a_last_good_version(self) -> None:
        route, other = reviews_mesh()[-1], virtual_service("other", ["reviews"], destination("reviews"))
        store = store_with(*reviews_mesh())
        store.reject(key_of(route), [ResourceError("spec", "is odd")], Origin(file="mesh.yaml"))
        store.build()
        assert status_of(store, route).fault is Fault.INVALID
        other["metadata"]["creationTimestamp"] = "2000-01-01T00:00:00Z"
        route["metadata"]["creationTimestamp"] = "2001-01-01T00:00:00Z"
        feed(store, other)
        store.build()
        assert status_of(store, route).fault is Fault.INVALID

    def test_a_second_claim_is_a_conflict(self) -> None:
        first, second = (destination_rule(name, "reviews", "v1") for name in ("a", "b"))
        store = store_with(service("reviews"), first, second)
        assert status_of(store, second).fault is Fault.CONFLICTED
        assert status_of(store, first).fault is None


class TestAClustersVersions:
    def test_a_new_generation_with_the_same_content_is_reported(self) -> None:
        route, store = reviews_mesh()[-1], Store(KINDS)
        for generation in (1, 2):
            origin = Origin(file="Kubernetes", generation=generation)
            store.apply(key_of(route), KINDS.parse(route), origin)
            store.build()
            assert status_of(store, route).origin.generation == generation

    def test_a_new_generation_of_an_invalid_resource_is_reported(self) -> None:
        route, store = reviews_mesh()[-1], Store(KINDS)
        for generation in (1, 2):
            faults = [ResourceError("spec", "is odd")]
            store.reject(key_of(route), faults, Origin(file="Kubernetes", generation=generation))
            store.build()
            assert status_of(store, route).origin.generation == generation

    def test_bookkeeping_of_the_cluster_makes_no_new_version(self) -> None:
        """As each write of a status does."""
        store = Store(KINDS)
        for count in range(3):
            resource = service("reviews")
            resource["metadata"] |= {"resourceVersion": str(count), "managedFields": [{"time": str(count)}]}
            feed(store, {**resource, "status": {"loadBalancer": {"count": count}}})
            generation = snapshot_of(store).generation
        assert generation == 1


@settings(max_examples=60)
@given(st.permutations(range(9)))
def test_the_order_of_arrival_does_not_matter(order: list[int]) -> None:
    resources = [
        *reviews_mesh(),
        virtual_service("conflict", ["reviews"], destination("reviews", "v2")),
        virtual_service("dangling", ["other.example.com"], destination("nowhere")),
        destination_rule("conflict", "reviews", "v2"),
        document("Namespace", "default", {}, labels={"team": "books"}),
    ]
    assert substance(store_with(*(resources[index] for index in order))) == substance(store_with(*resources))


@settings(max_examples=60)
@given(st.permutations(range(5)))
def test_without_conflicts_builds_in_between_do_not_matter(order: list[int]) -> None:
    resources = reviews_mesh()
    store = Store(KINDS)
    for index in order:
        feed(store, resources[index])
        store.build()
    assert substance(store) == substance(store_with(*resources))
