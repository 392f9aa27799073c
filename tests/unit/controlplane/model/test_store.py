from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.errors import ResourceError
from controlplane.kinds.registry import KINDS
from controlplane.model.mesh_config import MeshConfig
from controlplane.model.service import Protocol, Resolution
from controlplane.model.snapshot import MeshSnapshot, SnapshotChange
from controlplane.model.status import Fault, Origin, ResourceStatus, State
from controlplane.model.store import Store
from controlplane.networking import build_clusters, build_endpoints, scope_of
from controlplane.networking.build_cache import BuildCache
from protos.type_urls import CLUSTER, PUSH_ORDER, ROUTE
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
from tests.support.meshes import sidecar_proxy

REVIEWS = "reviews.default.svc.cluster.local"


def reviews_mesh() -> list[Document]:
    return [
        service("reviews"),
        workload("reviews-1", "10.0.0.1", {"app": "reviews", "version": "v1"}),
        workload("reviews-2", "10.0.0.2", {"app": "reviews", "version": "v2"}),
        destination_rule("reviews", "reviews", "v1", "v2"),
        virtual_service("reviews", ["reviews"], destination("reviews", "v1")),
    ]


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

    def test_a_service_entry_does_not_take_the_host_of_a_kubernetes_service_however_old_it_is(self) -> None:
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

    def test_it_is_applied_once_the_first_is_gone(self) -> None:
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
        assert status.reasons == ("mesh.yaml:5 has VirtualService default/reviews already",)
        store.delete(key_of(second), "mesh.yaml")
        assert subsets_in_force(store) == ["v2"]


def entry(name: str, namespace: str = "default", *numbers: int, **spec: object) -> Document:
    ports = [{"number": number, "name": f"http-{number}", "protocol": "HTTP"} for number in numbers or (80,)]
    fields = {"hosts": ["api.example.com"], "ports": ports, "resolution": "STATIC", **spec}
    return document("ServiceEntry", name, fields, namespace)


def at(address: str) -> list[Document]:
    return [{"address": address}]


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


class TestUndeclaredProtocols:
    """Such a port is plain TCP; its author and those who route HTTP to it get a warning."""

    def test_a_service_warns_of_ports_without_a_protocol(self) -> None:
        ports: list[Document] = [
            {"name": "web", "port": 8080},
            {"name": "http-api", "port": 8081},
            {"name": "any", "port": 8082, "appProtocol": "grpc"},
            {"name": "odd", "port": 8083, "appProtocol": "example.com/odd"},
            {"name": "dns", "port": 5353, "protocol": "UDP"},
            {"name": "db", "port": 3306},
        ]
        resource = service("reviews", ports=ports)
        words = status_of(store_with(resource), resource).warnings
        assert [each.split(":")[0] for each in words] == ["spec.ports[0]", "spec.ports[3]"]
        assert words[0] == (
            "spec.ports[0]: neither the name 'web' nor `appProtocol` declares the protocol of port 8080: "
            "redirected connections to it are plain TCP, and HTTP routes have no effect"
        )

    def test_a_service_entry_warns_of_ports_without_a_protocol(self) -> None:
        ports = [{"number": 80, "name": "web"}, {"number": 81, "name": "web-2", "protocol": "HTTP"}]
        resource = entry("api", ports=ports)
        (words,) = status_of(store_with(resource), resource).warnings
        assert words.startswith("spec.ports[0]: neither the name 'web' nor `protocol` declares")

    def test_a_sidecar_warns_of_ports_without_a_protocol(self) -> None:
        ports = [
            {"number": 80, "name": "web", "protocol": ""},
            {"number": 81, "name": "a", "protocol": "TCP"},
        ]
        sidecar = document("Sidecar", "a", {"ingress": [{"port": each} for each in ports]})
        (words,) = status_of(store_with(sidecar), sidecar).warnings
        assert words.startswith("spec.ingress[0].port: neither the name 'web' nor `protocol` declares")

    def test_a_virtual_service_names_the_ports_that_do_not_follow_it(self) -> None:
        ports = [{"name": name, "port": number} for name, number in (("web", 80), ("http", 81))]
        route = virtual_service("reviews", ["reviews"], destination("reviews"))
        store = store_with(service("reviews", ports=ports), route)
        assert status_of(store, route).warnings == (
            f"spec.http: has no effect on redirected connections to port 80 of {REVIEWS}: "
            "its protocol is not declared",
        )

    def test_a_virtual_service_for_many_hosts_names_some_of_the_ports_that_do_not_follow_it(self) -> None:
        unsaid = [service(f"s{number}", ports=[{"name": "web", "port": 80}]) for number in range(7)]
        route = virtual_service("all", ["*.default.svc.cluster.local"], destination("reviews"))
        store = store_with(*reviews_mesh(), *unsaid, route)
        (words,) = status_of(store, route).warnings
        assert words == (
            "spec.http: has no effect on redirected connections to ports whose protocol is not declared: "
            + ", ".join(f"s{number}.default.svc.cluster.local:80" for number in range(5))
            + " and 2 more"
        )

    @pytest.mark.parametrize(
        ("name", "field", "follows"),
        [
            ("http", "http", True),
            ("tcp", "http", False),
            ("https", "http", False),
            ("https", "tls", True),
            ("http", "tls", False),
            ("tcp", "tls", False),
            ("web", "tls", False),
            ("tcp", "tcp", True),
            ("web", "tcp", True),
            ("http", "tcp", False),
        ],
    )
    def test_routes_that_no_port_follows_cause_a_warning(self, name: str, field: str, follows: bool) -> None:
        rule: Document = {"route": [destination("reviews")]}
        if field == "tls":
            rule["match"] = [{"sniHosts": ["reviews"]}]
        route = document("VirtualService", "reviews", {"hosts": ["reviews"], field: [rule]})
        store = store_with(service("reviews", ports=[{"name": name, "port": 8080}]), route)
        told = [each for each in status_of(store, route).warnings if "has no port of such a protocol" in each]
        assert bool(told) is not follows


class TestGateways:
    """Sidecars follow the part for ``mesh``. The rest is accepted, and has no effect."""

    def ingress(self, name: str = "ingress", **spec: object) -> Document:
        http = [{"route": [destination("reviews", "v1")]}]
        return document(
            "VirtualService", name, {"hosts": ["reviews"], "gateways": ["public"], "http": http, **spec}
        )

    def test_a_virtual_service_for_a_gateway_rules_nothing_and_says_so(self) -> None:
        route = self.ingress(hosts=["*"], gateways=["istio-system/public", "b"])
        store = store_with(*reviews_mesh()[:-1], route)
        status = status_of(store, route)
        assert (status.state, status.reasons) == (State.APPLIED, ())
        assert status.warnings == (
            "spec.gateways: not for sidecars, and gateways are not supported yet: b, istio-system/public",
        )
        (config,) = snapshot_of(store).virtual_services
        assert (config.spec.hosts, config.spec.http) == ((), ())

    def test_it_conflicts_with_no_other_in_either_order(self) -> None:
        route = self.ingress(name="a")
        store = store_with(*reviews_mesh()[:-1], route)
        feed(store, reviews_mesh()[-1], file="later.yaml")
        assert subsets_in_force(store) == ["v1"]
        assert {each.state for each in store.statuses()} == {State.APPLIED}

    def test_where_it_leads_does_not_matter(self) -> None:
        route = self.ingress(http=[{"route": [destination("nowhere")]}])
        store = store_with(route)
        assert status_of(store, route).state is State.APPLIED

    def test_with_a_gateway_and_the_mesh_it_applies_to_sidecars(self) -> None:
        route = self.ingress(gateways=["public", "mesh"])
        store = store_with(*reviews_mesh()[:-1], route)
        assert subsets_in_force(store) == ["v1"]
        assert status_of(store, route).warnings == (
            "spec.gateways: sidecars follow the part that is for `mesh`; "
            "gateways are not supported yet: public",
        )

    def test_the_route_of_a_gateway_alone_may_lead_anywhere(self) -> None:
        elsewhere = {"match": [{"gateways": ["public"]}], "route": [destination("nowhere")]}
        everywhere = {"match": [{"gateways": ["public"]}, {}], "route": [destination("nobody")]}
        route = self.ingress(
            gateways=["public", "mesh"], http=[elsewhere, {"route": [destination("reviews")]}]
        )
        store = store_with(service("reviews"), route)
        assert unresolved(store, route) == []
        broken = self.ingress(gateways=["public", "mesh"], http=[elsewhere, everywhere])
        (words,) = unresolved(store_with(service("reviews"), broken), broken)
        assert words.startswith("spec.http[1].route[0].destination.host: ")


class TestDeprecatedFields:
    def test_each_deprecated_field_is_named_with_its_meaning(self) -> None:
        detection = {"outlierDetection": {"consecutiveErrors": 3}}
        ports = [{"port": {"number": 80}, **detection}]
        subset = {"name": "v1", "trafficPolicy": {"portLevelSettings": ports}}
        rule = document(
            "DestinationRule", "a", {"host": "reviews", "trafficPolicy": detection, "subsets": [subset]}
        )
        words = "consecutiveErrors: is the old name of `consecutive5xxErrors`, and means the same"
        assert status_of(store_with(service("reviews"), rule), rule).warnings == (
            f"spec.trafficPolicy.outlierDetection.{words}",
            f"spec.subsets[0].trafficPolicy.portLevelSettings[0].outlierDetection.{words}",
        )

    def test_a_listeners_target_port_is_not_read(self) -> None:
        ingress = [{"port": {"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8080}}]
        sidecar = document("Sidecar", "a", {"ingress": ingress})
        (words,) = status_of(store_with(sidecar), sidecar).warnings
        assert words.startswith("spec.ingress[0].port.targetPort: is ignored")


class TestReferences:
    """A destination that is not there concerns that destination alone: its requests get 503, and that is
    told."""

    def test_a_subset_that_does_not_exist_is_named_with_the_known_ones(self) -> None:
        broken = virtual_service("reviews", ["reviews"], destination("reviews", "v9"))
        store = store_with(*reviews_mesh()[:-1], broken)
        assert unresolved(store, broken) == [
            "spec.http[0].route[0].destination.subset: "
            "DestinationRule default/reviews has no subset 'v9'; its subsets: v1, v2: "
            "requests for it get 503 (NC)"
        ]

    def test_a_subset_without_any_destination_rule(self) -> None:
        broken = virtual_service("reviews", ["reviews"], destination("reviews", "v1"))
        (words,) = unresolved(store_with(service("reviews"), broken), broken)
        assert f"no DestinationRule applies to {REVIEWS}" in words

    def test_a_destination_that_is_no_service(self) -> None:
        broken = virtual_service("reviews", ["reviews"], destination("revews"))
        (words,) = unresolved(store_with(service("reviews"), broken), broken)
        assert words.startswith(
            "spec.http[0].route[0].destination.host: "
            "no service that default can see has the host revews.default.svc.cluster.local"
        )

    def test_a_port_that_is_not_the_services(self) -> None:
        target = {"destination": {"host": "reviews", "port": {"number": 80}}}
        broken = virtual_service("reviews", ["reviews"], target)
        (words,) = unresolved(store_with(service("reviews"), broken), broken)
        assert words.startswith(
            f"spec.http[0].route[0].destination.port.number: {REVIEWS} has no port 80; its ports: 9080"
        )

    def test_a_service_of_another_namespace_that_is_not_exported_is_no_destination(self) -> None:
        hidden = document(
            "ServiceEntry", "api", {"hosts": ["api.example.com"], "exportTo": ["."]}, namespace="other"
        )
        broken = virtual_service("api", ["api.example.com"], destination("api.example.com"))
        (words,) = unresolved(store_with(hidden, broken), broken)
        assert "no service that default can see" in words

    @pytest.mark.parametrize(
        ("export_to", "who"),
        [
            ([], "other namespaces see"),
            (["*"], "other namespaces see"),
            ([".", "three", "two"], "the namespaces three, two see"),
            (["."], ""),
            (["~"], ""),
        ],
    )
    def test_a_route_that_is_seen_where_its_destination_is_not_warns(
        self, export_to: list[str], who: str
    ) -> None:
        """It leads nowhere there, while its own namespace finds all in order."""
        private = destination_rule("reviews", "reviews", "v1")
        private["spec"]["exportTo"] = ["."]
        route = virtual_service("reviews", ["reviews"], destination("reviews", "v1"), destination("gone"))
        route["spec"]["exportTo"] = export_to
        for each in route["spec"]["http"][0]["route"]:
            each["weight"] = 1
        store = store_with(service("reviews"), private, route)
        assert [words.split(":")[0] for words in unresolved(store, route)] == [
            "spec.http[0].route[1].destination.host"
        ]
        expected = f"spec.http[0].route[0].destination: {who} this route, but not its destination"
        assert status_of(store, route).warnings == ((expected,) if who else ())

    def test_a_service_that_gets_a_second_port_is_no_longer_found_without_one(self) -> None:
        """The proxy would look for the port of the request."""
        ports = [{"name": "http", "port": 80}, {"name": "http-admin", "port": 81}]
        route = virtual_service("reviews", ["reviews"], destination("extra"))
        store = store_with(service("reviews"), service("extra", ports=ports[:1]), route)
        assert unresolved(store, route) == []
        feed(store, service("extra", ports=ports))
        assert unresolved(store, route) == [
            "spec.http[0].route[0].destination.port: is missing, and extra.default.svc.cluster.local has no "
            "port 9080, which requests are for; its ports: 80, 81: requests for it get 503 (NC)"
        ]

    def test_a_match_for_gateways_alone_brings_no_requests_of_sidecars(self) -> None:
        ports = [{"name": "http", "port": 80}, {"name": "http-admin", "port": 81}]
        rule = {"match": [{"gateways": ["public"]}, {"port": 80}], "route": [destination("extra")]}
        spec = {"hosts": ["reviews"], "gateways": ["public", "mesh"], "http": [rule]}
        route = document("VirtualService", "reviews", spec)
        both = service("reviews", ports=[{"name": "http", "port": 80}, {"name": "http-b", "port": 82}])
        store = store_with(both, service("extra", ports=ports), route)
        assert unresolved(store, route) == []

    def test_requests_for_an_undeclared_host_use_port_80(self) -> None:
        """As proxies route them. A service with several other ports does not resolve."""
        ports = [{"name": "http", "port": 9080}, {"name": "http-admin", "port": 9081}]
        route = virtual_service("www", ["www.example.com"], destination("reviews"))
        (words,) = unresolved(store_with(service("reviews", ports=ports), route), route)
        assert "reviews.default.svc.cluster.local has no port 80, which requests are for" in words
        assert unresolved(store_with(service("reviews", ports=ports[:1]), route), route) == []

    def test_each_unresolved_destination_is_reported(self) -> None:
        spec = {
            "hosts": ["reviews"],
            "http": [{"route": [destination("reviews", "v1", 90), destination("http-gone", weight=10)]}],
            "tcp": [{"route": [destination("tcp-gone")]}],
            "tls": [
                {
                    "match": [{"sniHosts": ["reviews"]}],
                    "route": [destination("reviews"), destination("tls-gone")],
                }
            ],
        }
        spec["tls"][0]["route"][0]["weight"] = spec["tls"][0]["route"][1]["weight"] = 1  # type: ignore[index]
        route = document("VirtualService", "reviews", spec)
        store = store_with(*reviews_mesh()[:-1], route)
        gone = "svc.cluster.local"
        assert unresolved(store, route) == [
            "spec.http[0].route[1].destination.host: no service that default can see has the host "
            f"http-gone.default.{gone}: requests for it get 503 (NC)",
            "spec.tls[0].route[1].destination.host: no service that default can see has the host "
            f"tls-gone.default.{gone}: connections for it are closed (NC)",
            "spec.tcp[0].route[0].destination.host: no service that default can see has the host "
            f"tcp-gone.default.{gone}: connections for it are closed (NC)",
        ]

    @pytest.mark.parametrize("lost", [0, 3], ids=["the Service", "the DestinationRule"])
    def test_a_destination_that_is_lost_leaves_the_resource_in_force(self, lost: int) -> None:
        mesh = reviews_mesh()
        store = store_with(*mesh)
        store.delete(key_of(mesh[lost]), "mesh.yaml")
        assert subsets_in_force(store) == ["v1"]
        assert unresolved(store, mesh[-1])
        feed(store, mesh[lost])
        assert subsets_in_force(store) == ["v1"]
        assert unresolved(store, mesh[-1]) == []

    def test_a_subset_that_is_renamed_leaves_the_resource_in_force(self) -> None:
        store = store_with(*reviews_mesh())
        feed(store, destination_rule("reviews", "reviews", "one", "v2"))
        assert subsets_in_force(store) == ["v1"]
        (words,) = unresolved(store, reviews_mesh()[-1])
        assert "has no subset 'v1'; its subsets: one, v2" in words

    def test_a_new_version_is_treated_as_an_old_one(self) -> None:
        """Otherwise the version in force would depend on the order of the version and the loss."""
        store = store_with(*reviews_mesh())
        feed(store, virtual_service("reviews", ["reviews"], destination("reviews", "v9")))
        assert subsets_in_force(store) == ["v9"]

    def test_unresolved_destinations_of_the_last_good_version_are_reported(self) -> None:
        store = store_with(*reviews_mesh())
        rule, route = reviews_mesh()[3:5]
        store.reject(key_of(route), [ResourceError("spec", "is bad")], Origin(file="mesh.yaml"))
        store.delete(key_of(rule), "mesh.yaml")
        assert subsets_in_force(store) == ["v1"]
        status = status_of(store, route)
        assert (status.state, status.in_force) == (State.QUARANTINED, True)
        assert "no DestinationRule applies to" in status.unresolved[0]

    def test_a_resource_that_loses_its_workloads_or_imports_stays_in_force(self) -> None:
        sidecar = document("Sidecar", "default", {"egress": [{"hosts": ["./reviews", "./gone.example.com"]}]})
        store = store_with(*reviews_mesh(), sidecar)
        for each in reviews_mesh()[:3]:
            store.delete(key_of(each), "mesh.yaml")
        snapshot = snapshot_of(store)
        assert (
            len(snapshot.sidecars) == len(snapshot.virtual_services) == len(snapshot.destination_rules) == 1
        )

    def test_a_wildcard_rule_gives_subsets_to_the_services_it_covers(self) -> None:
        rule = destination_rule("all", "*.default.svc.cluster.local", "v1")
        route = virtual_service("r", ["reviews"], destination("reviews", "v1"))
        assert unresolved(store_with(service("reviews"), rule, route), route) == []


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

    def test_a_resource_deleted_and_written_anew_before_a_build_keeps_its_last_good_version(self) -> None:
        store = store_with(*reviews_mesh())
        key = key_of(reviews_mesh()[-1])
        store.delete(key, "mesh.yaml")
        store.reject(key, [ResourceError("spec", "is bad")], Origin(file="mesh.yaml"))
        assert subsets_in_force(store) == ["v1"]

    def test_a_deleted_resource_is_gone_with_its_status(self) -> None:
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
    assert _substance(store_with(*(resources[index] for index in order))) == _substance(
        store_with(*resources)
    )


def test_a_network_causes_a_warning() -> None:
    store = store_with(workload("a", "10.0.0.1", {}, network="west"))
    (status,) = store.statuses()
    assert status.warnings == ("spec.network: is ignored: every workload is assumed to reach every other",)


def test_header_operations_without_effect_cause_a_warning() -> None:
    headers = {"request": {"remove": ["te", "x"]}, "response": {"set": {"Transfer-Encoding": "chunked"}}}
    way = {"destination": {"host": "reviews"}, "headers": {"response": {"add": {"content-length": "7"}}}}
    rule = {"headers": headers, "route": [way]}
    virtual_service = document("VirtualService", "a", {"hosts": ["reviews"], "http": [rule]})
    store = store_with(service("reviews"), virtual_service)
    status = status_of(store, virtual_service)
    assert status.state is State.APPLIED
    words = "has no effect: proxies set the framing of messages themselves"
    assert status.warnings == (
        f"spec.http[0].headers.request.remove.te: {words}",
        f"spec.http[0].headers.response.set.transfer-encoding: {words}",
        f"spec.http[0].route[0].headers.response.add.content-length: {words}",
    )


@settings(max_examples=60)
@given(st.permutations(range(5)))
def test_without_conflicts_builds_in_between_do_not_matter(order: list[int]) -> None:
    resources = reviews_mesh()
    store = Store(KINDS)
    for index in order:
        feed(store, resources[index])
        store.build()
    assert _substance(store) == _substance(store_with(*resources))


def _substance(store: Store) -> object:
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


def large_mesh(services: int, replicas: int) -> Iterator[Document]:
    for index in range(services):
        name = f"svc-{index}"
        yield service(name)
        yield destination_rule(name, name, "v1")
        yield virtual_service(name, [name], destination(name, "v1"))
        for replica in range(replicas):
            address = f"10.{index >> 8}.{index & 255}.{replica + 1}"
            yield workload(f"{name}-{replica}", address, {"app": name, "version": "v1"})


def test_one_endpoint_of_many_services_changes_its_service_alone() -> None:
    store = Store(KINDS)
    feed(store, *large_mesh(50, 4))
    before, _ = store.build()
    assert sum(map(len, before.endpoints.values())) == 200
    feed(store, workload("svc-7-3", "10.9.9.9", {"app": "svc-7", "version": "v1"}))
    after, change = store.build()
    hostname = "svc-7.default.svc.cluster.local"
    assert change.endpoints == {hostname}
    changed = {name for name in after.endpoints if after.endpoints[name] is not before.endpoints[name]}
    assert changed == {hostname}
