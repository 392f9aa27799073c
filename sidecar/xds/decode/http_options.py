"""HTTP protocol options: those that connection managers and clusters share, and those of clusters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sidecar.config.codec_type import CodecType
from sidecar.xds.decode.support import SupportTable, support
from sidecar.xds.decode.view import View

_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
HTTP2_TUNING = "tunes HTTP/2's flow control and limits, and does not change an answer"

TABLE: Final[SupportTable] = {
    "envoy.config.core.v3.HttpProtocolOptions": support(
        "idle_timeout max_headers_count max_requests_per_connection max_stream_duration"
    ),
    "envoy.config.core.v3.Http1ProtocolOptions": support(
        "allow_absolute_url",
        enable_trailers="trailers always pass",
        use_balsa_parser="names an implementation",
    ),
    "envoy.config.core.v3.Http2ProtocolOptions": support(
        "connection_keepalive",
        hpack_table_size=HTTP2_TUNING,
        max_concurrent_streams=HTTP2_TUNING,
        initial_stream_window_size=HTTP2_TUNING,
        initial_connection_window_size=HTTP2_TUNING,
        allow_connect="CONNECT is allowed by the upgrades",
        max_outbound_frames=HTTP2_TUNING,
        max_outbound_control_frames=HTTP2_TUNING,
        max_inbound_priority_frames_per_stream=HTTP2_TUNING,
    ),
    "envoy.config.core.v3.KeepaliveSettings": support(
        "interval timeout", interval_jitter=HTTP2_TUNING, connection_idle_interval=HTTP2_TUNING
    ),
    _HTTP_OPTIONS: support(
        "common_http_protocol_options explicit_http_config", checked="use_downstream_protocol_config"
    ),
    f"{_HTTP_OPTIONS}.ExplicitHttpConfig": support("http_protocol_options http2_protocol_options"),
    f"{_HTTP_OPTIONS}.UseDownstreamHttpConfig": support(
        checked="http_protocol_options http2_protocol_options"
    ),
}


@dataclass(slots=True)
class ClusterHttpOptions:
    codec_type: CodecType
    max_requests_per_connection: int
    idle_timeout_s: float = 3600.0


def decode_cluster_http_options(view: View) -> ClusterHttpOptions:
    """The HTTP options of a cluster: ``typed_extension_protocol_options``, or the deprecated fields."""
    options = ClusterHttpOptions(
        codec_type=CodecType.HTTP2 if view.has("http2_protocol_options") else CodecType.HTTP1,
        max_requests_per_connection=view.wrapped("max_requests_per_connection", 0),
    )
    for name in view.message.typed_extension_protocol_options:
        if name != _HTTP_OPTIONS:
            raise view.error("is not supported", f"typed_extension_protocol_options[{name}]")
        entry = view.unpack_entry("typed_extension_protocol_options", name, _HTTP_OPTIONS)
        _read_http_options(entry, options)
    return options


def _read_http_options(view: View, options: ClusterHttpOptions) -> None:
    common = view.get("common_http_protocol_options")
    for field in ("max_headers_count", "max_stream_duration"):
        if common.has(field):
            raise common.error("is not supported for a cluster", field)
    options.idle_timeout_s = common.duration_s("idle_timeout", 3600.0)
    options.max_requests_per_connection = common.wrapped(
        "max_requests_per_connection", options.max_requests_per_connection
    )
    # `use_downstream_protocol_config` is the client's version: HTTP/1.1, the only one that listeners support.
    explicit = view.get("explicit_http_config").which("protocol_config")
    options.codec_type = CodecType.HTTP2 if explicit == "http2_protocol_options" else CodecType.HTTP1
