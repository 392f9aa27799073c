"""``Listener``: its filter chains, what is sniffed before one is chosen, and the terminal filters."""

from __future__ import annotations

from collections.abc import Set

from envoy.extensions.filters.listener.http_inspector.v3 import http_inspector_pb2
from envoy.extensions.filters.listener.original_dst.v3 import original_dst_pb2
from envoy.extensions.filters.listener.tls_inspector.v3 import tls_inspector_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2

from sidecar.config.listener import (
    FilterChain,
    FilterChainMatch,
    HttpConnectionManager,
    Listener,
    TcpProxy,
    TrafficDirection,
)
from sidecar.config.route import WeightedCluster
from sidecar.xds.decode.access_log import decode_access_logs
from sidecar.xds.decode.http_connection_manager import HTTP_CONNECTION_MANAGER, decode_http_connection_manager
from sidecar.xds.decode.route import check_weights
from sidecar.xds.decode.tls import decode_downstream_socket
from sidecar.xds.decode.values import decode_cidr, decode_ip_address, metadata_strings
from sidecar.xds.decode.view import View

_TCP_PROXY = tcp_proxy_pb2.TcpProxy.DESCRIPTOR.full_name
_ORIGINAL_DST = original_dst_pb2.OriginalDst.DESCRIPTOR.full_name
_TLS_INSPECTOR = tls_inspector_pb2.TlsInspector.DESCRIPTOR.full_name
_HTTP_INSPECTOR = http_inspector_pb2.HttpInspector.DESCRIPTOR.full_name
_LB = "envoy.lb"


def decode_listener(view: View, secrets: Set[str] = frozenset()) -> Listener:
    """``secrets``: names of the static secrets that filter chains may use. A listener without a name, which
    only a bootstrap file may have, is named after its address."""
    message = view.message
    if not view.has("address"):
        raise view.error("is required", "address")
    address = decode_ip_address(view.get("address"))
    inspectors = _listener_filters(view)
    default = view.find("default_filter_chain")
    return Listener(
        name=message.name or str(address),
        address=address,
        filter_chains=_filter_chains(view, secrets),
        default_filter_chain=_filter_chain(default, secrets) if default else None,
        use_original_dst=view.wrapped("use_original_dst", False),
        original_dst_filter=_ORIGINAL_DST in inspectors,
        tls_inspector=_TLS_INSPECTOR in inspectors,
        http_inspector=_HTTP_INSPECTOR in inspectors,
        listener_filters_timeout_s=view.duration_s("listener_filters_timeout", 15.0),
        continue_on_listener_filters_timeout=message.continue_on_listener_filters_timeout,
        bind_to_port=view.wrapped("bind_to_port", True),
        reuse_port=view.wrapped("enable_reuse_port", True),
        direction=TrafficDirection[view.enum_name("traffic_direction")],
        access_logs=decode_access_logs(view),
        metadata=metadata_strings(message.metadata, "istio"),
    )


def _listener_filters(view: View) -> frozenset[str]:
    return frozenset(
        listener_filter.unpack(
            "typed_config", _ORIGINAL_DST, _TLS_INSPECTOR, _HTTP_INSPECTOR
        ).message.DESCRIPTOR.full_name
        for listener_filter in view.each("listener_filters")
    )


def _filter_chains(view: View, secrets: Set[str]) -> tuple[FilterChain, ...]:
    chains = []
    owners: dict[FilterChainMatch, str] = {}
    for chain_view in view.each("filter_chains"):
        chain = _filter_chain(chain_view, secrets)
        owner = owners.setdefault(chain.match, chain_view.path)
        if owner != chain_view.path:
            raise chain_view.error(f"matches the same connections as {owner}", "filter_chain_match")
        chains.append(chain)
    if not chains and not view.has("default_filter_chain"):
        raise view.error("no filter chains are specified", "filter_chains")
    return tuple(chains)


def _filter_chain(view: View, secrets: Set[str]) -> FilterChain:
    return FilterChain(
        name=view.message.name,
        match=_filter_chain_match(view.get("filter_chain_match")),
        tls=decode_downstream_socket(view.find("transport_socket"), secrets),
        handshake_timeout_s=view.duration_s("transport_socket_connect_timeout", 0.0),
        filter=_terminal_filter(view),
    )


def _filter_chain_match(view: View) -> FilterChainMatch:
    message = view.message
    for index, name in enumerate(message.server_names):
        if "*" in name.removeprefix("*.") or not name:
            raise view.error(f"{name!r}: a wildcard is the whole first label", f"server_names[{index}]")
    return FilterChainMatch(
        destination_port=view.wrapped("destination_port", None),
        prefix_ranges=tuple(decode_cidr(prefix) for prefix in view.each("prefix_ranges")),
        server_names=tuple(name.lower() for name in message.server_names),
        transport_protocol=message.transport_protocol,
        application_protocols=tuple(message.application_protocols),
    )


def _terminal_filter(view: View) -> HttpConnectionManager | TcpProxy:
    filters = list(view.each("filters"))
    if len(filters) != 1:
        raise view.error(
            f"has {len(filters)} filters, but only one, which ends the chain, is supported", "filters"
        )
    config = filters[0].unpack("typed_config", HTTP_CONNECTION_MANAGER, _TCP_PROXY)
    if config.message.DESCRIPTOR.full_name == HTTP_CONNECTION_MANAGER:
        return decode_http_connection_manager(config)
    return _tcp_proxy(config)


def _tcp_proxy(view: View) -> TcpProxy:
    return TcpProxy(
        stat_prefix=view.message.stat_prefix,
        clusters=_tcp_clusters(view),
        idle_timeout_s=view.duration_s("idle_timeout", 3600.0),
        max_connect_attempts=view.wrapped("max_connect_attempts", 1),
        access_logs=decode_access_logs(view),
    )


def _tcp_clusters(view: View) -> tuple[WeightedCluster, ...]:
    """The criteria of the filter hold for each cluster, and a cluster's own come before them."""
    criteria = metadata_strings(view.message.metadata_match, _LB)
    if view.which("cluster_specifier") == "cluster":
        return (WeightedCluster(name=view.message.cluster, metadata_match=criteria),)
    weighted = view.get("weighted_clusters")
    clusters = tuple(
        WeightedCluster(
            name=cluster.message.name,
            weight=cluster.message.weight,
            metadata_match={**criteria, **metadata_strings(cluster.message.metadata_match, _LB)},
        )
        for cluster in weighted.each("clusters")
    )
    check_weights(weighted, [cluster.weight for cluster in clusters])
    return clusters
