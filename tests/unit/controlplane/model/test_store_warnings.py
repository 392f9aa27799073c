"""Warnings of resources that are in force, and references to other resources."""

from __future__ import annotations

import pytest

from controlplane.errors import ResourceError
from controlplane.model.status import Origin, State
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
from tests.support.stores import (
    REVIEWS,
    entry,
    reviews_mesh,
    snapshot_of,
    status_of,
    store_with,
    subsets_in_force,
    unresolved,
)


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
        told = [
            each
            for each in status_of(store, route).warnings
            if "has no port with a matching protocol" in each
        ]
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
            "spec.gateways: sidecars do not use this resource, and gateways are not supported yet: "
            "b, istio-system/public",
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

    def test_a_destination_that_does_not_exist(self) -> None:
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

    def test_a_service_that_is_not_exported_is_not_a_destination(self) -> None:
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
            "port 9080, the port of the requests; its ports: 80, 81: requests for it get 503 (NC)"
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
        assert "reviews.default.svc.cluster.local has no port 80, the port of the requests" in words
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


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"fault": {"delay": {"fixedDelay": "1s"}}},
            "fault.delay: delays no request: `percentage` is missing",
        ),
        (
            {"fault": {"abort": {"httpStatus": 503}}},
            "fault.abort: aborts no request: `percentage` is missing",
        ),
        ({"corsPolicy": {"allowMethods": ["GET"]}}, "corsPolicy: matches no origin: `allowOrigins` is empty"),
        (
            {"route": [], "redirect": {"uri": "/"}, "corsPolicy": {"allowOrigins": [{"exact": "*"}]}},
            "corsPolicy: has no effect: the proxy itself answers the requests of this route",
        ),
    ],
)
def test_faults_and_policies_without_effect(fields: Document, words: str) -> None:
    http = {"route": [destination("reviews")], **fields}
    resource = document("VirtualService", "a", {"hosts": ["reviews"], "http": [http]})
    assert status_of(store_with(service("reviews"), resource), resource).warnings == (
        f"spec.http[0].{words}",
    )


def test_a_share_of_0_is_meant() -> None:
    fault = {"delay": {"fixedDelay": "1s", "percentage": {"value": 0}}}
    http = {"route": [destination("reviews")], "fault": fault}
    resource = document("VirtualService", "a", {"hosts": ["reviews"], "http": [http]})
    assert not status_of(store_with(service("reviews"), resource), resource).warnings
