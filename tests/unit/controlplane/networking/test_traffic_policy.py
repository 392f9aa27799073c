from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import UpstreamTlsContext
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions

from controlplane.model.service import Protocol
from controlplane.networking import build_clusters
from controlplane.networking.build_cache import BuildCache
from tests.support.meshes import mesh, port, service, sidecar_proxy

REVIEWS = "reviews.default.svc.cluster.local"
UNLIMITED = 2**32 - 1


def cluster(protocol: Protocol = Protocol.HTTP, *, h2_upgrade: bool = False, **policy: Any) -> Cluster:
    rules = {"reviews": {"host": REVIEWS, "trafficPolicy": policy}} if policy else None
    snapshot = mesh(
        (service("reviews", port(9080, protocol)), []), destination_rules=rules, h2_upgrade=h2_upgrade
    )
    return build_clusters(BuildCache(), snapshot, sidecar_proxy())[f"outbound|9080||{REVIEWS}"]


def http_options(built: Cluster) -> HttpProtocolOptions:
    options = HttpProtocolOptions()
    (packed,) = built.typed_extension_protocol_options.values()
    assert packed.Unpack(options)
    return options


@pytest.mark.parametrize(
    ("simple", "expected"),
    [
        ("LEAST_REQUEST", Cluster.LEAST_REQUEST),
        ("LEAST_CONN", Cluster.LEAST_REQUEST),
        ("ROUND_ROBIN", Cluster.ROUND_ROBIN),
        ("RANDOM", Cluster.RANDOM),
    ],
)
def test_balancing(simple: str, expected: int) -> None:
    assert cluster(loadBalancer={"simple": simple}).lb_policy == expected


def test_least_request_is_the_default() -> None:
    assert cluster().lb_policy == Cluster.LEAST_REQUEST


def test_passthrough_dials_the_original_destination() -> None:
    built = cluster(loadBalancer={"simple": "PASSTHROUGH"})
    assert built.type == Cluster.ORIGINAL_DST
    assert built.lb_policy == Cluster.CLUSTER_PROVIDED
    assert not built.HasField("eds_cluster_config")


def test_by_default_nothing_is_limited_but_retries() -> None:
    (threshold,) = cluster().circuit_breakers.thresholds
    assert threshold.max_connections.value == UNLIMITED
    assert threshold.max_pending_requests.value == UNLIMITED
    assert threshold.max_requests.value == UNLIMITED
    assert threshold.retry_budget.budget_percent.value == 20.0
    assert threshold.retry_budget.min_retry_concurrency.value == 3


def test_limits_are_the_connection_pools() -> None:
    built = cluster(
        connectionPool={
            "tcp": {"maxConnections": 1, "connectTimeout": "2s"},
            "http": {"http1MaxPendingRequests": 2, "http2MaxRequests": 3, "maxRetries": 4},
        }
    )
    (threshold,) = built.circuit_breakers.thresholds
    assert threshold.max_connections.value == 1
    assert threshold.max_pending_requests.value == 2
    assert threshold.max_requests.value == 3
    assert threshold.max_retries.value == 4
    # With a budget, Envoy would ignore max_retries.
    assert not threshold.HasField("retry_budget")
    assert built.connect_timeout.ToTimedelta() == timedelta(seconds=2)


def test_the_meshs_connect_timeout_is_the_default() -> None:
    assert cluster().connect_timeout.ToTimedelta() == timedelta(seconds=10)


def test_keepalive_has_only_the_configured_fields() -> None:
    built = cluster(connectionPool={"tcp": {"tcpKeepalive": {"time": "7200s", "interval": "500ms"}}})
    keepalive = built.upstream_connection_options.tcp_keepalive
    assert keepalive.keepalive_time.value == 7200
    assert keepalive.keepalive_interval.value == 1
    assert not keepalive.HasField("keepalive_probes")


def test_plain_http_never_asks_for_http2() -> None:
    assert not cluster().typed_extension_protocol_options
    built = cluster(connectionPool={"http": {"idleTimeout": "3s", "maxRequestsPerConnection": 9}})
    options = http_options(built)
    assert options.explicit_http_config.HasField("http_protocol_options")
    assert options.common_http_protocol_options.idle_timeout.ToTimedelta() == timedelta(seconds=3)
    assert options.common_http_protocol_options.max_requests_per_connection.value == 9


def test_connections_to_hosts_have_the_longest_duration_of_the_tcp_settings() -> None:
    common = http_options(
        cluster(connectionPool={"tcp": {"maxConnectionDuration": "90s"}})
    ).common_http_protocol_options
    assert common.max_connection_duration.ToTimedelta() == timedelta(seconds=90)
    assert not common.HasField("idle_timeout")


@pytest.mark.parametrize("protocol", [Protocol.HTTP2, Protocol.GRPC, Protocol.GRPC_WEB])
def test_http2_ports_speak_http2(protocol: Protocol) -> None:
    assert http_options(cluster(protocol)).explicit_http_config.HasField("http2_protocol_options")


def alpn(built: Cluster) -> list[str]:
    context = UpstreamTlsContext()
    assert built.transport_socket_matches[0].transport_socket.typed_config.Unpack(context)
    return list(context.common_tls_context.alpn_protocols)


UPGRADE = {"http": {"h2UpgradePolicy": "UPGRADE"}}
KEEP = {"http": {"h2UpgradePolicy": "DO_NOT_UPGRADE"}}
DEFAULT = {"http": {"h2UpgradePolicy": "DEFAULT"}}


@pytest.mark.parametrize(
    ("mesh_upgrades", "protocol", "pool", "upgraded"),
    [
        (False, Protocol.HTTP, DEFAULT, False),
        (False, Protocol.HTTP, KEEP, False),
        (False, Protocol.HTTP, UPGRADE, True),
        (True, Protocol.HTTP, DEFAULT, True),
        (True, Protocol.HTTP, KEEP, False),
        (True, Protocol.HTTP, UPGRADE, True),
        (True, Protocol.TCP, DEFAULT, False),
        (True, Protocol.UNSUPPORTED, DEFAULT, False),
        (False, Protocol.UNSUPPORTED, UPGRADE, True),
        (False, Protocol.GRPC, KEEP, True),
    ],
)
def test_an_http1_port_is_upgraded_by_its_rule_or_by_the_mesh(
    mesh_upgrades: bool, protocol: Protocol, pool: dict[str, Any], upgraded: bool
) -> None:
    built = cluster(protocol, h2_upgrade=mesh_upgrades, connectionPool=pool)
    assert (alpn(built) == ["istio", "h2"]) is upgraded
    if not upgraded:
        assert not built.typed_extension_protocol_options
        return
    assert http_options(built).explicit_http_config.HasField("http2_protocol_options")


@pytest.mark.parametrize("protocol", [Protocol.HTTP, Protocol.GRPC])
def test_the_version_of_the_client_may_be_kept(protocol: Protocol) -> None:
    http = {"useClientProtocol": True, "h2UpgradePolicy": "UPGRADE", "maxConcurrentStreams": 7}
    built = cluster(protocol, connectionPool={"http": http})
    choice = http_options(built).use_downstream_protocol_config
    assert choice.HasField("http_protocol_options")
    assert choice.http2_protocol_options.max_concurrent_streams.value == 7
    assert alpn(built) == ["istio"]


def test_the_streams_of_a_connection_are_limited() -> None:
    http = {"maxConcurrentStreams": 100, "maxRequestsPerConnection": 5}
    options = http_options(cluster(Protocol.GRPC, connectionPool={"http": http}))
    assert options.explicit_http_config.http2_protocol_options.max_concurrent_streams.value == 100
    assert options.common_http_protocol_options.max_requests_per_connection.value == 5
    unlimited = http_options(cluster(Protocol.GRPC)).explicit_http_config.http2_protocol_options
    assert not unlimited.HasField("max_concurrent_streams")


def test_no_outlier_detection_unless_asked_for() -> None:
    built = cluster()
    assert not built.HasField("outlier_detection")
    assert not built.HasField("common_lb_config")


def test_outlier_detection() -> None:
    built = cluster(
        outlierDetection={
            "consecutive5xxErrors": 3,
            "consecutiveGatewayErrors": 2,
            "splitExternalLocalOriginErrors": True,
            "consecutiveLocalOriginFailures": 4,
            "interval": "1s",
            "baseEjectionTime": "20s",
            "maxEjectionPercent": 60,
            "minHealthPercent": 30,
        }
    )
    detection = built.outlier_detection
    assert detection.consecutive_5xx.value == 3
    assert detection.enforcing_consecutive_5xx.value == 100
    assert detection.consecutive_gateway_failure.value == 2
    assert detection.enforcing_consecutive_gateway_failure.value == 100  # Envoy's default is 0
    assert detection.split_external_local_origin_errors
    assert detection.consecutive_local_origin_failure.value == 4
    assert detection.interval.ToTimedelta() == timedelta(seconds=1)
    assert detection.base_ejection_time.ToTimedelta() == timedelta(seconds=20)
    assert detection.max_ejection_percent.value == 60
    assert built.common_lb_config.healthy_panic_threshold.value == 30


@pytest.mark.parametrize("settings", [{}, {"maxEjectionPercent": 0}])
def test_the_default_ejection_percentage_is_envoys(settings: dict[str, int]) -> None:
    """As Istio does, which has no way to say 0, and does not ask for one host in any case."""
    detection = cluster(outlierDetection=settings).outlier_detection
    assert not detection.HasField("max_ejection_percent")
    assert not detection.HasField("always_eject_one_host")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"consecutiveErrors": 3}, 3),
        ({"consecutiveErrors": 3, "consecutive5xxErrors": 7}, 7),
        ({"consecutiveErrors": 0}, 0),
    ],
)
def test_errors_in_a_row_have_an_old_name(settings: dict[str, int], expected: int) -> None:
    assert cluster(outlierDetection=settings).outlier_detection.consecutive_5xx.value == expected


def test_a_threshold_of_zero_turns_its_kind_off() -> None:
    detection = cluster(
        outlierDetection={"consecutive5xxErrors": 0, "consecutiveErrors": 5}
    ).outlier_detection
    assert detection.enforcing_consecutive_5xx.value == 0
    assert detection.HasField("enforcing_consecutive_5xx")


def test_ejection_by_statistics_is_off_and_panic_too() -> None:
    built = cluster(outlierDetection={"interval": "1s"})
    assert built.outlier_detection.HasField("enforcing_success_rate")
    assert built.outlier_detection.enforcing_success_rate.value == 0
    assert not built.outlier_detection.HasField("consecutive_5xx")
    assert built.common_lb_config.HasField("healthy_panic_threshold")
    assert built.common_lb_config.healthy_panic_threshold.value == 0
