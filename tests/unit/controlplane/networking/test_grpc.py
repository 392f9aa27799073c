from __future__ import annotations

from typing import Any

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.route.v3.route_components_pb2 import Route
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)

from controlplane.model.service import Protocol
from controlplane.model.snapshot import MeshSnapshot
from controlplane.networking import build_clusters, build_endpoints, build_listeners, build_routes
from controlplane.networking.build_cache import BuildCache
from tests.support.meshes import external_service, grpc_proxy, mesh, port, service, sidecar_proxy, workload

HOST = "reviews.default.svc.cluster.local"
TARGET = f"{HOST}:9080"
ROUTES = f"outbound|9080||{HOST}"


def calls(*http: dict[str, Any], **policies: Any) -> MeshSnapshot:
    virtual_services = {"reviews": {"hosts": [HOST], "http": http}} if http else None
    return mesh(
        (service("reviews", port(9080, Protocol.GRPC)), [workload("reviews", "10.1.0.1")]),
        (external_service("api.example.com", port(443)), []),
        virtual_services=virtual_services,
        destination_rules={
            "reviews": {
                "host": HOST,
                "subsets": [{"name": v, "labels": {"version": v}} for v in ("v1", "v2")],
            }
        },
        **policies,
    )


def route(**http: Any) -> Route:
    (host,) = build_routes(BuildCache(), calls(http), grpc_proxy(), [ROUTES])[ROUTES].virtual_hosts
    (found,) = host.routes
    return found


def test_a_target_is_a_listener_that_names_its_routes() -> None:
    found = build_listeners(BuildCache(), calls(), grpc_proxy(), [TARGET])[TARGET]
    manager = HttpConnectionManager()
    assert found.api_listener.api_listener.Unpack(manager)
    assert not found.HasField("address")
    assert manager.rds.route_config_name == ROUTES
    assert manager.rds.config_source.HasField("ads")
    names = [each.name for each in manager.http_filters]
    assert names == ["envoy.filters.http.fault", "envoy.filters.http.router"]


def test_unknown_targets_are_absent() -> None:
    targets = [f"{HOST}:1", HOST, "", ":", f"{HOST}:²", "api.example.com:443", "unknown:9080"]
    assert build_listeners(BuildCache(), calls(), grpc_proxy(), targets) == {}
    assert (
        build_routes(
            BuildCache(),
            calls(),
            grpc_proxy(),
            ["9080", f"outbound|9080|v1|{HOST}", "outbound|1||x"],
        )
        == {}
    )
    assert (
        build_clusters(BuildCache(), calls(), grpc_proxy(), ["BlackHoleCluster", "", "outbound|x||y"]) == {}
    )
    assert (
        build_endpoints(BuildCache(), calls(), grpc_proxy(), ["BlackHoleCluster", "", "outbound|x||y"]) == {}
    )


@pytest.mark.parametrize(
    "name", [f"outbound|9080|v9|{HOST}", f"outbound|1||{HOST}", "outbound|9080||gone.test"]
)
def test_a_destination_that_is_not_there_is_a_cluster_without_endpoints(name: str) -> None:
    """The client takes no routes that name a cluster which it does not get."""
    [cluster] = build_clusters(BuildCache(), calls(), grpc_proxy(), [name]).values()
    assert (cluster.name, cluster.type, cluster.eds_cluster_config.service_name) == (name, Cluster.EDS, name)
    [assignment] = build_endpoints(BuildCache(), calls(), grpc_proxy(), [name]).values()
    assert (assignment.cluster_name, len(assignment.endpoints)) == (name, 0)
    assert build_clusters(BuildCache(), calls(), sidecar_proxy(), [name]) == {}
    assert build_endpoints(BuildCache(), calls(), sidecar_proxy(), [name]) == {}


def test_without_names_all_resources_are_built() -> None:
    assert set(build_listeners(BuildCache(), calls(), grpc_proxy())) == {TARGET}
    assert set(build_clusters(BuildCache(), calls(), grpc_proxy())) == {
        f"outbound|9080|{v}|{HOST}" for v in ("", "v1", "v2")
    }


def test_the_virtual_host_matches_the_channels_authority() -> None:
    (host,) = build_routes(BuildCache(), calls(), grpc_proxy(), [ROUTES])[ROUTES].virtual_hosts
    assert list(host.domains) == [TARGET, HOST]
    assert host.routes[0].route.cluster == ROUTES


def test_weights() -> None:
    shares = [
        {"destination": {"host": HOST, "subset": version}, "weight": weight}
        for version, weight in (("v1", 90), ("v2", 10))
    ]
    weighted = route(route=shares).route.weighted_clusters.clusters
    assert [(each.name, each.weight.value) for each in weighted] == [
        (f"outbound|9080|v1|{HOST}", 90),
        (f"outbound|9080|v2|{HOST}", 10),
    ]


def test_unsupported_features_of_the_client_are_left_out() -> None:
    found = route(
        route=[{"destination": {"host": HOST}}],
        rewrite={"uri": "/x"},
        headers={"request": {"set": {"a": "1"}}},
        timeout="3s",
        retries={"attempts": 2, "retryOn": "5xx,unavailable"},
    )
    assert not found.request_headers_to_add
    assert not found.route.prefix_rewrite
    assert not found.route.HasField("timeout")
    assert found.route.max_stream_duration.max_stream_duration.ToTimedelta().total_seconds() == 3
    assert found.route.retry_policy.retry_on == "unavailable"
    assert found.route.retry_policy.num_retries.value == 2
    assert not found.route.retry_policy.retry_host_predicate


def test_nothing_is_retried_unless_asked_for() -> None:
    assert not route(route=[{"destination": {"host": HOST}}]).route.HasField("retry_policy")


def test_a_route_that_does_not_forward_fails_calls() -> None:
    assert route(directResponse={"status": 503}).HasField("non_forwarding_action")


def test_clusters_have_only_fields_that_the_client_supports() -> None:
    name = f"outbound|9080|v1|{HOST}"
    found = build_clusters(BuildCache(), calls(), grpc_proxy(), [name])[name]
    assert found.type == Cluster.EDS
    assert found.eds_cluster_config.eds_config.HasField("ads")
    assert found.lb_policy == Cluster.ROUND_ROBIN
    assert not found.transport_socket_matches
    assert found.circuit_breakers.thresholds[0].max_requests.value == 2**32 - 1


def test_localities_have_a_weight_for_otherwise_the_client_skips_them() -> None:
    name = f"outbound|9080|v1|{HOST}"
    (locality,) = build_endpoints(BuildCache(), calls(), grpc_proxy(), [name])[name].endpoints
    assert locality.load_balancing_weight.value == 1


def test_faults_are_the_clients_too_but_browsers_are_not_its_business() -> None:
    abort = {"abort": {"grpcStatus": "UNAVAILABLE", "percentage": {"value": 50}}}
    to_reviews = [{"destination": {"host": HOST}}]
    found = route(route=to_reviews, fault=abort, corsPolicy={"allowOrigins": [{"exact": "*"}]})
    assert list(found.typed_per_filter_config) == ["envoy.filters.http.fault"]
