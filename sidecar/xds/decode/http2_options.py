"""``Http2ProtocolOptions``, of a connection manager or of a cluster."""

from __future__ import annotations

from typing import Final

from sidecar.config.http2 import Http2Keepalive, Http2Options
from sidecar.xds.decode.support import SupportTable, support
from sidecar.xds.decode.view import View

# The limits of heads that are configured elsewhere, with Envoy's defaults.
DEFAULT_HEADERS_KB: Final = 60
DEFAULT_HEADERS_COUNT: Final = 100

TABLE: Final[SupportTable] = {
    "envoy.config.core.v3.Http2ProtocolOptions": support(
        "hpack_table_size max_concurrent_streams initial_stream_window_size initial_connection_window_size "
        "allow_connect max_outbound_frames max_outbound_control_frames "
        "max_consecutive_inbound_frames_with_empty_payload max_inbound_priority_frames_per_stream "
        "max_inbound_window_update_frames_per_data_frame_sent stream_error_on_invalid_http_messaging "
        "override_stream_error_on_invalid_http_message connection_keepalive",
        use_oghttp2_codec="names an implementation",
    ),
    "envoy.config.core.v3.KeepaliveSettings": support(
        "interval timeout interval_jitter connection_idle_interval"
    ),
}


def decode_http2_options(
    view: View,
    *,
    max_headers_bytes: int,
    max_headers_count: int,
    stream_error_on_invalid_message: bool = False,
) -> Http2Options:
    """``stream_error_on_invalid_message`` is that of the connection manager; the options override it."""
    message, default = view.message, Http2Options()
    stream_error = stream_error_on_invalid_message or message.stream_error_on_invalid_http_messaging
    return Http2Options(
        hpack_table_size=view.wrapped("hpack_table_size", default.hpack_table_size),
        max_concurrent_streams=view.wrapped("max_concurrent_streams", default.max_concurrent_streams),
        initial_stream_window_size=view.wrapped(
            "initial_stream_window_size", default.initial_stream_window_size
        ),
        initial_connection_window_size=view.wrapped(
            "initial_connection_window_size", default.initial_connection_window_size
        ),
        allow_connect=message.allow_connect,
        max_outbound_frames=view.wrapped("max_outbound_frames", default.max_outbound_frames),
        max_outbound_control_frames=view.wrapped(
            "max_outbound_control_frames", default.max_outbound_control_frames
        ),
        max_consecutive_inbound_frames_with_empty_payload=view.wrapped(
            "max_consecutive_inbound_frames_with_empty_payload",
            default.max_consecutive_inbound_frames_with_empty_payload,
        ),
        max_inbound_priority_frames_per_stream=view.wrapped(
            "max_inbound_priority_frames_per_stream", default.max_inbound_priority_frames_per_stream
        ),
        max_inbound_window_update_frames_per_data_frame_sent=view.wrapped(
            "max_inbound_window_update_frames_per_data_frame_sent",
            default.max_inbound_window_update_frames_per_data_frame_sent,
        ),
        stream_error_on_invalid_message=view.wrapped(
            "override_stream_error_on_invalid_http_message", stream_error
        ),
        connection_keepalive=_keepalive(view.find("connection_keepalive")),
        max_headers_bytes=max_headers_bytes,
        max_headers_count=max_headers_count,
    )


def _keepalive(view: View | None) -> Http2Keepalive | None:
    if view is None:
        return None
    jitter = view.find("interval_jitter")
    return Http2Keepalive(
        interval_s=view.duration_s("interval", 0.0) if view.has("interval") else None,
        timeout_s=view.duration_s("timeout", 0.0),
        interval_jitter_percent=15.0 if jitter is None else float(jitter.message.value),
        connection_idle_interval_s=(
            view.duration_s("connection_idle_interval", 0.0) if view.has("connection_idle_interval") else None
        ),
    )
