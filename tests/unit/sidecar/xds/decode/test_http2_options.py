from __future__ import annotations

from typing import Any

import pytest

from sidecar.config.codec_type import CodecType
from sidecar.config.http2 import DEFAULT_HTTP2, Http2Keepalive, Http2Options
from sidecar.errors import ConfigError
from tests.support.decoded import cluster_with, manager_with
from tests.support.envoy_config import static_cluster

OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
EVERY_OPTION = {
    "hpack_table_size": 0,
    "max_concurrent_streams": 7,
    "initial_stream_window_size": 65535,
    "initial_connection_window_size": 70000,
    "allow_connect": True,
    "max_outbound_frames": 11,
    "max_outbound_control_frames": 12,
    "max_consecutive_inbound_frames_with_empty_payload": 0,
    "max_inbound_priority_frames_per_stream": 13,
    "max_inbound_window_update_frames_per_data_frame_sent": 14,
    "override_stream_error_on_invalid_http_message": True,
    "connection_keepalive": {
        "interval": "30s",
        "timeout": "5s",
        "interval_jitter": {"value": 20},
        "connection_idle_interval": "60s",
    },
}
EVERY_VALUE = Http2Options(
    hpack_table_size=0,
    max_concurrent_streams=7,
    initial_stream_window_size=65535,
    initial_connection_window_size=70000,
    allow_connect=True,
    max_outbound_frames=11,
    max_outbound_control_frames=12,
    max_consecutive_inbound_frames_with_empty_payload=0,
    max_inbound_priority_frames_per_stream=13,
    max_inbound_window_update_frames_per_data_frame_sent=14,
    stream_error_on_invalid_message=True,
    connection_keepalive=Http2Keepalive(
        interval_s=30.0, timeout_s=5.0, interval_jitter_percent=20.0, connection_idle_interval_s=60.0
    ),
)


def cluster_for(**options: Any) -> Any:
    packed = {OPTIONS: {"@type": f"type.googleapis.com/{OPTIONS}", **options}}
    return cluster_with(static_cluster("c"), "typed_extension_protocol_options", packed)


def test_the_defaults_are_those_of_envoy() -> None:
    assert manager_with("http2_protocol_options", {}).http2 == DEFAULT_HTTP2
    assert cluster_for(explicit_http_config={"http2_protocol_options": {}}).http2 == DEFAULT_HTTP2


def test_every_option_is_kept() -> None:
    assert manager_with("http2_protocol_options", EVERY_OPTION).http2 == EVERY_VALUE
    assert cluster_for(explicit_http_config={"http2_protocol_options": EVERY_OPTION}).http2 == EVERY_VALUE


def test_the_limits_of_heads_are_those_of_the_connection_manager() -> None:
    assert manager_with("max_request_headers_kb", 16).http2.max_headers_bytes == 16 * 1024
    assert manager_with("common_http_protocol_options.max_headers_count", 9).http2.max_headers_count == 9


def test_the_connection_manager_s_choice_of_an_error_is_overridden_by_the_options() -> None:
    found = manager_with("stream_error_on_invalid_http_message", True)
    assert found.http2.stream_error_on_invalid_message
    assert not manager_with("http2_protocol_options", {}).http2.stream_error_on_invalid_message


@pytest.mark.parametrize("field", ["allow_metadata", "custom_settings_parameters", "max_metadata_size"])
def test_an_option_that_would_have_no_effect_is_refused(field: str) -> None:
    value = {"allow_metadata": True, "custom_settings_parameters": [{"identifier": 9, "value": 1}]}
    with pytest.raises(ConfigError, match=rf"http2_protocol_options\.{field}: is not supported$"):
        manager_with("http2_protocol_options", {field: value.get(field, 1)})


@pytest.mark.parametrize(
    ("options", "codec_type"),
    [
        ({"explicit_http_config": {"http_protocol_options": {}}}, CodecType.HTTP1),
        ({"explicit_http_config": {"http2_protocol_options": {}}}, CodecType.HTTP2),
        ({"use_downstream_protocol_config": {}}, CodecType.DOWNSTREAM),
        ({"use_downstream_protocol_config": {"http2_protocol_options": {}}}, CodecType.DOWNSTREAM),
    ],
)
def test_a_cluster_s_options_choose_the_version(options: dict[str, Any], codec_type: CodecType) -> None:
    assert cluster_for(**options).codec_type is codec_type


def test_alpn_chooses_the_version_where_every_host_has_tls() -> None:
    tls = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
    socket = {"name": "tls", "typed_config": {"@type": f"type.googleapis.com/{tls}"}}
    packed = {OPTIONS: {"@type": f"type.googleapis.com/{OPTIONS}", "auto_config": {}}}
    document = {**static_cluster("c"), "typed_extension_protocol_options": packed}
    with pytest.raises(ConfigError, match="auto_config requires TLS for every transport socket"):
        cluster_with(document)
    assert cluster_with({**document, "transport_socket": socket}).codec_type is CodecType.AUTO
    matches = [{"name": "plain", "match": {}}]
    with pytest.raises(ConfigError, match="auto_config requires TLS"):
        cluster_with({**document, "transport_socket": socket, "transport_socket_matches": matches})
