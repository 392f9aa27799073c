"""The limits of HTTP/2 connections. Source: ``envoy.config.core.v3.Http2ProtocolOptions``, whose defaults
these are; the limits of heads are those of ``HttpConnectionManager`` and ``HttpProtocolOptions``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Http2Keepalive:
    """``KeepaliveSettings``: a PING after each ``interval_s``, varied by ``interval_jitter_percent``; a
    connection that does not answer it within ``timeout_s`` ends. ``connection_idle_interval_s``: the same,
    before the first request after such an idle time. None: no PING is sent for that reason."""

    interval_s: float | None = None
    timeout_s: float = 0.0
    interval_jitter_percent: float = 15.0
    connection_idle_interval_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Http2Options:
    """What one side announces and tolerates. Sizes are in bytes.

    ``stream_error_on_invalid_message`` (Envoy: ``override_stream_error_on_invalid_http_message``): an invalid
    message ends its stream only, instead of the connection. ``allow_connect``: a server announces extended
    CONNECT (RFC 8441). ``max_headers_bytes`` is the size of names and values together.
    """

    hpack_table_size: int = 4096
    max_concurrent_streams: int = 1024
    initial_stream_window_size: int = 16 * 1024 * 1024
    initial_connection_window_size: int = 24 * 1024 * 1024
    allow_connect: bool = False
    max_outbound_frames: int = 10_000
    max_outbound_control_frames: int = 1000
    max_consecutive_inbound_frames_with_empty_payload: int = 1
    max_inbound_priority_frames_per_stream: int = 100
    max_inbound_window_update_frames_per_data_frame_sent: int = 10
    stream_error_on_invalid_message: bool = False
    connection_keepalive: Http2Keepalive | None = None
    max_headers_bytes: int = 60 * 1024
    max_headers_count: int = 100


DEFAULT_HTTP2: Final = Http2Options()
