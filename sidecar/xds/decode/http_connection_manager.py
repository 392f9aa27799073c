"""``HttpConnectionManager``. `http_filters` decodes its filters."""

from __future__ import annotations

from typing import Final

from sidecar.config.codec_type import CodecType
from sidecar.config.listener import ForwardClientCert, HttpConnectionManager
from sidecar.xds.decode.access_log import decode_access_logs
from sidecar.xds.decode.config_source import initial_fetch_timeout_s
from sidecar.xds.decode.http2_options import decode_http2_options
from sidecar.xds.decode.http_filters.registry import decode_http_filters
from sidecar.xds.decode.route import decode_route_configuration
from sidecar.xds.decode.support import SupportTable, support
from sidecar.xds.decode.tracing import decode_request_id, decode_tracing
from sidecar.xds.decode.view import View

HTTP_CONNECTION_MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_CODEC_TYPES = frozenset(("AUTO", "HTTP1", "HTTP2"))
# Escaped slashes of a path are kept, which is the default: a client cannot change the meaning of a path.
_ESCAPED_SLASHES = frozenset(("IMPLEMENTATION_SPECIFIC_DEFAULT", "KEEP_UNCHANGED"))


_PACKAGE = "envoy.extensions.filters.network.http_connection_manager.v3"

TABLE: Final[SupportTable] = {
    HTTP_CONNECTION_MANAGER: support(
        "codec_type stat_prefix rds route_config http_filters common_http_protocol_options "
        "http_protocol_options server_name max_request_headers_kb stream_idle_timeout request_timeout "
        "request_headers_timeout drain_timeout access_log use_remote_address xff_num_trusted_hops "
        "skip_xff_append generate_request_id preserve_external_request_id forward_client_cert_details "
        "set_current_client_cert_details upgrade_configs normalize_path merge_slashes "
        "path_with_escaped_slashes_action proxy_100_continue request_id_extension delayed_close_timeout "
        "http2_protocol_options stream_error_on_invalid_http_message tracing",
    ),
    f"{_PACKAGE}.Rds": support("config_source route_config_name"),
    f"{HTTP_CONNECTION_MANAGER}.UpgradeConfig": support("upgrade_type enabled"),
    f"{HTTP_CONNECTION_MANAGER}.SetCurrentClientCertDetails": support("subject cert chain dns uri"),
    f"{_PACKAGE}.RequestIDExtension": support("typed_config"),
}


def decode_http_connection_manager(view: View) -> HttpConnectionManager:
    message = view.message
    common = view.get("common_http_protocol_options")
    if common.has("max_requests_per_connection"):
        raise common.error("is not supported for downstream connections", "max_requests_per_connection")
    _check_one_of(view, "codec_type", _CODEC_TYPES)
    rds_name, rds_fetch_timeout_s = _rds(view)
    in_place = view.find("route_config")
    max_headers_bytes = 1024 * view.wrapped("max_request_headers_kb", 60)
    max_headers_count = common.wrapped("max_headers_count", 100)
    return HttpConnectionManager(
        stat_prefix=message.stat_prefix,
        codec_type=CodecType[view.enum_name("codec_type")],
        http2=decode_http2_options(
            view.get("http2_protocol_options"),
            max_headers_bytes=max_headers_bytes,
            max_headers_count=max_headers_count,
            stream_error_on_invalid_message=view.wrapped("stream_error_on_invalid_http_message", False),
        ),
        route_config=decode_route_configuration(in_place) if in_place else None,
        rds_name=rds_name,
        rds_initial_fetch_timeout_s=rds_fetch_timeout_s,
        http_filters=decode_http_filters(view),
        server_name=message.server_name or "envoy",
        use_remote_address=view.wrapped("use_remote_address", False),
        xff_num_trusted_hops=message.xff_num_trusted_hops,
        skip_xff_append=message.skip_xff_append,
        generate_request_id=view.wrapped("generate_request_id", True),
        preserve_external_request_id=message.preserve_external_request_id,
        request_id=decode_request_id(view),
        tracing=decode_tracing(view.find("tracing")),
        normalize_path=_normalize_path(view),
        merge_slashes=message.merge_slashes,
        proxy_100_continue=message.proxy_100_continue,
        allow_absolute_url=view.get("http_protocol_options").wrapped("allow_absolute_url", True),
        forward_client_cert=ForwardClientCert[view.enum_name("forward_client_cert_details")],
        client_cert_details=_client_cert_details(view.get("set_current_client_cert_details")),
        upgrades=_upgrades(view),
        max_request_headers_bytes=max_headers_bytes,
        max_headers_count=max_headers_count,
        request_headers_timeout_s=view.duration_s("request_headers_timeout", 0.0),
        request_timeout_s=view.duration_s("request_timeout", 0.0),
        stream_idle_timeout_s=view.duration_s("stream_idle_timeout", 300.0),
        idle_timeout_s=common.duration_s("idle_timeout", 3600.0),
        max_connection_duration_s=common.duration_s("max_connection_duration", 0.0),
        max_stream_duration_s=common.duration_s("max_stream_duration", 0.0),
        drain_timeout_s=view.duration_s("drain_timeout", 5.0),
        delayed_close_timeout_s=view.duration_s("delayed_close_timeout", 1.0),
        access_logs=decode_access_logs(view),
    )


def _rds(view: View) -> tuple[str, float]:
    rds = view.find("rds")
    if rds is None:
        return "", 15.0
    if not rds.message.route_config_name:
        raise rds.error("must not be empty", "route_config_name")
    return rds.message.route_config_name, initial_fetch_timeout_s(rds.get("config_source"))


def _check_one_of(view: View, field: str, supported: frozenset[str]) -> None:
    name = view.enum_name(field)
    if name not in supported:
        raise view.error(f"{name} is not supported", field)


def _normalize_path(view: View) -> bool:
    _check_one_of(view, "path_with_escaped_slashes_action", _ESCAPED_SLASHES)
    return bool(view.wrapped("normalize_path", False))


def _client_cert_details(view: View) -> frozenset[str]:
    message = view.message
    chosen = {
        "Subject": view.wrapped("subject", False),
        "Cert": message.cert,
        "Chain": message.chain,
        "DNS": message.dns,
        "URI": message.uri,
    }
    return frozenset(name for name, wanted in chosen.items() if wanted)


def _upgrades(view: View) -> frozenset[str]:
    allowed: set[str] = set()
    seen: set[str] = set()
    for config in view.each("upgrade_configs"):
        upgrade = config.message.upgrade_type.lower()
        if upgrade in seen:
            raise config.error(f"{upgrade!r} is a duplicate", "upgrade_type")
        seen.add(upgrade)
        if config.wrapped("enabled", True):
            allowed.add(upgrade)
    return frozenset(allowed)
