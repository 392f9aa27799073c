"""``Cluster``. Defaults are those of ``envoy.config.cluster.v3``."""

from __future__ import annotations

from collections.abc import Set
from typing import Any, Final

from sidecar.config.cluster import (
    ClusterConfig,
    Discovery,
    LbPolicy,
    ServiceMetadata,
    SubsetConfig,
    SubsetFallback,
    SubsetSelector,
    TcpKeepalive,
    TransportSocketMatch,
)
from sidecar.config.codec_type import CodecType
from sidecar.config.endpoint import LoadAssignment
from sidecar.config.tls import UpstreamTls
from sidecar.xds.decode.circuit_breakers import decode_circuit_breakers
from sidecar.xds.decode.config_source import initial_fetch_timeout_s
from sidecar.xds.decode.dns import decode_dns
from sidecar.xds.decode.endpoint import decode_load_assignment
from sidecar.xds.decode.http_options import decode_cluster_http_options
from sidecar.xds.decode.metadata_exchange import METADATA_EXCHANGE
from sidecar.xds.decode.outlier_detection import decode_outlier_detection
from sidecar.xds.decode.proxy_protocol import decode_cluster_socket
from sidecar.xds.decode.support import (
    BOUNDED_BODIES,
    NO_HEALTH_CHECKS,
    STATISTICS_ONLY,
    TYPE_DECIDES,
    SupportTable,
    support,
)
from sidecar.xds.decode.values import decode_socket_ip, metadata_strings, struct_strings
from sidecar.xds.decode.view import View

_DNS_KINDS = frozenset((Discovery.STRICT_DNS, Discovery.LOGICAL_DNS))
_LB_POLICIES = {policy.value: policy for policy in LbPolicy}
_PACKAGE = "envoy.config.cluster.v3"

TABLE: Final[SupportTable] = {
    f"{_PACKAGE}.Cluster": support(
        "name alt_stat_name type eds_cluster_config connect_timeout lb_policy load_assignment "
        "circuit_breakers max_requests_per_connection http2_protocol_options "
        "typed_extension_protocol_options dns_refresh_rate dns_failure_refresh_rate dns_jitter "
        "dns_lookup_family respect_dns_ttl typed_dns_resolver_config wait_for_warm_on_init outlier_detection "
        "upstream_bind_config lb_subset_config least_request_lb_config "
        "common_lb_config transport_socket transport_socket_matches metadata "
        "upstream_connection_options filters",
        checked="http_protocol_options round_robin_lb_config original_dst_lb_config",
        per_connection_buffer_limit_bytes=BOUNDED_BODIES,
        cleanup_interval="hosts of original destinations are not kept",
        ignore_health_on_host_removal=NO_HEALTH_CHECKS,
        close_connections_on_host_health_failure=NO_HEALTH_CHECKS,
        track_timeout_budgets=STATISTICS_ONLY,
        track_cluster_stats=STATISTICS_ONLY,
        protocol_selection="the protocol options choose the protocol",
    ),
    f"{_PACKAGE}.Filter": support("typed_config", name=TYPE_DECIDES),
    f"{_PACKAGE}.Cluster.RoundRobinLbConfig": support(),
    f"{_PACKAGE}.Cluster.EdsClusterConfig": support("eds_config service_name"),
    f"{_PACKAGE}.Cluster.LeastRequestLbConfig": support("choice_count"),
    f"{_PACKAGE}.Cluster.OriginalDstLbConfig": support(),
    f"{_PACKAGE}.Cluster.CommonLbConfig": support(
        "healthy_panic_threshold",
        update_merge_window="updates are applied at once",
        ignore_new_hosts_until_first_hc=NO_HEALTH_CHECKS,
    ),
    f"{_PACKAGE}.Cluster.LbSubsetConfig": support("fallback_policy default_subset subset_selectors"),
    f"{_PACKAGE}.Cluster.LbSubsetConfig.LbSubsetSelector": support("keys"),
    f"{_PACKAGE}.Cluster.TransportSocketMatch": support("name match transport_socket"),
    f"{_PACKAGE}.UpstreamConnectionOptions": support(
        "tcp_keepalive", set_local_interface_name_on_upstream_connections=STATISTICS_ONLY
    ),
    "envoy.config.core.v3.TcpKeepalive": support("keepalive_probes keepalive_time keepalive_interval"),
    "envoy.config.core.v3.BindConfig": support("source_address extra_source_addresses"),
    "envoy.config.core.v3.ExtraSourceAddress": support("address"),
}


def decode_cluster(view: View, secrets: Set[str] = frozenset()) -> ClusterConfig:
    """``secrets`` are the names of the static secrets that transport sockets can use."""
    message = view.message
    discovery = Discovery[view.enum_name("type")]
    eds_service_name, fetch_timeout_s = _eds(view, discovery)
    options = decode_cluster_http_options(view)
    for network_filter in view.each("filters"):
        network_filter.unpack("typed_config", METADATA_EXCHANGE)
    tls, proxy_protocol = decode_cluster_socket(view.find("transport_socket"), secrets)
    matches = _transport_socket_matches(view, secrets)
    if options.codec_type is CodecType.AUTO:
        _check_alpn(view, [tls, *(match.tls for match in matches)])
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
        circuit_breakers=decode_circuit_breakers(view),
        outlier_detection=decode_outlier_detection(view.find("outlier_detection")),
        tls=tls,
        auto_names=options.auto_names,
        proxy_protocol=proxy_protocol,
        transport_socket_matches=matches,
        codec_type=options.codec_type,
        http2=options.http2,
        alpn_override=metadata_strings(message.metadata, "istio").get("alpn_override") != "false",
        idle_timeout_s=options.idle_timeout_s,
        max_connection_duration_s=options.max_connection_duration_s,
        max_requests_per_connection=options.max_requests_per_connection,
        tcp_keepalive=_tcp_keepalive(view.get("upstream_connection_options")),
        dns=decode_dns(view),
        source_addresses=_source_addresses(view.get("upstream_bind_config")),
        initial_fetch_timeout_s=fetch_timeout_s,
        service=_service(message.metadata),
        alt_stat_name=message.alt_stat_name,
    )


def _check_alpn(view: View, sockets: list[UpstreamTls | None]) -> None:
    """As in Envoy, hosts choose the version by ALPN only where each of them is connected to over TLS."""
    if None in sockets:
        raise view.error(
            "auto_config requires TLS for every transport socket: without ALPN, a host cannot choose HTTP/2",
            "typed_extension_protocol_options",
        )


def _eds(view: View, discovery: Discovery) -> tuple[str, float]:
    """The name of the load assignment, and the seconds to wait for the first one."""
    if discovery is not Discovery.EDS:
        if view.has("eds_cluster_config"):
            raise view.error("is only valid for a cluster of type EDS", "eds_cluster_config")
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
            raise assignment.error(f"is not valid for a cluster of type {discovery.value}")
        return None
    if assignment is None:
        return LoadAssignment(cluster_name=view.message.name)
    decoded = decode_load_assignment(assignment, names_allowed=discovery in _DNS_KINDS)
    if discovery is Discovery.LOGICAL_DNS and len(decoded.endpoints) != 1:
        raise assignment.error("a cluster of type LOGICAL_DNS must have exactly one endpoint", "endpoints")
    return decoded


def _lb_policy(view: View, discovery: Discovery) -> LbPolicy:
    name = view.enum_name("lb_policy")
    policy = _LB_POLICIES.get(name)
    if policy is None:
        raise view.error(f"{name} is not supported; use one of {', '.join(_LB_POLICIES)}", "lb_policy")
    if (discovery is Discovery.ORIGINAL_DST) != (policy is LbPolicy.CLUSTER_PROVIDED):
        raise view.error(f"{name} is not valid for a cluster of type {discovery.value}", "lb_policy")
    return policy


def _panic_threshold(view: View) -> float:
    threshold = view.get("common_lb_config").find("healthy_panic_threshold")
    return 50.0 if threshold is None else float(threshold.message.value)


def _subsets(view: View, discovery: Discovery) -> SubsetConfig | None:
    subset = view.find("lb_subset_config")
    if subset is None:
        return None
    if discovery is Discovery.ORIGINAL_DST:
        raise subset.error("is not valid for a cluster of type ORIGINAL_DST")
    return SubsetConfig(
        selectors=tuple(
            SubsetSelector(keys=frozenset(selector.message.keys))
            for selector in subset.each("subset_selectors")
        ),
        fallback=SubsetFallback[subset.enum_name("fallback_policy")],
        default_subset=struct_strings(subset.message.default_subset),
    )


def _transport_socket_matches(view: View, secrets: Set[str]) -> tuple[TransportSocketMatch, ...]:
    names: set[str] = set()
    matches = []
    for match in view.each("transport_socket_matches"):
        name = match.message.name
        if name in names:
            raise match.error(f"{name!r} is a duplicate name", "name")
        names.add(name)
        tls, proxy_protocol = decode_cluster_socket(match.find("transport_socket"), secrets)
        labels = struct_strings(match.message.match)
        matches.append(TransportSocketMatch(name=name, match=labels, tls=tls, proxy_protocol=proxy_protocol))
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


def _source_addresses(view: View) -> tuple[str, ...]:
    first = view.find("source_address")
    extra = [source.get("address") for source in view.each("extra_source_addresses")]
    return tuple(_source_address(source) for source in ([] if first is None else [first]) + extra)


def _source_address(view: View) -> str:
    if view.message.port_value:
        raise view.error("only 0 (any port) is supported", "port_value")
    return decode_socket_ip(view).host


def _service(metadata: Any) -> ServiceMetadata:
    """Istio's cluster metadata: request metrics have the labels of the first of ``services``."""
    if "istio" not in metadata.filter_metadata:
        return ServiceMetadata()
    istio = metadata.filter_metadata["istio"].fields
    external = istio["external"].bool_value if "external" in istio else False
    services = istio["services"].list_value.values if "services" in istio else ()
    if not services:
        return ServiceMetadata(external=external)
    fields = struct_strings(services[0].struct_value)
    unknown = ServiceMetadata()
    return ServiceMetadata(
        host=fields.get("host") or unknown.host,
        name=fields.get("name") or unknown.name,
        namespace=fields.get("namespace") or unknown.namespace,
        external=external,
    )
