from __future__ import annotations

from typing import Any

from protos import type_urls
from sidecar.config.endpoint import LoadAssignment, Locality, LocalityWeight, WorkloadMetadata
from sidecar.xds.decode import decode_resource
from tests.support.ads_server import packed
from tests.support.envoy_config import load_assignment


def decoded(document: dict[str, Any]) -> LoadAssignment:
    found = decode_resource(type_urls.ENDPOINT, packed(type_urls.ENDPOINT, document).value)
    assert isinstance(found, LoadAssignment)
    return found


def test_an_endpoint_of_istio() -> None:
    document = load_assignment("c", 80)
    group = document["endpoints"][0]
    group |= {"locality": {"region": "r", "zone": "z"}, "priority": 1}
    group["lb_endpoints"][0] |= {
        "load_balancing_weight": 3,
        "health_status": "DRAINING",
        "metadata": {
            "filter_metadata": {
                "envoy.transport_socket_match": {"tlsMode": "istio"},
                "envoy.lb": {"version": "v1"},
                "istio": {"workload": "w;ns;app;v1"},
            }
        },
    }
    (endpoint,) = decoded(document).endpoints
    assert (endpoint.weight, endpoint.priority, endpoint.health.name) == (3, 1, "DRAINING")
    assert endpoint.locality == Locality(region="r", zone="z")
    assert endpoint.tls_match == {"tlsMode": "istio"}
    assert endpoint.subset_labels == {"version": "v1"}
    assert endpoint.workload == WorkloadMetadata(
        name="w", namespace="ns", canonical_name="app", canonical_revision="v1"
    )


def test_the_weights_of_localities_are_kept_for_each_priority() -> None:
    (group,) = load_assignment("c", 80)["endpoints"]
    groups = [
        {**group, "locality": {"region": "a"}, "load_balancing_weight": 1},
        {**group, "locality": {"region": "b"}},
        {**group, "locality": {"region": "a"}, "priority": 1, "load_balancing_weight": 2},
        # Of several groups of one locality, the last weight holds.
        {**group, "locality": {"region": "a"}, "load_balancing_weight": 3},
        {**group, "locality": {"region": "a"}},
    ]
    found = decoded({"cluster_name": "c", "endpoints": groups})
    region = Locality(region="a")
    assert found.locality_weights == (
        LocalityWeight(locality=region, priority=0, weight=3),
        LocalityWeight(locality=region, priority=1, weight=2),
    )
