"""The xDS types that a change touches; `test_incremental_pushes` compares it with the results of builders."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.kinds.registry import KINDS
from controlplane.model.kind import Touched
from controlplane.model.mesh_config import MeshConfig
from controlplane.model.view import View
from protos.type_urls import CLUSTER, ENDPOINT, LISTENER, PUSH_ORDER, ROUTE
from tests.support.documents import Document, destination, document, key_of, service, virtual_service

REVIEWS = "reviews.default.svc.cluster.local"
V1, V2 = destination("reviews", "v1", 90), destination("reviews", "v2", 10)
AUTOMATIC_ADDRESS = "networking.istio.io/enable-autoallocate-ip"
POOL = {"connectionPool": {"tcp": {"idleTimeout": "1s"}}}
SUBSETS = [{"name": "v1", "labels": {"version": "v1"}}, {"name": "v2", "labels": {"version": "v2"}}]


def view(resource: Document) -> View:
    parsed = KINDS.parse(resource)
    made: View = KINDS[parsed.kind].view(key_of(resource), parsed.metadata, parsed.spec, MeshConfig())
    return made


def change(before: Document, after: Document) -> Touched:
    return KINDS[before["kind"]].touched(view(before), view(after))


def routes(*route: Document, **spec: Any) -> Document:
    made = virtual_service("reviews", ["reviews"], *route)
    made["spec"] |= spec
    return made


def entry(labels: dict[str, str], **spec: Any) -> Document:
    made = document("ServiceEntry", "a", {"hosts": ["a.example.com"], **spec})
    made["metadata"]["labels"] = labels
    return made


def rule(**spec: Any) -> Document:
    return document("DestinationRule", "reviews", {"host": "reviews", "subsets": SUBSETS, **spec})


@pytest.mark.parametrize(
    ("spec", "labels", "expected"),
    [
        ({"resolution": "DNS"}, {}, True),
        ({"resolution": "STATIC"}, {}, True),
        ({"resolution": "NONE"}, {}, False),
        ({}, {}, False),
        ({"resolution": "DNS", "addresses": ["10.0.0.0/16"]}, {}, False),
        ({"resolution": "DNS"}, {AUTOMATIC_ADDRESS: "False"}, False),
        ({"resolution": "DNS"}, {AUTOMATIC_ADDRESS: "true"}, True),
        ({"resolution": "STATIC", "hosts": ["*.example.com"]}, {}, False),
    ],
)
def test_a_service_entry_gets_an_automatic_address_by_istios_rule(
    spec: dict[str, Any], labels: dict[str, str], expected: bool
) -> None:
    (declared,) = view(entry(labels, **spec))
    assert declared.service.automatic_address is expected


def test_the_label_that_refuses_an_automatic_address_touches_everything() -> None:
    before, after = entry({}, resolution="DNS"), entry({AUTOMATIC_ADDRESS: "false"}, resolution="DNS")
    assert change(before, after).types == frozenset(PUSH_ORDER)
    assert change(before, entry({"unread": "label"}, resolution="DNS")) == Touched()


def test_a_weight_is_in_routes_alone() -> None:
    moved = [{**V1, "weight": 50}, {**V2, "weight": 50}]
    assert change(routes(V1, V2), routes(*moved)) == Touched(types=frozenset({ROUTE}))


@pytest.mark.parametrize(
    "after",
    [
        routes(V1, destination("ratings", None, 10)),
        routes(V1, V2, hosts=["reviews", "more"]),
        routes(V1, V2, exportTo=["."]),
        routes(V1, V2, tcp=[{"route": [destination("reviews")]}]),
    ],
    ids=["destination", "host", "exportTo", "tcp"],
)
def test_other_changes_of_a_route_may_alter_clusters_and_listeners(after: Document) -> None:
    assert change(routes(V1, V2), after).types == {CLUSTER, LISTENER, ROUTE}


@pytest.mark.parametrize(
    ("after", "types", "endpoints"),
    [
        (rule(trafficPolicy={"outlierDetection": {"interval": "1s"}}), {CLUSTER}, set()),
        (rule(trafficPolicy=POOL), {CLUSTER, LISTENER}, set()),
        (
            rule(trafficPolicy={"portLevelSettings": [{"port": {"number": 80}, **POOL}]}),
            {CLUSTER, LISTENER},
            set(),
        ),
        (rule(subsets=[{**SUBSETS[0], "trafficPolicy": POOL}, SUBSETS[1]]), {CLUSTER}, set()),
        (rule(subsets=SUBSETS[:1]), {CLUSTER}, {REVIEWS}),
        (rule(subsets=[{**SUBSETS[0], "labels": {}}, SUBSETS[1]]), {CLUSTER}, {REVIEWS}),
        (rule(exportTo=["."]), {CLUSTER, ENDPOINT, LISTENER}, set()),
        (rule(host="ratings"), {CLUSTER, ENDPOINT, LISTENER}, set()),
    ],
    ids=["outliers", "pool", "pool of a port", "pool of a subset", "subset", "labels", "exportTo", "host"],
)
def test_a_rule_touches_the_resources_built_from_the_changed_part(
    after: Document, types: set[str], endpoints: set[str]
) -> None:
    found = change(rule(), after)
    assert (found.types, found.endpoints) == (types, endpoints)


def test_the_subsets_of_a_rule_for_many_hosts_are_any_services() -> None:
    found = change(rule(host="*.example.com"), rule(host="*.example.com", subsets=[]))
    assert found.types == {CLUSTER, ENDPOINT}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_new_or_deleted_resource_touches_all_types_of_its_kind(kind: str) -> None:
    assert KINDS[kind].touched(None, view(routes(V1))).types == KINDS[kind].touches


def test_the_labels_of_a_service_touch_nothing() -> None:
    labelled = service("reviews")
    labelled["metadata"]["labels"] = {"a": "b"}
    assert change(service("reviews"), labelled) == Touched()
    assert change(service("reviews"), service("reviews", selector={})).types == frozenset(PUSH_ORDER)
