from __future__ import annotations

import dataclasses
from typing import Any

from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment

from controlplane.model.service import Protocol, Service, Workload
from controlplane.networking import build_endpoints
from controlplane.networking.build_cache import BuildCache
from tests.support.meshes import Specs, external_service, mesh, port, service, sidecar_proxy, workload

REVIEWS = "reviews.default.svc.cluster.local"
ALL = f"outbound|9080||{REVIEWS}"
SUBSETS = {
    "reviews": {
        "host": REVIEWS,
        "subsets": [{"name": version, "labels": {"version": version}} for version in ("v1", "v2")],
    }
}


def assignment(*workloads: Workload, name: str = ALL, **policies: Specs) -> ClusterLoadAssignment:
    snapshot = mesh((service("reviews"), workloads), **policies)
    return build_endpoints(BuildCache(), snapshot, sidecar_proxy(), [name])[name]


def addresses(found: ClusterLoadAssignment) -> list[str]:
    return [
        each.endpoint.address.socket_address.address
        for locality in found.endpoints
        for each in locality.lb_endpoints
    ]


def only(found: ClusterLoadAssignment) -> Any:
    (locality,) = found.endpoints
    (endpoint,) = locality.lb_endpoints
    return endpoint


def test_all_endpoints_of_the_port() -> None:
    target = service("reviews", port(9080), port(9090, name="metrics"))
    snapshot = mesh((target, [workload("reviews", "10.1.0.1")]))
    found = build_endpoints(BuildCache(), snapshot, sidecar_proxy(), [f"outbound|9090||{REVIEWS}"])
    endpoint = only(found[f"outbound|9090||{REVIEWS}"])
    assert endpoint.endpoint.address.socket_address.port_value == 9090


def test_a_subset_has_the_endpoints_with_its_labels() -> None:
    found = assignment(
        workload("reviews", "10.1.0.1", "v1"),
        workload("reviews", "10.1.0.2", "v2"),
        name=f"outbound|9080|v2|{REVIEWS}",
        destination_rules=SUBSETS,
    )
    assert addresses(found) == ["10.1.0.2"]


def test_a_subset_without_endpoints_is_empty_and_known() -> None:
    found = assignment(name=f"outbound|9080|v2|{REVIEWS}", destination_rules=SUBSETS)
    assert found.cluster_name == f"outbound|9080|v2|{REVIEWS}"
    assert addresses(found) == []


def test_unknown_names_are_absent() -> None:
    snapshot = mesh(
        (service("reviews"), []),
        (service("secret", namespace="other", export_to=(".",)), []),
        (external_service("api.example.com", port(80)), []),
        destination_rules=SUBSETS,
    )
    names = [
        "BlackHoleCluster",
        f"outbound|1|| {REVIEWS}",
        f"outbound|1||{REVIEWS}",
        f"outbound|9080|v9|{REVIEWS}",
        "outbound|9080||nobody.default.svc.cluster.local",
        "outbound|9080||secret.other.svc.cluster.local",
        "outbound|80||api.example.com",  # it resolves by itself
    ]
    assert build_endpoints(BuildCache(), snapshot, sidecar_proxy(), names) == {}


def test_mesh_tls_where_there_is_a_sidecar() -> None:
    meshed = only(assignment(workload("reviews", "10.1.0.1")))
    plain = only(assignment(workload("reviews", "10.1.0.1", mesh_tls=False)))
    assert dict(meshed.metadata.filter_metadata["envoy.transport_socket_match"]) == {"tlsMode": "istio"}
    assert "envoy.transport_socket_match" not in plain.metadata.filter_metadata


def test_no_mesh_tls_to_a_workload_whose_policy_disables_it() -> None:
    policies: Specs = {"off": {"selector": {"matchLabels": {"version": "v2"}}, "mtls": {"mode": "DISABLE"}}}
    v1 = only(assignment(workload("reviews", "10.1.0.1", "v1"), peer_authentications=policies))
    v2 = only(assignment(workload("reviews", "10.1.0.1", "v2"), peer_authentications=policies))
    assert "envoy.transport_socket_match" in v1.metadata.filter_metadata
    assert "envoy.transport_socket_match" not in v2.metadata.filter_metadata


def test_metrics_learn_the_workload_from_the_metadata() -> None:
    endpoint = only(assignment(workload("reviews", "10.1.0.1", "v2")))
    assert dict(endpoint.metadata.filter_metadata["istio"]) == {"workload": "reviews-v2;default;reviews;v2;"}


def test_canonical_labels_come_before_app_and_version() -> None:
    labels = {
        "app": "a",
        "version": "b",
        "service.istio.io/canonical-name": "name",
        "service.istio.io/canonical-revision": "revision",
    }
    labelled = only(assignment(workload("reviews", "10.1.0.1", labels=labels)))
    bare = only(assignment(workload("reviews", "10.1.0.1", labels={})))
    assert labelled.metadata.filter_metadata["istio"]["workload"] == "reviews-v1;default;name;revision;"
    assert bare.metadata.filter_metadata["istio"]["workload"] == "reviews-v1;default;reviews-v1;latest;"


def test_the_pods_of_one_owner_are_one_workload_to_metrics() -> None:
    pods = [
        workload("reviews", f"10.1.0.{number}", name=f"reviews-v1-7d-{number}", owner="reviews-v1", labels={})
        for number in range(2)
    ]
    (locality,) = assignment(*pods).endpoints
    told = {each.metadata.filter_metadata["istio"]["workload"] for each in locality.lb_endpoints}
    assert told == {"reviews-v1;default;reviews-v1;latest;"}


def test_localities_are_apart_and_have_the_weight_of_their_endpoints() -> None:
    found = assignment(
        workload("reviews", "10.1.0.1", locality="eu/b/rack", weight=3),
        workload("reviews", "10.1.0.2", locality="eu/a"),
        workload("reviews", "10.1.0.3", locality="eu/a", weight=2),
    )
    a, b = found.endpoints
    assert (a.locality.region, a.locality.zone, a.locality.sub_zone) == ("eu", "a", "")
    assert (b.locality.region, b.locality.zone, b.locality.sub_zone) == ("eu", "b", "rack")
    assert (a.load_balancing_weight.value, b.load_balancing_weight.value) == (3, 3)


def test_weights_that_do_not_fit_are_scaled_down() -> None:
    largest = 2**32 - 1
    found = assignment(
        *(
            workload("reviews", f"10.1.0.{number}", weight=weight)
            for number, weight in enumerate((largest, largest, 1))
        )
    )
    (locality,) = found.endpoints
    weights = [each.load_balancing_weight.value for each in locality.lb_endpoints]
    assert sum(weights) == locality.load_balancing_weight.value <= largest
    assert weights[0] == weights[1] > weights[2] == 1


def test_an_unhealthy_workload_is_left_out() -> None:
    found = assignment(workload("reviews", "10.1.0.1", healthy=False), workload("reviews", "10.1.0.2"))
    assert addresses(found) == ["10.1.0.2"]


def test_an_address_that_is_a_name_spoils_nothing() -> None:
    found = assignment(workload("reviews", "reviews.example.com"), workload("reviews", "::1"))
    assert addresses(found) == ["::1"]


def test_a_change_of_one_service_leaves_the_others_messages() -> None:
    cache = BuildCache()
    ratings = service("ratings", port(9080, Protocol.HTTP))
    before = mesh(
        (service("reviews"), [workload("reviews", "10.1.0.1")]), (ratings, [workload("ratings", "10.1.0.2")])
    )
    emptied: dict[str, Any] = {**before.endpoints, REVIEWS: ()}
    after = dataclasses.replace(before, generation=2, endpoints=emptied)
    names = [ALL, f"outbound|9080||{ratings.hostname}"]
    first = build_endpoints(cache, before, sidecar_proxy(), names)
    second = build_endpoints(cache, after, sidecar_proxy("other"), names)
    assert addresses(first[ALL]) == ["10.1.0.1"]
    assert addresses(second[ALL]) == []
    assert second[names[1]] is first[names[1]]


def test_no_other_service_is_looked_at() -> None:
    class Unreadable(Service):
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError("read another service")

    fields = {field.name: None for field in dataclasses.fields(Service)}
    snapshot = mesh((service("reviews"), [workload("reviews", "10.1.0.1")]))
    crowded = dataclasses.replace(snapshot, services={**snapshot.services, "other": Unreadable(**fields)})
    assert addresses(build_endpoints(BuildCache(), crowded, sidecar_proxy(), [ALL])[ALL]) == ["10.1.0.1"]
