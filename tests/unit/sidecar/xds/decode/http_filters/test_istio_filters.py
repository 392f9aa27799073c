"""Istio's own filters, as istiod sends them."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.config.http_filters import AlpnConfig, PeerMetadataConfig, PeerMethod
from sidecar.errors import ConfigError
from tests.support.envoy_config import TYPE
from tests.support.http_filters import decoded_chain

CONFIG = "filter_chains[0].filters[0].typed_config.http_filters[0].typed_config"
HEADERS = (PeerMethod.ISTIO_HEADERS,)
STRUCTS = (f"{TYPE}/udpa.type.v1.TypedStruct", f"{TYPE}/xds.type.v3.TypedStruct")
PEER_METADATA = f"{TYPE}/io.istio.http.peer_metadata.Config"
STATS = f"{TYPE}/stats.PluginConfig"


def typed_struct(inner: str, value: dict[str, Any], outer: str = STRUCTS[0]) -> dict[str, Any]:
    return {"name": "istio", "typed_config": {"@type": outer, "type_url": inner, "value": value}}


def decoded(inner: str, value: dict[str, Any]) -> object:
    return decoded_chain(typed_struct(inner, value))[0].config


@pytest.mark.parametrize("outer", STRUCTS)
def test_a_configuration_in_a_typed_struct_is_that_of_its_inner_type(outer: str) -> None:
    value = {"downstream_discovery": [{"istio_headers": {}}], "downstreamPropagation": [{"istioHeaders": {}}]}
    found = decoded_chain(typed_struct(PEER_METADATA, value, outer))[0].config
    assert found == PeerMetadataConfig(downstream_discovery=HEADERS, downstream_propagation=HEADERS)


def test_the_filter_of_an_outbound_listener() -> None:
    value = {
        "upstream_discovery": [{"istio_headers": {}}, {"workload_discovery": {}}],
        "upstream_propagation": [{"istio_headers": {"skip_external_clusters": True}}, {"baggage": {}}],
    }
    assert decoded(PEER_METADATA, value) == PeerMetadataConfig(
        upstream_discovery=HEADERS,
        upstream_propagation=(PeerMethod.ISTIO_HEADERS, PeerMethod.BAGGAGE),
        skip_external_clusters=True,
    )


@pytest.mark.parametrize(
    ("inner", "value", "path", "reason"),
    [
        (
            PEER_METADATA,
            {"upstream_discovery": [{"baggage": {}}]},
            "upstream_discovery[0].baggage",
            "for hosts",
        ),
        (PEER_METADATA, {"upstream_discovery": [{}]}, "upstream_discovery[0]", "has no method"),
        (
            PEER_METADATA,
            {"upstream_discovery": [{"upstream_filter_state": {}}]},
            "upstream_discovery[0].upstream_filter_state",
            "is not supported",
        ),
        (PEER_METADATA, {"additional_labels": ["a"]}, "additional_labels", "is not supported"),
        (PEER_METADATA, {"unheard_of": 1}, "", 'has no field named "unheard_of"'),
        (
            PEER_METADATA,
            {"upstream_discovery": "all"},
            "",
            "is not a valid io.istio.http.peer_metadata.Config",
        ),
        (STATS, {"metrics": [{"tags_to_remove": ["source_app"]}]}, "metrics", "is not supported"),
        (STATS, {"definitions": [{"name": "a"}]}, "definitions", "is not supported"),
        (STATS, {"reporter": "SERVER_GATEWAY"}, "reporter", "only the reporters of sidecars"),
        (f"{TYPE}/wasm.Config", {}, "", "type wasm.Config is not supported here"),
        ("", {}, "", "has no @type"),
    ],
)
def test_what_would_change_the_result_is_refused_by_its_path(
    inner: str, value: dict[str, Any], path: str, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        decoded(inner, value)
    assert caught.value.path == (f"{CONFIG}.{path}" if path else CONFIG)


def test_an_unknown_filter_in_a_typed_struct_may_be_optional() -> None:
    assert len(decoded_chain({**typed_struct(f"{TYPE}/wasm.Config", {}), "is_optional": True})) == 1


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"disable_host_header_fallback": True, "tcp_reporting_duration": "15s"},
        {"debug": False, "stat_prefix": "istio", "rotation_interval": "3600s"},
    ],
)
def test_istios_metrics_need_no_filter(value: dict[str, Any]) -> None:
    assert len(decoded_chain(typed_struct(STATS, value))) == 1


ALPN = f"{TYPE}/istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig"


def alpn(*overrides: dict[str, Any]) -> object:
    config = {"@type": ALPN, "alpn_override": list(overrides)}
    return decoded_chain({"name": "istio.alpn", "typed_config": config})[0].config


def test_the_protocols_to_offer_depend_on_the_version() -> None:
    assert alpn(
        {"alpn_override": ["istio-http/1.0", "istio", "http/1.0"]},  # HTTP/1.0 is the first of the enum
        {"upstream_protocol": "HTTP11", "alpn_override": ["istio-http/1.1", "istio", "http/1.1"]},
        {"upstream_protocol": "HTTP2", "alpn_override": ["istio-peer-exchange", "istio-h2", "istio", "h2"]},
    ) == AlpnConfig(http1=("istio-http/1.1", "istio", "http/1.1"), http2=("istio-h2", "istio", "h2"))
    assert alpn() == AlpnConfig()


@pytest.mark.parametrize(
    ("overrides", "path", "reason"),
    [
        ([{"alpn_override": ["a", ""]}], "alpn_override[0].alpn_override[1]", "1 to 255 bytes"),
        ([{}, {}], "alpn_override[1].upstream_protocol", "HTTP10 is a duplicate"),
        ([{"upstream_protocol": 7}], "alpn_override[0].upstream_protocol", "7 is not a value of Protocol"),
    ],
)
def test_invalid_protocols_are_refused(overrides: list[dict[str, Any]], path: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        alpn(*overrides)
    assert caught.value.path == f"{CONFIG}.{path}"
