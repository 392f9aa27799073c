"""Any bytes are a resource or a `ConfigError`, and a dump shows no private key."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos import type_urls
from sidecar.errors import ConfigError
from sidecar.xds.decode import decode_resource, resource_json
from tests.support.ads_server import packed
from tests.support.envoy_config import (
    downstream_tls,
    http_connection_manager,
    listener,
    load_assignment,
    route_configuration,
    static_cluster,
    tcp_proxy,
)


@pytest.mark.parametrize("type_url", type_urls.PUSH_ORDER)
@settings(max_examples=150)
@given(body=st.binary(max_size=200))
def test_any_bytes_give_a_config_error_or_a_resource(type_url: str, body: bytes) -> None:
    with suppress(ConfigError):
        decode_resource(type_url, body)


VALID = [
    packed(type_urls.CLUSTER, static_cluster("c", 1, 2)),
    packed(type_urls.ROUTE, route_configuration()),
    packed(type_urls.ENDPOINT, load_assignment("c", 1, 2)),
    packed(type_urls.LISTENER, listener("l", http_connection_manager(route_config=route_configuration()))),
]


@settings(max_examples=300)
@given(st.sampled_from(VALID), st.data())
def test_damaged_resources_give_a_config_error_or_a_resource(resource: Any, data: st.DataObject) -> None:
    body = bytearray(resource.value)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place] = data.draw(st.integers(0, 255))
    with suppress(ConfigError):
        decode_resource(resource.type_url, bytes(body))


def test_private_keys_are_redacted_everywhere() -> None:
    certificate = {"certificate_chain": {"inline_string": "CHAIN"}, "private_key": {"inline_bytes": "S0VZ"}}
    socket = downstream_tls(tls_certificates=[certificate])
    document = listener("l", tcp_proxy())
    document["filter_chains"][0]["transport_socket"] = socket
    shown = json.dumps(resource_json(type_urls.LISTENER, packed(type_urls.LISTENER, document).value))
    assert "CHAIN" in shown
    assert "S0VZ" not in shown
    assert "W3JlZGFjdGVkXQ==" in shown  # [redacted], in protobuf's JSON form of bytes
