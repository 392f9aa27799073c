from __future__ import annotations

import pytest
from envoy.config.trace.v3 import opentelemetry_pb2  # noqa: F401 - the message can be in an Any

from sidecar.config.codec_type import CodecType
from sidecar.config.listener import ForwardClientCert, HttpConnectionManager
from sidecar.errors import ConfigError
from tests.support.decoded import manager_with
from tests.support.envoy_config import TYPE


def test_the_defaults_of_a_connection_manager_are_envoys() -> None:
    found = manager_with("server_name", "")
    assert found == HttpConnectionManager(stat_prefix="http", rds_name="r", http_filters=found.http_filters)


def test_client_certificates_upgrades_and_limits() -> None:
    assert manager_with("forward_client_cert_details", "APPEND_FORWARD").forward_client_cert is (
        ForwardClientCert.APPEND_FORWARD
    )
    details = manager_with("set_current_client_cert_details", {"subject": True, "dns": True, "uri": True})
    assert details.client_cert_details == {"Subject", "DNS", "URI"}
    upgrades = [{"upgrade_type": "WebSocket"}, {"upgrade_type": "CONNECT", "enabled": False}]
    assert manager_with("upgrade_configs", upgrades).upgrades == {"websocket"}
    assert manager_with("max_request_headers_kb", 16).max_request_headers_bytes == 16 * 1024
    assert manager_with("stream_idle_timeout", "0s").stream_idle_timeout_s == 0.0
    assert manager_with("common_http_protocol_options", {"idle_timeout": "1.5s"}).idle_timeout_s == 1.5
    oldest = manager_with("common_http_protocol_options", {"max_connection_duration": "60s"})
    assert oldest.max_connection_duration_s == 60.0
    longest = manager_with("common_http_protocol_options", {"max_stream_duration": "7s"})
    assert longest.max_stream_duration_s == 7.0
    assert manager_with("rds.config_source.initial_fetch_timeout", "0s").rds_initial_fetch_timeout_s == 0.0


@pytest.mark.parametrize("codec_type", [CodecType.AUTO, CodecType.HTTP1, CodecType.HTTP2])
def test_a_supported_codec_type_is_kept(codec_type: CodecType) -> None:
    assert manager_with("codec_type", codec_type.name).codec_type is codec_type


def test_a_codec_type_that_is_not_supported_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"codec_type: HTTP3 is not supported$"):
        manager_with("codec_type", "HTTP3")


def test_the_tracing_of_a_telemetry_resource_does_not_change_a_request() -> None:
    collector = {"envoy_grpc": {"cluster_name": "outbound|4317||otel.istio-system.svc.cluster.local"}}
    config = {
        "@type": f"{TYPE}/envoy.config.trace.v3.OpenTelemetryConfig",
        "grpc_service": collector,
        "service_name": "reviews.bookinfo",
    }
    policy = [{"key": "istio_dry_run_allow_shadow_engine_result"}]
    tags = [
        {"tag": "a", "literal": {"value": "b"}},
        {"tag": "e", "environment": {"name": "E"}},
        {"tag": "h", "request_header": {"name": "x-h", "default_value": "d"}},
        {
            "tag": "istio.authorization.dry_run.allow_policy.result",
            "metadata": {
                "kind": {"request": {}},
                "metadata_key": {"key": "envoy.filters.http.rbac", "path": policy},
            },
        },
    ]
    tracing = {
        "client_sampling": {"value": 100},
        "random_sampling": {"value": 50},
        "overall_sampling": {"value": 100},
        "custom_tags": tags,
        "provider": {"name": "envoy.tracers.opentelemetry", "typed_config": config},
    }
    assert manager_with("tracing", tracing) == manager_with("server_name", "")
