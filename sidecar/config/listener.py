"""Listeners and their filter chains. Source: ``envoy.config.listener.v3`` and the messages of the network
filters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from sidecar.config.codec_type import CodecType
from sidecar.config.endpoint import SocketAddress
from sidecar.config.http2 import DEFAULT_HTTP2, Http2Options
from sidecar.config.proxy_protocol import ProxyProtocolFilter
from sidecar.config.route import RouteConfiguration, WeightedCluster
from sidecar.config.tls import DownstreamTls
from sidecar.config.tracing import DEFAULT_REQUEST_ID, RequestIdOptions, Tracing


class TrafficDirection(Enum):
    UNSPECIFIED = 0
    INBOUND = 1
    OUTBOUND = 2


# A JSON value whose strings are format strings.
JsonFormat: TypeAlias = "str | int | float | bool | tuple[JsonFormat, ...] | Mapping[str, JsonFormat] | None"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessLog:
    """A file access log (usually ``/dev/stdout``). ``format`` None is Envoy's default text; a mapping is
    JSON. ``response_flags``: only entries with one of these flags are logged; if the set is empty, entries
    with any flag; None logs every entry."""

    path: str
    format: str | Mapping[str, JsonFormat] | None = None
    omit_empty_values: bool = False
    response_flags: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpFilter:
    """A filter of the chain. ``name`` is the configured name, by which a route's ``per_filter_config`` refers
    to the filter. ``config`` is a frozen dataclass, whose class says which filter it is
    (`config.http_filters`). ``disabled``: the filter is skipped, unless the route has a ``per_filter_config``
    that enables it. ``clusters`` are the clusters that the filter uses; the listener waits for them to be
    warm."""

    name: str
    config: object | None = None
    disabled: bool = False
    clusters: frozenset[str] = frozenset()


class ForwardClientCert(Enum):
    """How ``x-forwarded-client-cert`` is handled: ``HttpConnectionManager.ForwardClientCertDetails``."""

    SANITIZE = 0
    FORWARD_ONLY = 1
    APPEND_FORWARD = 2
    SANITIZE_SET = 3
    ALWAYS_FORWARD_ONLY = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpConnectionManager:
    """``HttpConnectionManager``. Exactly one of ``route_config`` and ``rds_name`` is set. Timeouts of 0 are
    disabled. ``client_cert_details`` names the parts that APPEND_FORWARD and SANITIZE_SET add to
    ``x-forwarded-client-cert`` after By and Hash: ``Subject``, ``Cert``, ``Chain``, ``DNS``, ``URI``.
    ``proxy_100_continue``: the upstream answers ``Expect: 100-continue``, not the proxy.
    ``rds_initial_fetch_timeout_s`` limits the wait for the first route configuration; 0 is no limit."""

    stat_prefix: str
    codec_type: CodecType = CodecType.AUTO
    http2: Http2Options = DEFAULT_HTTP2
    route_config: RouteConfiguration | None = None
    rds_name: str = ""
    rds_initial_fetch_timeout_s: float = 15.0
    http_filters: tuple[HttpFilter, ...] = ()
    server_name: str = "envoy"
    use_remote_address: bool = False
    xff_num_trusted_hops: int = 0
    skip_xff_append: bool = False
    generate_request_id: bool = True
    preserve_external_request_id: bool = False
    request_id: RequestIdOptions = DEFAULT_REQUEST_ID
    tracing: Tracing | None = None
    normalize_path: bool = False
    merge_slashes: bool = False
    proxy_100_continue: bool = False
    allow_absolute_url: bool = True
    forward_client_cert: ForwardClientCert = ForwardClientCert.SANITIZE
    client_cert_details: frozenset[str] = frozenset()
    upgrades: frozenset[str] = frozenset()  # lower-case: "websocket", "connect"
    max_request_headers_bytes: int = 60 * 1024
    max_headers_count: int = 100
    request_headers_timeout_s: float = 0.0
    request_timeout_s: float = 0.0
    stream_idle_timeout_s: float = 300.0
    idle_timeout_s: float = 3600.0
    max_connection_duration_s: float = 0.0
    max_stream_duration_s: float = 0.0
    drain_timeout_s: float = 5.0
    delayed_close_timeout_s: float = 1.0
    access_logs: tuple[AccessLog, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpProxy:
    """``TcpProxy``. Timeouts of 0 are disabled. ``max_duration_s`` limits the life of a connection; a random
    share of it, at most ``max_duration_jitter``, is added."""

    stat_prefix: str
    clusters: tuple[WeightedCluster, ...]
    idle_timeout_s: float = 3600.0
    max_duration_s: float = 0.0
    max_duration_jitter: float = 0.0
    max_connect_attempts: int = 1
    access_logs: tuple[AccessLog, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterChainMatch:
    """``FilterChainMatch``: an empty field matches every connection. ``prefix_ranges`` are CIDRs of the
    destination address. ``server_names`` are lower-case. ``transport_protocol`` is ``tls`` or
    ``raw_buffer``."""

    destination_port: int | None = None
    prefix_ranges: tuple[str, ...] = ()
    server_names: tuple[str, ...] = ()
    transport_protocol: str = ""
    application_protocols: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterChain:
    """Exactly one terminal network filter, and the TLS context to accept with (None: plaintext).
    ``handshake_timeout_s`` is ``transport_socket_connect_timeout``, which begins with the connection; 0 uses
    the default of the process, which begins with the first byte of the handshake."""

    name: str
    match: FilterChainMatch = FilterChainMatch()
    tls: DownstreamTls | None = None
    handshake_timeout_s: float = 0.0
    filter: HttpConnectionManager | TcpProxy


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginalSrc:
    """``envoy.filters.listener.original_src``: hosts see the client's address, and with ``bind_port`` its
    port too. ``mark`` is on the packets to the hosts (SO_MARK); 0 means no mark."""

    bind_port: bool = False
    mark: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """``use_original_dst``: a redirected connection is handed to the listener of its original destination
    (SO_ORIGINAL_DST). ``bind_to_port`` False: the listener takes only such connections. ``transparent``:
    connections arrive by TPROXY, and their local address is the original destination. ``ipv4_compat``: a
    listener on an IPv6 address accepts IPv4 too. ``original_dst_filter``, ``original_src``,
    ``proxy_protocol``, ``tls_inspector`` and ``http_inspector`` are its listener filters; the inspectors do
    not look at connections to the ports of ``ports_without_tls_inspector`` and
    ``ports_without_http_inspector``."""

    name: str
    address: SocketAddress
    filter_chains: tuple[FilterChain, ...] = ()
    default_filter_chain: FilterChain | None = None
    use_original_dst: bool = False
    transparent: bool = False
    ipv4_compat: bool = False
    original_dst_filter: bool = False
    original_src: OriginalSrc | None = None
    proxy_protocol: ProxyProtocolFilter | None = None
    tls_inspector: bool = False
    http_inspector: bool = False
    ports_without_tls_inspector: tuple[range, ...] = ()
    ports_without_http_inspector: tuple[range, ...] = ()
    listener_filters_timeout_s: float = 15.0
    continue_on_listener_filters_timeout: bool = False
    bind_to_port: bool = True
    reuse_port: bool = True
    direction: TrafficDirection = TrafficDirection.UNSPECIFIED
    access_logs: tuple[AccessLog, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
