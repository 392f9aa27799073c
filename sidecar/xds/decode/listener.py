"""``Listener``: its filter chains, their matches and terminal filters, and the listener filters."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Set
from itertools import product
from typing import Final

from sidecar.config.endpoint import SocketAddress
from sidecar.config.listener import (
    FilterChain,
    FilterChainMatch,
    HttpConnectionManager,
    Listener,
    OriginalSrc,
    TcpProxy,
    TrafficDirection,
)
from sidecar.config.proxy_protocol import ProxyProtocolFilter
from sidecar.xds.decode.access_log import decode_access_logs
from sidecar.xds.decode.http_connection_manager import HTTP_CONNECTION_MANAGER, decode_http_connection_manager
from sidecar.xds.decode.istio_stats import ISTIO_STATS, check_istio_stats
from sidecar.xds.decode.metadata_exchange import METADATA_EXCHANGE
from sidecar.xds.decode.mongo_proxy import MONGO_PROXY
from sidecar.xds.decode.port_match import decode_port_match
from sidecar.xds.decode.proxy_protocol import PROXY_PROTOCOL, decode_proxy_protocol_filter
from sidecar.xds.decode.support import (
    BOUNDED_BODIES,
    NO_READER,
    STATISTICS_ONLY,
    TYPE_DECIDES,
    SupportTable,
    support,
)
from sidecar.xds.decode.tcp_proxy import TCP_PROXY, decode_tcp_proxy
from sidecar.xds.decode.tls import decode_downstream_socket
from sidecar.xds.decode.values import decode_cidr, decode_ip_address, metadata_strings
from sidecar.xds.decode.view import View

_ORIGINAL_DST = "envoy.extensions.filters.listener.original_dst.v3.OriginalDst"
_ORIGINAL_SRC = "envoy.extensions.filters.listener.original_src.v3.OriginalSrc"
_TLS_INSPECTOR = "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"
_HTTP_INSPECTOR = "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector"


_INSPECTORS = (_TLS_INSPECTOR, _HTTP_INSPECTOR)
_LISTENER_FILTERS = (_ORIGINAL_DST, _ORIGINAL_SRC, PROXY_PROTOCOL, *_INSPECTORS)

_KERNEL_BALANCES = "the kernel spreads connections over the workers"

TABLE: Final[SupportTable] = {
    "envoy.config.listener.v3.Listener": support(
        "name address filter_chains default_filter_chain use_original_dst listener_filters "
        "listener_filters_timeout continue_on_listener_filters_timeout traffic_direction access_log "
        "bind_to_port enable_reuse_port metadata transparent",
        stat_prefix=STATISTICS_ONLY,
        per_connection_buffer_limit_bytes=BOUNDED_BODIES,
        connection_balance_config=_KERNEL_BALANCES,
        tcp_backlog_size="the kernel's own limit applies",
        max_connections_to_accept_per_socket_event=_KERNEL_BALANCES,
        ignore_global_conn_limit="no global limit exists",
        bypass_overload_manager="no overload manager exists",
    ),
    "envoy.config.listener.v3.FilterChain": support(
        "name filter_chain_match filters transport_socket transport_socket_connect_timeout",
        metadata=NO_READER,
    ),
    "envoy.config.listener.v3.FilterChainMatch": support(
        "destination_port prefix_ranges server_names transport_protocol application_protocols"
    ),
    "envoy.config.listener.v3.Filter": support("typed_config", name=TYPE_DECIDES),
    "envoy.config.listener.v3.ListenerFilter": support("typed_config filter_disabled", name=TYPE_DECIDES),
    _ORIGINAL_DST: support(),
    _ORIGINAL_SRC: support("bind_port mark"),
    _TLS_INSPECTOR: support(
        initial_read_buffer_size="a ClientHello has its own limit", enable_ja3_fingerprinting=NO_READER
    ),
    _HTTP_INSPECTOR: support(),
}


def decode_listener(view: View, secrets: Set[str] = frozenset()) -> Listener:
    """``secrets`` are the names of the static secrets that filter chains can use. A listener without a name,
    which only a bootstrap file can have, is named after its address."""
    message = view.message
    if not view.has("address"):
        raise view.error("is required", "address")
    address = decode_ip_address(view.get("address"))
    filters = _listener_filters(view)
    default = view.find("default_filter_chain")
    return Listener(
        name=message.name or str(address),
        address=address,
        filter_chains=_filter_chains(view, secrets),
        default_filter_chain=_filter_chain(default, secrets) if default else None,
        use_original_dst=view.wrapped("use_original_dst", False),
        transparent=view.wrapped("transparent", False),
        ipv4_compat=_ipv4_compat(view, address),
        original_dst_filter=_ORIGINAL_DST in filters,
        original_src=_original_src(filters.get(_ORIGINAL_SRC)),
        proxy_protocol=_proxy_protocol(filters.get(PROXY_PROTOCOL)),
        tls_inspector=_TLS_INSPECTOR in filters,
        http_inspector=_HTTP_INSPECTOR in filters,
        ports_without_tls_inspector=_disabled(view, _TLS_INSPECTOR),
        ports_without_http_inspector=_disabled(view, _HTTP_INSPECTOR),
        listener_filters_timeout_s=view.duration_s("listener_filters_timeout", 15.0),
        continue_on_listener_filters_timeout=message.continue_on_listener_filters_timeout,
        bind_to_port=view.wrapped("bind_to_port", True),
        reuse_port=view.wrapped("enable_reuse_port", True),
        direction=TrafficDirection[view.enum_name("traffic_direction")],
        access_logs=decode_access_logs(view),
        metadata=metadata_strings(message.metadata, "istio"),
    )


def _listener_filters(view: View) -> dict[str, View]:
    """The configurations by the names of their types. The inspectors follow the PROXY header."""
    configs: dict[str, View] = {}
    for listener_filter in view.each("listener_filters"):
        config = listener_filter.unpack("typed_config", *_LISTENER_FILTERS)
        name = config.full_name()
        if name in configs:
            raise listener_filter.error(f"a second {name} is not supported")
        if name == PROXY_PROTOCOL and not configs.keys().isdisjoint(_INSPECTORS):
            raise listener_filter.error(f"{name} must be before the inspectors")
        if listener_filter.has("filter_disabled") and name not in _INSPECTORS:
            raise listener_filter.error(f"is not supported for {name}", "filter_disabled")
        configs[name] = config
    return configs


def _disabled(view: View, inspector: str) -> tuple[range, ...]:
    """The ports for which a listener filter is disabled."""
    for listener_filter in view.each("listener_filters"):
        if listener_filter.packed_type("typed_config") == inspector:
            return decode_port_match(listener_filter.find("filter_disabled"))
    return ()


def _proxy_protocol(view: View | None) -> ProxyProtocolFilter | None:
    return None if view is None else decode_proxy_protocol_filter(view)


def _original_src(view: View | None) -> OriginalSrc | None:
    return None if view is None else OriginalSrc(bind_port=view.message.bind_port, mark=view.message.mark)


def _ipv4_compat(view: View, address: SocketAddress) -> bool:
    socket_address = view.get("address").get("socket_address")
    compatible: bool = socket_address.message.ipv4_compat
    if compatible and ":" not in address.host:
        raise socket_address.error("is only valid for an IPv6 address", "ipv4_compat")
    return compatible


def _filter_chains(view: View, secrets: Set[str]) -> tuple[FilterChain, ...]:
    chains = []
    owners: dict[Hashable, str] = {}
    for chain_view in view.each("filter_chains"):
        chain = _filter_chain(chain_view, secrets)
        for criteria in _combinations(chain.match):
            if criteria in owners:
                reason = f"matches connections that {owners[criteria]} matches too"
                raise chain_view.error(reason, "filter_chain_match")
            owners[criteria] = chain_view.path
        chains.append(chain)
    if not chains and not view.has("default_filter_chain"):
        raise view.error("must not be empty without default_filter_chain", "filter_chains")
    return tuple(chains)


def _combinations(match: FilterChainMatch) -> Iterator[Hashable]:
    """Every combination of values that the match accepts. If two filter chains have a combination in common,
    both match the same connections."""
    return product(
        (match.destination_port,),
        match.prefix_ranges or ("",),
        [name.removeprefix("*") for name in match.server_names] or ("",),
        (match.transport_protocol,),
        match.application_protocols or ("",),
    )


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
        if "*" in name.removeprefix("*.") or not name.removeprefix("*").strip("."):
            reason = f"{name!r} is not a server name; a wildcard must be the whole first label"
            raise view.error(reason, f"server_names[{index}]")
    return FilterChainMatch(
        destination_port=view.wrapped("destination_port", None),
        prefix_ranges=tuple(decode_cidr(prefix) for prefix in view.each("prefix_ranges")),
        server_names=tuple(name.lower() for name in message.server_names),
        transport_protocol=message.transport_protocol,
        application_protocols=tuple(message.application_protocols),
    )


def _terminal_filter(view: View) -> HttpConnectionManager | TcpProxy:
    filters = list(view.each("filters"))
    if not filters:
        raise view.error("must not be empty", "filters")
    for network_filter in filters[:-1]:
        config = network_filter.unpack("typed_config", ISTIO_STATS, METADATA_EXCHANGE, MONGO_PROXY)
        if config.full_name() == ISTIO_STATS:
            check_istio_stats(config)
    config = filters[-1].unpack("typed_config", HTTP_CONNECTION_MANAGER, TCP_PROXY)
    if config.message.DESCRIPTOR.full_name == HTTP_CONNECTION_MANAGER:
        return decode_http_connection_manager(config)
    return decode_tcp_proxy(config)
