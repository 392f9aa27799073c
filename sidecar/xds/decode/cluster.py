"""``Cluster``. Defaults are Envoy's, said in ``envoy.config.cluster.v3``."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Any

from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2

from sidecar.config.cluster import (
    CircuitBreakers,
    ClusterConfig,
    Discovery,
    HttpVersion,
    LbPolicy,
    OutlierDetection,
    RetryBudget,
    ServiceMetadata,
    SubsetConfig,
    SubsetFallback,
    SubsetSelector,
    TcpKeepalive,
    TransportSocketMatch,
)
from sidecar.config.endpoint import LoadAssignment
from sidecar.xds.decode.config_source import initial_fetch_timeout_s
from sidecar.xds.decode.dns import decode_dns
from sidecar.xds.decode.endpoint import decode_load_assignment
from sidecar.xds.decode.tls import decode_upstream_socket
from sidecar.xds.decode.values import struct_strings
from sidecar.xds.decode.view import View

_HTTP_OPTIONS = http_protocol_options_pb2.HttpProtocolOptions.DESCRIPTOR.full_name
_DNS_KINDS = frozenset((Discovery.STRICT_DNS, Discovery.LOGICAL_DNS))
_LB_POLICIES = {policy.value: policy for policy in LbPolicy}
# Ejections that need statistics over a cluster's hosts: accepted only where they are switched off.
_STATISTICAL_EJECTIONS = (
    "enforcing_success_rate",
    "enforcing_local_origin_success_rate",
    "enforcing_failure_percentage",
    "enforcing_failure_percentage_local_origin",
)


def decode_cluster(view: View, secrets: Set[str] = frozenset()) -> ClusterConfig:
    """``secrets``: names of the static secrets that transport sockets may use."""
    message = view.message
    discovery = Discovery[view.enum_name("type")]
    eds_service_name, fetch_timeout_s = _eds(view, discovery)
    options = _http_options(view)
    return ClusterConfig(
        name=message.name,
        discovery=discovery,
        eds_service_name=eds_service_name,
        load_assignment=_load_assignment(view, discovery),
        connect_timeout_s=view.duration_s("connect_timeout", 5.0),
        lb_policy=_lb_policy(view, discovery),
        least_request_choice_count=view.get("least_request_lb_config").wrapped("choice_count", 2),
        healthy_panic_threshold_percent=_panic_threshold(view),
        subsets=_subsets(view, discovery),
        circuit_breakers=_circuit_breakers(view),
        outlier_detection=_outlier_detection(view.find("outlier_detection")),
        tls=decode_upstream_socket(view.find("transport_socket"), secrets),
        transport_socket_matches=_transport_socket_matches(view, secrets),
        http_version=options.version,
        idle_timeout_s=options.idle_timeout_s,
        max_requests_per_connection=options.max_requests_per_connection,
        tcp_keepalive=_tcp_keepalive(view.get("upstream_connection_options")),
        dns=decode_dns(view),
        source_address=_source_address(view),
        initial_fetch_timeout_s=fetch_timeout_s,
        service=_service(message.metadata),
        alt_stat_name=message.alt_stat_name,
    )


def _eds(view: View, discovery: Discovery) -> tuple[str, float]:
    """The name of the load assignment, and how long the first one is waited for."""
    if discovery is not Discovery.EDS:
        if view.has("eds_cluster_config"):
            raise view.error("belongs to clusters of type EDS alone", "eds_cluster_config")
        return "", 15.0
    eds = view.get("eds_cluster_config")
    if not eds.has("eds_config"):
        raise eds.error("is required for a cluster of type EDS", "eds_config")
    fetch_timeout_s = initial_fetch_timeout_s(eds.get("eds_config"))
    return eds.message.service_name or view.message.name, fetch_timeout_s


def _load_assignment(view: View, discovery: Discovery) -> LoadAssignment | None:
    assignment = view.find("load_assignment")
    if discovery in {Discovery.EDS, Discovery.ORIGINAL_DST}:
        if assignment is not None:
            raise assignment.error(f"a cluster of type {discovery.value} has no load assignment of its own")
        return None
    if assignment is None:
        return LoadAssignment(cluster_name=view.message.name)
    decoded = decode_load_assignment(assignment, names_allowed=discovery in _DNS_KINDS)
    if discovery is Discovery.LOGICAL_DNS and len(decoded.endpoints) != 1:
        raise assignment.error("a cluster of type LOGICAL_DNS has exactly one endpoint", "endpoints")
    return decoded


def _lb_policy(view: View, discovery: Discovery) -> LbPolicy:
    name = view.enum_name("lb_policy")
    policy = _LB_POLICIES.get(name)
    if policy is None:
        raise view.error(f"{name} is not supported; use one of {', '.join(_LB_POLICIES)}", "lb_policy")
    if (discovery is Discovery.ORIGINAL_DST) != (policy is LbPolicy.CLUSTER_PROVIDED):
        raise view.error(f"{name} does not go with a cluster of type {discovery.value}", "lb_policy")
    return policy


def _panic_threshold(view: View) -> float:
    threshold = view.get("common_lb_config").find("healthy_panic_threshold")
    return 50.0 if threshold is None else float(threshold.message.value)


def _subsets(view: View, discovery: Discovery) -> SubsetConfig | None:
    subset = view.find("lb_subset_config")
    if subset is None:
        return None
    if discovery is Discovery.ORIGINAL_DST:
        raise subset.error("a cluster of type ORIGINAL_DST has no subsets")
    return SubsetConfig(
        selectors=tuple(
            SubsetSelector(keys=frozenset(selector.message.keys))
            for selector in subset.each("subset_selectors")
        ),
        fallback=SubsetFallback[subset.enum_name("fallback_policy")],
        default_subset=struct_strings(subset.message.default_subset),
    )


def _circuit_breakers(view: View) -> CircuitBreakers:
    """The thresholds of the default priority. The high one's are never reached: no route may ask for it."""
    for thresholds in view.get("circuit_breakers").each("thresholds"):
        if thresholds.enum_name("priority") == "DEFAULT":
            return CircuitBreakers(
                max_connections=thresholds.wrapped("max_connections", 1024),
                max_pending_requests=thresholds.wrapped("max_pending_requests", 1024),
                max_requests=thresholds.wrapped("max_requests", 1024),
                max_retries=thresholds.wrapped("max_retries", 3),
                retry_budget=_retry_budget(thresholds.find("retry_budget")),
            )
    return CircuitBreakers()


def _retry_budget(budget: View | None) -> RetryBudget | None:
    if budget is None:
        return None
    percent = budget.find("budget_percent")
    return RetryBudget(
        budget_percent=20.0 if percent is None else float(percent.message.value),
        min_retry_concurrency=budget.wrapped("min_retry_concurrency", 3),
    )


def _outlier_detection(view: View | None) -> OutlierDetection | None:
    if view is None:
        return None
    for field in _STATISTICAL_EJECTIONS:
        if view.wrapped(field, 0):
            raise view.error("ejection by statistics is not supported; set it to 0", field)
    base_s = view.duration_s("base_ejection_time", 30.0)
    max_s = view.duration_s("max_ejection_time", max(300.0, base_s))
    if max_s < base_s:
        raise view.error(f"is shorter than base_ejection_time, {base_s:g} s", "max_ejection_time")
    return OutlierDetection(
        consecutive_5xx=view.wrapped("consecutive_5xx", 5),
        enforcing_consecutive_5xx=view.wrapped("enforcing_consecutive_5xx", 100),
        consecutive_gateway_failure=view.wrapped("consecutive_gateway_failure", 5),
        enforcing_consecutive_gateway_failure=view.wrapped("enforcing_consecutive_gateway_failure", 0),
        split_external_local_origin_errors=view.message.split_external_local_origin_errors,
        consecutive_local_origin_failure=view.wrapped("consecutive_local_origin_failure", 5),
        enforcing_consecutive_local_origin_failure=view.wrapped(
            "enforcing_consecutive_local_origin_failure", 100
        ),
        interval_s=view.duration_s("interval", 10.0),
        base_ejection_time_s=base_s,
        max_ejection_time_s=max_s,
        max_ejection_percent=view.wrapped("max_ejection_percent", 10),
        always_eject_one_host=view.wrapped("always_eject_one_host", False),
    )


def _transport_socket_matches(view: View, secrets: Set[str]) -> tuple[TransportSocketMatch, ...]:
    names: set[str] = set()
    matches = []
    for match in view.each("transport_socket_matches"):
        name = match.message.name
        if name in names:
            raise match.error(f"{name!r} is used twice", "name")
        names.add(name)
        tls = decode_upstream_socket(match.find("transport_socket"), secrets)
        matches.append(TransportSocketMatch(name=name, match=struct_strings(match.message.match), tls=tls))
    return tuple(matches)


def _tcp_keepalive(view: View) -> TcpKeepalive | None:
    keepalive = view.find("tcp_keepalive")
    if keepalive is None:
        return None
    return TcpKeepalive(
        probes=keepalive.wrapped("keepalive_probes", None),
        time_s=keepalive.wrapped("keepalive_time", None),
        interval_s=keepalive.wrapped("keepalive_interval", None),
    )


def _source_address(view: View) -> str:
    source = view.get("upstream_bind_config").find("source_address")
    if source is None:
        return ""
    if source.message.port_value:
        raise source.error("only 0, any port, is supported", "port_value")
    return str(source.message.address)


def _service(metadata: Any) -> ServiceMetadata:
    """Istio's cluster metadata: the first of ``services`` names what request metrics are about."""
    if "istio" not in metadata.filter_metadata:
        return ServiceMetadata()
    services = metadata.filter_metadata["istio"].fields["services"].list_value.values
    if not services:
        return ServiceMetadata()
    fields = struct_strings(services[0].struct_value)
    unknown = ServiceMetadata()
    return ServiceMetadata(
        host=fields.get("host") or unknown.host,
        name=fields.get("name") or unknown.name,
        namespace=fields.get("namespace") or unknown.namespace,
    )


@dataclass(slots=True)
class _HttpOptions:
    version: HttpVersion
    max_requests_per_connection: int
    idle_timeout_s: float = 3600.0


def _http_options(view: View) -> _HttpOptions:
    """What a cluster says of HTTP: in ``typed_extension_protocol_options``, or in the fields before them."""
    options = _HttpOptions(
        version=HttpVersion.HTTP2 if view.has("http2_protocol_options") else HttpVersion.HTTP1,
        max_requests_per_connection=view.wrapped("max_requests_per_connection", 0),
    )
    for name in view.message.typed_extension_protocol_options:
        if name != _HTTP_OPTIONS:
            raise view.error("is not supported", f"typed_extension_protocol_options[{name}]")
        entry = view.unpack_entry("typed_extension_protocol_options", name, _HTTP_OPTIONS)
        _read_http_options(entry, options)
    return options


def _read_http_options(view: View, options: _HttpOptions) -> None:
    common = view.get("common_http_protocol_options")
    if common.has("max_headers_count"):
        raise common.error("is not supported in a cluster", "max_headers_count")
    options.idle_timeout_s = common.duration_s("idle_timeout", 3600.0)
    options.max_requests_per_connection = common.wrapped(
        "max_requests_per_connection", options.max_requests_per_connection
    )
    # `use_downstream_protocol_config` asks for the client's version: HTTP/1.1, while only that is served.
    explicit = view.get("explicit_http_config").which("protocol_config")
    options.version = HttpVersion.HTTP2 if explicit == "http2_protocol_options" else HttpVersion.HTTP1
