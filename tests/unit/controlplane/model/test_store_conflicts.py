"""Resources that claim the same host: which one is in force, and the reason of the other."""

from __future__ import annotations

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster

from controlplane.model.status import State
from controlplane.model.store import Store
from controlplane.networking import build_clusters, build_endpoints, scope_of
from controlplane.networking.build_cache import BuildCache
from tests.support.documents import (
    Document,
    destination,
    destination_rule,
    document,
    feed,
    key_of,
    service,
    virtual_service,
)
from tests.support.meshes import sidecar_proxy
from tests.support.stores import (
    REVIEWS,
    at,
    entry,
    quarantine_reason,
    reviews_mesh,
    snapshot_of,
    status_of,
    store_with,
    subsets_in_force,
    unresolved,
)


class TestConflicts:
    def test_the_second_virtual_service_for_a_host_is_quarantined_naming_the_first(self) -> None:
        store = store_with(*reviews_mesh())
        # It comes first by name, and still does not replace the one in force.
        second = virtual_service("a-second", ["reviews"], destination("reviews", "v2"))
        feed(store, second, file="second.yaml")
        assert subsets_in_force(store) == ["v1"]
        assert quarantine_reason(store, second) == (
            f"spec.hosts[0]: the host {REVIEWS} is already routed by "
            "VirtualService default/reviews (mesh.yaml:5)"
        )

    def test_it_is_applied_when_the_first_is_deleted(self) -> None:
        store = store_with(*reviews_mesh())
        feed(
            store, virtual_service("a-second", ["reviews"], destination("reviews", "v2")), file="second.yaml"
        )
        store.build()
        store.delete(key_of(reviews_mesh()[-1]), "mesh.yaml")
        assert subsets_in_force(store) == ["v2"]

    def test_a_host_stays_with_its_owner_while_both_change_at_once(self) -> None:
        store = store_with(*reviews_mesh())
        feed(
            store,
            virtual_service("a-second", ["reviews"], destination("reviews", "v1")),
            virtual_service("reviews", ["reviews"], destination("reviews", "v2")),
        )
        assert subsets_in_force(store) == ["v2"]

    def test_at_the_start_the_older_wins_then_the_first_by_name(self) -> None:
        mesh = reviews_mesh()[:-1]
        younger = virtual_service(
            "a", ["reviews"], destination("reviews", "v1"), creationTimestamp="2025-01-02T00:00:00Z"
        )
        older = virtual_service(
            "b", ["reviews"], destination("reviews", "v2"), creationTimestamp="2025-01-01T00:00:00Z"
        )
        assert subsets_in_force(store_with(*mesh, younger, older)) == ["v2"]
        by_name = [
            virtual_service("d", ["reviews"], destination("reviews", "v1")),
            virtual_service("c", ["reviews"], destination("reviews", "v2")),
        ]
        assert subsets_in_force(store_with(*mesh, *by_name)) == ["v2"]

    def test_virtual_services_that_no_namespace_sees_together_do_not_conflict(self) -> None:
        hosts = ["api.example.com"]
        entry = document("ServiceEntry", "api", {"hosts": hosts})
        private = [
            document(
                "VirtualService",
                "api",
                {"hosts": hosts, "exportTo": ["."], "http": [{"route": [destination("api.example.com")]}]},
                namespace,
            )
            for namespace in ("one", "two")
        ]
        assert len(snapshot_of(store_with(entry, *private)).virtual_services) == 2

    def test_a_virtual_service_for_one_namespace_does_not_conflict_with_one_for_all(self) -> None:
        hosts = ["api.example.com"]
        http = [{"directResponse": {"status": 200}}]
        public = document("VirtualService", "api", {"hosts": hosts, "http": http}, "one")
        private = document("VirtualService", "api", {"hosts": hosts, "http": http, "exportTo": ["."]}, "two")
        assert len(snapshot_of(store_with(public, private)).virtual_services) == 2

    def test_a_second_destination_rule_for_a_host_is_quarantined(self) -> None:
        second = destination_rule("z-second", "reviews", "v9")
        store = store_with(*reviews_mesh(), second)
        assert quarantine_reason(store, second) == (
            f"spec.host: the host {REVIEWS} is already configured by "
            "DestinationRule default/reviews (mesh.yaml:4)"
        )

    @pytest.mark.parametrize("kind", ["Sidecar", "PeerAuthentication"])
    def test_a_namespace_has_one_policy_without_a_selector(self, kind: str) -> None:
        first, second = document(kind, "a", {}), document(kind, "b", {})
        assert "the namespace default is already configured" in quarantine_reason(
            store_with(second, first), second
        )

    def test_a_resource_in_two_files_is_the_first_files(self) -> None:
        store = store_with(*reviews_mesh())
        second = virtual_service("reviews", ["reviews"], destination("reviews", "v2"))
        feed(store, second, file="copy.yaml")
        assert subsets_in_force(store) == ["v1"]
        (status,) = [each for each in store.statuses() if each.origin.file == "copy.yaml"]
        assert status.reasons == ("VirtualService default/reviews is already defined in mesh.yaml:5",)
        store.delete(key_of(second), "mesh.yaml")
        assert subsets_in_force(store) == ["v2"]


class TestHostsWithSeveralDeclarations:
    def states(self, store: Store) -> set[State]:
        return {status.state for status in store.statuses()}

    def addresses(self, store: Store, namespace: str, number: int = 80) -> list[str]:
        proxy = sidecar_proxy(namespace=namespace)
        name = f"outbound|{number}||api.example.com"
        assignment = build_endpoints(BuildCache(), snapshot_of(store), proxy, [name])[name]
        return [
            each.endpoint.address.socket_address.address
            for locality in assignment.endpoints
            for each in locality.lb_endpoints
        ]

    def test_each_namespace_sees_its_own_private_declaration(self) -> None:
        store = store_with(
            *(
                entry("api", namespace, endpoints=at(address), exportTo=["."])
                for namespace, address in (("one", "192.0.2.1"), ("two", "192.0.2.2"))
            )
        )
        assert self.states(store) == {State.APPLIED}
        assert self.addresses(store, "one") == ["192.0.2.1"]
        assert self.addresses(store, "two") == ["192.0.2.2"]
        assert not scope_of(BuildCache(), snapshot_of(store), sidecar_proxy(namespace="three")).services

    def test_a_public_declaration_does_not_conflict_with_a_private_one(self) -> None:
        public = entry("api", "one", endpoints=at("192.0.2.1"))
        store = store_with(public, entry("api", "two", endpoints=at("192.0.2.2"), exportTo=["."]))
        assert self.states(store) == {State.APPLIED}
        assert [self.addresses(store, each) for each in ("one", "two", "three")] == [
            ["192.0.2.1"],
            ["192.0.2.2"],
            ["192.0.2.1"],
        ]

    def test_no_other_namespace_overrides_a_private_declaration(self) -> None:
        """Whatever its age; a warning names the namespace where its declaration does not count."""
        older = entry("api", "one", endpoints=at("192.0.2.1"), exportTo=["two", "three"])
        older["metadata"]["creationTimestamp"] = "2024-01-01T00:00:00Z"
        own = entry("api", "two", endpoints=at("192.0.2.2"), exportTo=["."])
        own["metadata"]["creationTimestamp"] = "2025-01-01T00:00:00Z"
        store = store_with(older, own)
        assert self.addresses(store, "two") == ["192.0.2.2"]
        assert self.addresses(store, "three") == ["192.0.2.1"]
        assert status_of(store, own).warnings == ()
        assert status_of(store, older).warnings == (
            "spec.hosts[0]: the host api.example.com is declared in the namespace two by "
            "ServiceEntry two/api (mesh.yaml:2)",
        )

    def test_a_namespace_that_several_export_to_sees_the_oldest(self) -> None:
        first, second = (
            entry("api", namespace, endpoints=at(address), exportTo=[".", "shared"])
            for namespace, address in (("one", "192.0.2.1"), ("two", "192.0.2.2"))
        )
        store = store_with(second, first)
        assert self.states(store) == {State.APPLIED}
        assert [self.addresses(store, each) for each in ("one", "two", "shared")] == [
            ["192.0.2.1"],
            ["192.0.2.2"],
            ["192.0.2.1"],
        ]
        (words,) = status_of(store, second).warnings
        assert "declared in the namespace shared by ServiceEntry one/api" in words

    @pytest.mark.parametrize(
        ("imported", "address"),
        [
            ("./*", "192.0.2.2"),
            ("*/*", "192.0.2.2"),
            ("one/*", "192.0.2.1"),
            ("one/api.example.com", "192.0.2.1"),
        ],
    )
    def test_a_sidecar_uses_the_declaration_that_it_imports(self, imported: str, address: str) -> None:
        """Istio: the first of those that are imported, and not the first of all if that is."""
        public = entry("api", "one", endpoints=at("192.0.2.1"))
        own = entry("api", "two", endpoints=at("192.0.2.2"), exportTo=["."])
        sidecar = document("Sidecar", "default", {"egress": [{"hosts": [imported]}]}, "two")
        store = store_with(public, own, sidecar)
        (declared,) = scope_of(BuildCache(), snapshot_of(store), sidecar_proxy(namespace="two")).services[
            "api.example.com"
        ]
        assert declared.namespace == {"192.0.2.1": "one", "192.0.2.2": "two"}[address]
        assert self.addresses(store, "two") == [address]

    def test_a_younger_declaration_for_everybody_is_quarantined(self) -> None:
        store = store_with(entry("api", "one"), entry("api", "two"))
        assert "already declared by ServiceEntry one/api" in quarantine_reason(store, entry("api", "two"))

    def test_one_hosts_ports_may_be_declared_apart(self) -> None:
        store = store_with(
            entry("plain", "default", 80, endpoints=at("192.0.2.1")),
            entry("other", "default", 8080, resolution="DNS", endpoints=at("a.example.com")),
            entry("tls", "default", 443, endpoints=at("192.0.2.3")),
        )
        assert self.states(store) == {State.APPLIED}
        assert self.addresses(store, "default", 80) == ["192.0.2.1"]
        assert self.addresses(store, "default", 443) == ["192.0.2.3"]
        clusters = build_clusters(BuildCache(), snapshot_of(store), sidecar_proxy())
        types = {name: clusters[f"outbound|{name}||api.example.com"].type for name in (80, 8080, 443)}
        assert types == {80: Cluster.EDS, 8080: Cluster.STRICT_DNS, 443: Cluster.EDS}

    def test_ports_of_one_name_are_distinguished_by_their_declaration(self) -> None:
        ports = [{"number": number, "name": "http", "protocol": "HTTP"} for number in (80, 81)]
        store = store_with(
            entry("a", endpoints=at("192.0.2.1"), ports=ports[:1]),
            entry("b", endpoints=at("192.0.2.2"), ports=ports[1:]),
        )
        assert self.addresses(store, "default", 80) == ["192.0.2.1"]
        assert self.addresses(store, "default", 81) == ["192.0.2.2"]

    def test_a_port_that_is_declared_twice_is_the_olders(self) -> None:
        second = entry("second", "default", 443, 80)
        store = store_with(entry("first", "default", 80), second)
        assert "already declared by ServiceEntry default/first" in quarantine_reason(store, second)

    def test_ports_of_another_namespaces_host_are_not_added_to_it(self) -> None:
        second = entry("api", "other", 8443)
        store = store_with(entry("api", "default", 80), second)
        assert "already declared by ServiceEntry default/api" in quarantine_reason(store, second)

    def test_a_declaration_that_goes_leaves_the_others_endpoints(self) -> None:
        plain, tls = (
            entry(name, "default", number, endpoints=at(address))
            for name, number, address in (("a", 80, "192.0.2.1"), ("b", 443, "192.0.2.2"))
        )
        store = store_with(plain, tls)
        store.delete(key_of(plain), "mesh.yaml")
        assert self.addresses(store, "default", 443) == ["192.0.2.2"]
        assert [each.address for each in snapshot_of(store).endpoints["api.example.com"]] == ["192.0.2.2"]

    def test_a_route_leads_to_the_declaration_that_its_namespace_sees(self) -> None:
        def route(namespace: str, number: int) -> Document:
            target = {"destination": {"host": "api.example.com", "port": {"number": number}}}
            spec = {"hosts": ["a.example.com"], "http": [{"route": [target]}], "exportTo": ["."]}
            return document("VirtualService", "route", spec, namespace)

        declared = [
            entry("api", "one", 80, exportTo=["."]),
            entry("more", "one", 443, exportTo=["."]),
            entry("api", "two", 8080, exportTo=["."]),
        ]
        good = [route("one", 443), route("two", 8080)]
        store = store_with(*declared, *good)
        assert [unresolved(store, each) for each in good] == [[], []]
        bad = route("two", 443)
        (words,) = unresolved(store_with(*declared, bad), bad)
        assert "its ports: 8080" in words


class TestRulesOfSeveralNamespaces:
    def test_a_virtual_service_of_a_namespace_for_itself_comes_before_an_older_one_for_it(self) -> None:
        def answer(namespace: str, status: int, year: int, *export_to: str) -> Document:
            http = [{"directResponse": {"status": status}}]
            spec = {"hosts": ["api.example.com"], "http": http, "exportTo": list(export_to)}
            return document(
                "VirtualService", "api", spec, namespace, creationTimestamp=f"{year}-01-01T00:00:00Z"
            )

        older, own = answer("one", 200, 2024, "two", "three"), answer("two", 418, 2025, ".")
        store = store_with(older, own)
        assert {each.state for each in store.statuses()} == {State.APPLIED}
        for namespace, status in (("two", 418), ("three", 200)):
            scope = scope_of(BuildCache(), snapshot_of(store), sidecar_proxy(namespace=namespace))
            spec = scope.virtual_service("api.example.com")
            assert spec is not None
            assert spec.http[0].direct_response is not None
            assert spec.http[0].direct_response.status == status
        (words,) = [each for each in status_of(store, older).warnings if "routed" in each]
        assert "in the namespace two by VirtualService two/api" in words

    def test_a_namespace_may_have_one_destination_rule_for_itself_and_one_for_others(self) -> None:
        public = destination_rule("a", "reviews", "public")
        private = destination_rule("b", "reviews", "private")
        private["spec"]["exportTo"] = ["."]
        store = store_with(service("reviews"), public, private)
        assert {each.state for each in store.statuses()} == {State.APPLIED}
        snapshot = snapshot_of(store)
        for namespace, subset in (("default", "private"), ("other", "public")):
            clusters = build_clusters(BuildCache(), snapshot, sidecar_proxy(namespace=namespace))
            assert f"outbound|9080|{subset}|{REVIEWS}" in clusters
