from __future__ import annotations

import pytest
from envoy.config.trace.v3 import opentelemetry_pb2  # noqa: F401 - the message can be in an Any

from sidecar.config.codec_type import CodecType
from sidecar.config.fraction import Fraction
from sidecar.config.listener import ForwardClientCert, HttpConnectionManager
from sidecar.config.tracing import (
    EnvironmentTag,
    LiteralTag,
    MetadataSource,
    MetadataTag,
    RequestHeaderTag,
    RequestIdOptions,
    Sampling,
    Tracing,
)
from sidecar.errors import ConfigError
from tests.support.decoded import MANAGER, manager_with
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


def test_the_tracing_of_a_telemetry_resource_is_kept() -> None:
    collector = {"envoy_grpc": {"cluster_name": "outbound|4317||otel.istio-system.svc.cluster.local"}}
    config = {
        "@type": f"{TYPE}/envoy.config.trace.v3.OpenTelemetryConfig",
        "grpc_service": collector,
        "service_name": "reviews.bookinfo",
    }
    result = "istio_dry_run_allow_shadow_engine_result"
    tags = [
        {"tag": "a", "literal": {"value": "b"}},
        {"tag": "e", "environment": {"name": "E"}},
        {"tag": "h", "request_header": {"name": "x-h", "default_value": "d"}},
        {
            "tag": "istio.authorization.dry_run.allow_policy.result",
            "metadata": {
                "kind": {"request": {}},
                "metadata_key": {"key": "envoy.filters.http.rbac", "path": [{"key": result}]},
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
    name = "istio.authorization.dry_run.allow_policy.result"
    assert manager_with("tracing", tracing).tracing == Tracing(
        sampling=Sampling(
            client=Fraction(numerator=100),
            random=Fraction(numerator=5000, denominator=10_000),
            overall=Fraction(numerator=10_000, denominator=10_000),
        ),
        custom_tags=(
            LiteralTag(tag="a", value="b"),
            EnvironmentTag(tag="e", variable="E"),
            RequestHeaderTag(tag="h", header="x-h", default="d"),
            MetadataTag(
                tag=name, source=MetadataSource.REQUEST, namespace="envoy.filters.http.rbac", path=(result,)
            ),
        ),
    )


def test_the_other_options_of_tracing_are_kept() -> None:
    tracing = {"verbose": True, "max_path_tag_length": 60, "spawn_upstream_span": True}
    found = manager_with("tracing", tracing).tracing
    assert found == Tracing(verbose=True, max_path_tag_length=60, spawn_upstream_span=True)
    assert manager_with("server_name", "").tracing is None


@pytest.mark.parametrize("kind", MetadataSource)
def test_a_tag_may_be_of_any_metadata(kind: MetadataSource) -> None:
    metadata = {
        "kind": {kind.value: {}},
        "metadata_key": {"key": "n", "path": [{"key": "a"}, {"key": "b"}]},
        "default_value": "d",
    }
    found = manager_with("tracing", {"custom_tags": [{"tag": "t", "metadata": metadata}]}).tracing
    tag = MetadataTag(tag="t", source=kind, namespace="n", path=("a", "b"), default="d")
    assert found is not None
    assert found.custom_tags == (tag,)


@pytest.mark.parametrize(
    ("tracing", "where"),
    [
        ({"client_sampling": {"value": 101}}, "client_sampling.value"),
        ({"random_sampling": {"value": -1}}, "random_sampling.value"),
        ({"overall_sampling": {"value": "NaN"}}, "overall_sampling.value"),
        ({"custom_tags": [{"literal": {"value": "a"}}]}, "custom_tags[0].tag"),
        ({"custom_tags": [{"tag": "a"}]}, "custom_tags[0]"),
        ({"custom_tags": [{"tag": "a", "value": "%PROTOCOL%"}]}, "custom_tags[0].value"),
        ({"custom_tags": [{"tag": "a", "literal": {}}]}, "custom_tags[0].literal.value"),
        ({"custom_tags": [{"tag": "a", "environment": {}}]}, "custom_tags[0].environment.name"),
        ({"custom_tags": [{"tag": "a", "request_header": {}}]}, "custom_tags[0].request_header.name"),
        (
            {"custom_tags": [{"tag": "a", "request_header": {"name": "a\n"}}]},
            "custom_tags[0].request_header.name",
        ),
        ({"custom_tags": [{"tag": "a", "metadata": {}}]}, "custom_tags[0].metadata.kind"),
        (
            {"custom_tags": [{"tag": "a", "metadata": {"kind": {}}}]},
            "custom_tags[0].metadata.kind",
        ),
        (
            {"custom_tags": [{"tag": "a", "metadata": {"kind": {"host": {}}, "metadata_key": {"key": "a"}}}]},
            "custom_tags[0].metadata.metadata_key.path",
        ),
        ({"operation": "%PROTOCOL%"}, "operation"),
    ],
)
def test_invalid_tracing_is_refused_by_its_path(tracing: dict[str, object], where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        manager_with("tracing", tracing)
    assert caught.value.path == f"{MANAGER}.tracing.{where}"


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, RequestIdOptions()),
        ({"pack_trace_reason": False}, RequestIdOptions(pack_trace_reason=False)),
        ({"use_request_id_for_trace_sampling": False}, RequestIdOptions(use_for_sampling=False)),
    ],
)
def test_the_options_of_request_ids_are_kept(options: dict[str, bool], found: RequestIdOptions) -> None:
    uuid = {"@type": f"{TYPE}/envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig", **options}
    assert manager_with("request_id_extension", {"typed_config": uuid}).request_id == found
