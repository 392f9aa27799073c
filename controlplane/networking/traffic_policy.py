"""The settings of a cluster from an effective traffic policy: limits, load balancing, ejection, HTTP
options."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import Any, Final

from envoy.config.cluster.v3.circuit_breaker_pb2 import CircuitBreakers
from envoy.config.cluster.v3.cluster_pb2 import Cluster, UpstreamConnectionOptions
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions
from google.protobuf.wrappers_pb2 import UInt32Value

from controlplane.model.service import Protocol
from controlplane.networking.messages import packed, uint32
from controlplane.resources.destination_rule import (
    ConnectionPoolSettings,
    H2UpgradePolicy,
    HTTPSettings,
    LoadBalancerSettings,
    OutlierDetection,
    SimpleLB,
    TcpKeepalive,
    TCPSettings,
)

_HTTP_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_UNLIMITED: Final = 2**32 - 1
# The share of active requests that may be retries: enough to hide a fault, too few to amplify an outage.
_RETRY_BUDGET: Final = {"budget_percent": {"value": 20.0}, "min_retry_concurrency": {"value": 3}}

_LB_POLICIES: Final = {
    SimpleLB.ROUND_ROBIN: "ROUND_ROBIN",
    SimpleLB.RANDOM: "RANDOM",
    SimpleLB.LEAST_REQUEST: "LEAST_REQUEST",
    SimpleLB.LEAST_CONN: "LEAST_REQUEST",
    SimpleLB.UNSPECIFIED: "LEAST_REQUEST",
}


def passes_through(settings: LoadBalancerSettings | None) -> bool:
    """``PASSTHROUGH``: no load balancing, the connection goes to the address that the caller dialled."""
    return settings is not None and settings.simple is SimpleLB.PASSTHROUGH


def lb_policy(settings: LoadBalancerSettings | None) -> str:
    """Envoy's name of the policy; Istio's default is LEAST_REQUEST."""
    simple = settings.simple if settings else None
    return _LB_POLICIES[simple or SimpleLB.UNSPECIFIED]


def circuit_breakers(pool: ConnectionPoolSettings | None) -> CircuitBreakers:
    """Istio's default is no limit. Retries are always bounded: by ``maxRetries``, or else by a budget."""
    tcp = (pool and pool.tcp) or TCPSettings()
    http = (pool and pool.http) or HTTPSettings()
    threshold: dict[str, Any] = {
        "max_connections": uint32(tcp.max_connections or _UNLIMITED),
        "max_pending_requests": uint32(http.http1_max_pending_requests or _UNLIMITED),
        "max_requests": max_requests(pool),
    }
    if http.max_retries:
        threshold["max_retries"] = uint32(http.max_retries)
    else:
        threshold["retry_budget"] = _RETRY_BUDGET
    return CircuitBreakers(thresholds=[threshold])


def max_requests(pool: ConnectionPoolSettings | None) -> UInt32Value:
    """The maximum number of concurrent requests: ``http2MaxRequests``, which also limits HTTP/1.1."""
    return uint32((pool and pool.http and pool.http.http2_max_requests) or _UNLIMITED)


class HttpVersion(Enum):
    """The HTTP version that a cluster speaks to its hosts."""

    HTTP1 = "HTTP/1.1"
    HTTP2 = "HTTP/2"
    OF_CLIENT = "the version of each request's client"


def http_version(
    pool: ConnectionPoolSettings | None, protocol: Protocol, *, mesh_upgrades: bool
) -> HttpVersion:
    """Istio's rules. ``h2UpgradePolicy: UPGRADE`` of a DestinationRule also applies to a port that does not
    declare HTTP: its author knows better. ``mesh_upgrades`` is the policy of the mesh."""
    http = (pool and pool.http) or HTTPSettings()
    if http.use_client_protocol:
        return HttpVersion.OF_CLIENT
    if protocol.is_http2 or http.h2_upgrade_policy is H2UpgradePolicy.UPGRADE:
        return HttpVersion.HTTP2
    if mesh_upgrades and protocol.is_http and http.h2_upgrade_policy is H2UpgradePolicy.DEFAULT:
        return HttpVersion.HTTP2
    return HttpVersion.HTTP1


def apply_connection_pool(
    cluster: Cluster, pool: ConnectionPoolSettings | None, version: HttpVersion, connect_timeout: timedelta
) -> None:
    tcp = (pool and pool.tcp) or TCPSettings()
    cluster.connect_timeout.FromTimedelta(tcp.connect_timeout or connect_timeout)
    cluster.circuit_breakers.CopyFrom(circuit_breakers(pool))
    if tcp.tcp_keepalive:
        options = UpstreamConnectionOptions(tcp_keepalive=_keepalive(tcp.tcp_keepalive))
        cluster.upstream_connection_options.CopyFrom(options)
    http_options = _http_options(tcp, (pool and pool.http) or HTTPSettings(), version)
    if http_options is not None:
        cluster.typed_extension_protocol_options[_HTTP_OPTIONS].CopyFrom(packed(http_options))


def _keepalive(settings: TcpKeepalive) -> dict[str, Any]:
    values = {
        "keepalive_probes": settings.probes,
        "keepalive_time": _whole_seconds(settings.time),
        "keepalive_interval": _whole_seconds(settings.interval),
    }
    return {name: uint32(value) for name, value in values.items() if value}


def _whole_seconds(duration: timedelta | None) -> int:
    """Sockets have seconds, and 0 would mean the operating system's default."""
    return max(1, round(duration.total_seconds())) if duration else 0


def _http_options(tcp: TCPSettings, http: HTTPSettings, version: HttpVersion) -> HttpProtocolOptions | None:
    common: dict[str, Any] = {}
    if tcp.max_connection_duration is not None:
        common["max_connection_duration"] = tcp.max_connection_duration
    if http.idle_timeout is not None:
        common["idle_timeout"] = http.idle_timeout
    if http.max_requests_per_connection:
        common["max_requests_per_connection"] = uint32(http.max_requests_per_connection)
    if not common and version is HttpVersion.HTTP1:
        return None  # the default of a cluster is HTTP/1.1
    options = HttpProtocolOptions(common_http_protocol_options=common)
    if version is HttpVersion.HTTP1:
        options.explicit_http_config.http_protocol_options.SetInParent()
        return options
    choice = options.explicit_http_config
    if version is HttpVersion.OF_CLIENT:
        choice = options.use_downstream_protocol_config
        choice.http_protocol_options.SetInParent()
    choice.http2_protocol_options.SetInParent()
    if http.max_concurrent_streams:
        choice.http2_protocol_options.max_concurrent_streams.value = http.max_concurrent_streams
    return options


def apply_outlier_detection(cluster: Cluster, settings: OutlierDetection | None) -> None:
    if settings is None:
        return
    detection = cluster.outlier_detection
    detection.enforcing_success_rate.value = 0  # Istio ejects for consecutive errors only
    detection.split_external_local_origin_errors = settings.split_external_local_origin_errors
    for name, threshold in (
        ("consecutive_5xx", settings.errors_in_a_row),
        ("consecutive_gateway_failure", settings.consecutive_gateway_errors),
        ("consecutive_local_origin_failure", settings.consecutive_local_origin_failures),
    ):
        if threshold is not None:
            # Envoy has no threshold of 0: a kind of detection is disabled by not enforcing it.
            getattr(detection, name).value = threshold or _UNLIMITED
            getattr(detection, f"enforcing_{name}").value = 100 if threshold else 0
    if settings.interval is not None:
        detection.interval.FromTimedelta(settings.interval)
    if settings.base_ejection_time is not None:
        detection.base_ejection_time.FromTimedelta(settings.base_ejection_time)
    if settings.max_ejection_percent:
        detection.max_ejection_percent.value = settings.max_ejection_percent
    # Istio: below this share of healthy hosts Envoy panics and uses all hosts; 0 disables it.
    cluster.common_lb_config.healthy_panic_threshold.value = settings.min_health_percent
