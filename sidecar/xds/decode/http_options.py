"""HTTP protocol options: those that connection managers and clusters share, and those of clusters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sidecar.config.codec_type import CodecType
from sidecar.config.http2 import Http2Options
from sidecar.config.tls import AutoNames
from sidecar.xds.decode.http2_options import DEFAULT_HEADERS_COUNT, DEFAULT_HEADERS_KB, decode_http2_options
from sidecar.xds.decode.support import SupportTable, support
from sidecar.xds.decode.values import decode_header_name
from sidecar.xds.decode.view import View

_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

TABLE: Final[SupportTable] = {
    "envoy.config.core.v3.HttpProtocolOptions": support(
        "idle_timeout max_connection_duration max_headers_count max_requests_per_connection "
        "max_stream_duration"
    ),
    "envoy.config.core.v3.Http1ProtocolOptions": support(
        "allow_absolute_url",
        enable_trailers="trailers pass as if it were true",
        use_balsa_parser="names an implementation",
    ),
    _HTTP_OPTIONS: support(
        "common_http_protocol_options explicit_http_config use_downstream_protocol_config auto_config "
        "upstream_http_protocol_options"
    ),
    "envoy.config.core.v3.UpstreamHttpProtocolOptions": support(
        "auto_sni auto_san_validation override_auto_sni_header"
    ),
    f"{_HTTP_OPTIONS}.ExplicitHttpConfig": support("http_protocol_options http2_protocol_options"),
    f"{_HTTP_OPTIONS}.UseDownstreamHttpConfig": support(
        "http2_protocol_options", checked="http_protocol_options"
    ),
    f"{_HTTP_OPTIONS}.AutoHttpConfig": support("http2_protocol_options", checked="http_protocol_options"),
}


@dataclass(slots=True)
class ClusterHttpOptions:
    codec_type: CodecType
    http2: Http2Options
    max_requests_per_connection: int
    idle_timeout_s: float = 3600.0
    max_connection_duration_s: float = 0.0
    auto_names: AutoNames | None = None


def decode_cluster_http_options(view: View) -> ClusterHttpOptions:
    """The HTTP options of a cluster: ``typed_extension_protocol_options``, or the deprecated fields."""
    options = ClusterHttpOptions(
        codec_type=CodecType.HTTP2 if view.has("http2_protocol_options") else CodecType.HTTP1,
        http2=_http2(view),
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
    options.max_connection_duration_s = common.duration_s("max_connection_duration", 0.0)
    options.auto_names = _auto_names(view.get("upstream_http_protocol_options"))
    options.max_requests_per_connection = common.wrapped(
        "max_requests_per_connection", options.max_requests_per_connection
    )
    choice = view.which("upstream_protocol_options")
    chosen = view.get(choice) if choice else view.get("explicit_http_config")
    options.http2 = _http2(chosen)
    if choice == "use_downstream_protocol_config":
        options.codec_type = CodecType.DOWNSTREAM
    elif choice == "auto_config":
        options.codec_type = CodecType.AUTO
    else:
        explicit = chosen.which("protocol_config")
        options.codec_type = CodecType.HTTP2 if explicit == "http2_protocol_options" else CodecType.HTTP1


def _auto_names(view: View) -> AutoNames | None:
    message = view.message
    if not (message.auto_sni or message.auto_san_validation):
        return None
    header = message.override_auto_sni_header
    return AutoNames(
        sni=message.auto_sni,
        san=message.auto_san_validation,
        header=decode_header_name(view, "override_auto_sni_header", header) if header else b"",
    )


def _http2(view: View) -> Http2Options:
    return decode_http2_options(
        view.get("http2_protocol_options"),
        max_headers_bytes=1024 * DEFAULT_HEADERS_KB,
        max_headers_count=DEFAULT_HEADERS_COUNT,
    )
