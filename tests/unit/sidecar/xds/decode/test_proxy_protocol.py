from __future__ import annotations

import base64
from typing import Any

import pytest

from sidecar.config.proxy_protocol import EVERY_TLV, ProxyProtocolFilter, UpstreamProxyProtocol
from sidecar.errors import ConfigError
from tests.support.decoded import cluster_with, listener_with
from tests.support.envoy_config import TYPE, eds_cluster, listener, tcp_proxy

FILTER = "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"
TRANSPORT = "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport"
TLS_INSPECTOR = "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"
RAW = {
    "name": "raw",
    "typed_config": {"@type": f"{TYPE}/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"},
}
TLS = {
    "name": "tls",
    "typed_config": {
        "@type": f"{TYPE}/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": "a.test",
    },
}


def listener_filter(type_name: str = FILTER, **config: object) -> dict[str, Any]:
    return {"name": type_name, "typed_config": {"@type": f"{TYPE}/{type_name}", **config}}


def socket(inner: object = RAW, **config: object) -> dict[str, Any]:
    wrapped = {"@type": f"{TYPE}/{TRANSPORT}", "config": config, "transport_socket": inner}
    return {"name": "envoy.transport_sockets.upstream_proxy_protocol", "typed_config": wrapped}


def filtered(*filters: dict[str, Any]) -> Any:
    return listener_with(listener("l", tcp_proxy()) | {"listener_filters": list(filters)})


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, ProxyProtocolFilter()),
        (
            {"allow_requests_without_proxy_protocol": True, "stat_prefix": "edge"},
            ProxyProtocolFilter(optional=True, stat_prefix="edge"),
        ),
        ({"disallowed_versions": ["V1"]}, ProxyProtocolFilter(versions=frozenset({2}))),
        ({"pass_through_tlvs": {}}, ProxyProtocolFilter(tlv_types=EVERY_TLV)),
        (
            {"pass_through_tlvs": {"match_type": "INCLUDE", "tlv_type": [4, 0xEA]}},
            ProxyProtocolFilter(tlv_types=frozenset({4, 0xEA})),
        ),
    ],
)
def test_the_listener_filter(config: dict[str, object], expected: ProxyProtocolFilter) -> None:
    assert filtered(listener_filter(**config)).proxy_protocol == expected


def test_without_the_filter_no_header_is_expected() -> None:
    assert filtered().proxy_protocol is None


@pytest.mark.parametrize(
    "config",
    [
        {"rules": [{"tlv_type": 2, "on_tlv_present": {"key": "a"}}]},
        {"tlv_location": "FILTER_STATE"},
        {"disallowed_versions": ["V1", 7]},
        {"pass_through_tlvs": {"match_type": "INCLUDE", "tlv_type": [256]}},
    ],
)
def test_what_the_filter_cannot_do_is_refused_by_name(config: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        filtered(listener_filter(**config))
    assert f"typed_config.{next(iter(config))}" in caught.value.path


@pytest.mark.parametrize(
    ("first", "words"), [(TLS_INSPECTOR, "must be before the inspectors"), (FILTER, "a second")]
)
def test_a_header_is_read_once_and_before_the_inspectors(first: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        filtered(listener_filter(first), listener_filter())
    assert caught.value.path == "listener_filters[1]"


def test_the_transport_socket_of_a_cluster() -> None:
    added = {"type": 0xEA, "value": base64.b64encode(b"hello").decode()}
    passed = {"match_type": "INCLUDE", "tlv_type": [4]}
    found = cluster_with(
        eds_cluster("a", transport_socket=socket(version="V2", pass_through_tlvs=passed, added_tlvs=[added]))
    )
    expected = UpstreamProxyProtocol(version=2, tlv_types=frozenset({4}), added_tlvs=((0xEA, b"hello"),))
    assert (found.tls, found.proxy_protocol) == (None, expected)


def test_tls_follows_the_header_and_each_match_has_its_own() -> None:
    matches = [
        {"name": "new", "match": {"a": "b"}, "transport_socket": socket(TLS, version="V2")},
        {"name": "old", "transport_socket": TLS},
    ]
    found = cluster_with(eds_cluster("a", transport_socket=socket(), transport_socket_matches=matches))
    assert found.proxy_protocol == UpstreamProxyProtocol(version=1)
    new, old = found.transport_socket_matches
    assert (new.tls.sni, new.proxy_protocol) == ("a.test", UpstreamProxyProtocol(version=2))
    assert (old.tls.sni, old.proxy_protocol) == ("a.test", None)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (socket(socket()), "ProxyProtocolUpstreamTransport"),
        (socket(added_tlvs=[{"type": 256, "value": "aA=="}]), r"added_tlvs\[0\]\.type"),
        (socket(added_tlvs=[{"type": 1, "format_string": {"text_format": "a"}}]), "format_string"),
        (
            {**socket(), "typed_config": {**socket()["typed_config"], "allow_unspecified_address": True}},
            "unspec",
        ),
        ({**socket(), "typed_config": {"@type": f"{TYPE}/{TRANSPORT}"}}, "transport_socket"),
    ],
)
def test_what_the_transport_socket_cannot_do_is_refused_by_name(document: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        cluster_with(eds_cluster("a", transport_socket=document))
