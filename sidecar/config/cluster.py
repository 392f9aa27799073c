"""A group of hosts that are one destination. Source: ``envoy.config.cluster.v3.Cluster``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from sidecar.config.codec_type import CodecType
from sidecar.config.dns import DEFAULT_DNS, DnsDiscoveryConfig
from sidecar.config.endpoint import LoadAssignment
from sidecar.config.http2 import DEFAULT_HTTP2, Http2Options
from sidecar.config.proxy_protocol import UpstreamProxyProtocol
from sidecar.config.tls import AutoNames, UpstreamTls


class Discovery(Enum):
    STATIC = "STATIC"
    STRICT_DNS = "STRICT_DNS"
    LOGICAL_DNS = "LOGICAL_DNS"
    EDS = "EDS"
    ORIGINAL_DST = "ORIGINAL_DST"


class LbPolicy(Enum):
    ROUND_ROBIN = "ROUND_ROBIN"
    LEAST_REQUEST = "LEAST_REQUEST"
    RANDOM = "RANDOM"
    CLUSTER_PROVIDED = "CLUSTER_PROVIDED"  # ORIGINAL_DST only


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryBudget:
    """``CircuitBreakers.Thresholds.RetryBudget``: retries allowed as a share of active requests."""

    budget_percent: float = 20.0
    min_retry_concurrency: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitBreakers:
    """``CircuitBreakers.Thresholds`` of the default priority, with Envoy's defaults."""

    max_connections: int = 1024
    max_pending_requests: int = 1024
    max_requests: int = 1024
    max_retries: int = 3
    retry_budget: RetryBudget | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlierDetection:
    """``envoy.config.cluster.v3.OutlierDetection`` with Envoy's defaults. ``enforcing_*`` are percentages.
    ``max_ejection_time_s`` is at least ``base_ejection_time_s``."""

    consecutive_5xx: int = 5
    enforcing_consecutive_5xx: int = 100
    consecutive_gateway_failure: int = 5
    enforcing_consecutive_gateway_failure: int = 0
    split_external_local_origin_errors: bool = False
    consecutive_local_origin_failure: int = 5
    enforcing_consecutive_local_origin_failure: int = 100
    interval_s: float = 10.0
    base_ejection_time_s: float = 30.0
    max_ejection_time_s: float = 300.0
    max_ejection_percent: int = 10
    always_eject_one_host: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportSocketMatch:
    """An endpoint uses the first one whose ``match`` is contained in its ``tls_match``. ``tls`` None is
    plaintext. With a ``proxy_protocol``, connections begin with a header, TLS after it."""

    name: str
    match: Mapping[str, str]
    tls: UpstreamTls | None
    proxy_protocol: UpstreamProxyProtocol | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubsetSelector:
    """``LbSubsetConfig``: a set of endpoint metadata keys that routes select by."""

    keys: frozenset[str]


class SubsetFallback(Enum):
    NO_FALLBACK = 0
    ANY_ENDPOINT = 1
    DEFAULT_SUBSET = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class SubsetConfig:
    selectors: tuple[SubsetSelector, ...]
    fallback: SubsetFallback = SubsetFallback.NO_FALLBACK
    default_subset: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpKeepalive:
    probes: int | None = None
    time_s: int | None = None
    interval_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceMetadata:
    """The cluster metadata ``istio: {services: [{host, name, namespace}], external}``: labels of request
    metrics, and whether the service is not of the mesh."""

    host: str = "unknown"
    name: str = "unknown"
    namespace: str = "unknown"
    external: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """``eds_service_name`` is the name of the load assignment (EDS). ``load_assignment`` holds the hosts of
    static and DNS clusters. ``transport_socket_matches`` take precedence over ``tls`` and
    ``proxy_protocol``. ``idle_timeout_s`` 0 means never, ``max_connection_duration_s`` and
    ``max_requests_per_connection`` 0 no limit. ``source_addresses`` are the local IP addresses that
    connections are bound to: the first one of the host's family, or else the first one.
    ``initial_fetch_timeout_s`` limits the wait for the first assignment (EDS); 0 is no limit.
    ``alpn_override`` (metadata ``istio: {alpn_override: "false"}``): whether filters may choose the protocols
    that are offered to its hosts."""

    name: str
    discovery: Discovery
    eds_service_name: str = ""
    load_assignment: LoadAssignment | None = None
    connect_timeout_s: float = 5.0
    lb_policy: LbPolicy = LbPolicy.ROUND_ROBIN
    least_request_choice_count: int = 2
    healthy_panic_threshold_percent: float = 50.0
    subsets: SubsetConfig | None = None
    circuit_breakers: CircuitBreakers = CircuitBreakers()
    outlier_detection: OutlierDetection | None = None
    tls: UpstreamTls | None = None
    auto_names: AutoNames | None = None
    proxy_protocol: UpstreamProxyProtocol | None = None
    transport_socket_matches: tuple[TransportSocketMatch, ...] = ()
    codec_type: CodecType = CodecType.HTTP1
    http2: Http2Options = DEFAULT_HTTP2
    alpn_override: bool = True
    idle_timeout_s: float = 3600.0
    max_connection_duration_s: float = 0.0
    max_requests_per_connection: int = 0
    tcp_keepalive: TcpKeepalive | None = None
    dns: DnsDiscoveryConfig = DEFAULT_DNS
    source_addresses: tuple[str, ...] = ()
    initial_fetch_timeout_s: float = 15.0
    service: ServiceMetadata = ServiceMetadata()
    alt_stat_name: str = ""
