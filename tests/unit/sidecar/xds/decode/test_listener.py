"""The matches of filter chains: the listener compiles them without another check."""

from __future__ import annotations

from typing import Any

import pytest

from protos import type_urls
from sidecar.errors import ConfigError
from sidecar.xds.decode import decode_resource
from tests.support.ads_server import packed
from tests.support.envoy_config import listener, tcp_proxy


def decode(*matches: dict[str, Any]) -> None:
    chain = listener("l", tcp_proxy())["filter_chains"][0]
    chains = [{**chain, "filter_chain_match": match} for match in matches]
    document = {**listener("l", tcp_proxy()), "filter_chains": chains}
    decode_resource(type_urls.LISTENER, packed(type_urls.LISTENER, document).value)


def prefix(address: str, length: int) -> dict[str, Any]:
    return {"address_prefix": address, "prefix_len": length}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {}),
        ({"destination_port": 1}, {"destination_port": 1}),
        # One common value is enough.
        ({"server_names": ["a", "b"]}, {"server_names": ["b", "c"]}),
        ({"application_protocols": ["h2", "istio"]}, {"application_protocols": ["istio"]}),
        ({"prefix_ranges": [prefix("10.0.0.0", 8)]}, {"prefix_ranges": [prefix("10.9.9.9", 8)]}),
        ({"server_names": ["A.test"]}, {"server_names": ["a.test"]}),
        ({"server_names": ["*.a.test"]}, {"server_names": [".a.test"]}),
    ],
)
def test_two_filter_chains_may_not_match_the_same_connections(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=r"matches connections that filter_chains\[0\] matches") as caught:
        decode(one, other)
    assert caught.value.path == "filter_chains[1].filter_chain_match"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"destination_port": 1}),
        ({"server_names": ["a"]}, {"server_names": ["*.a"]}),
        ({"server_names": ["a"]}, {"server_names": ["a"], "transport_protocol": "tls"}),
        ({"prefix_ranges": [prefix("10.0.0.0", 8)]}, {"prefix_ranges": [prefix("10.0.0.0", 16)]}),
        ({"application_protocols": ["h2"]}, {"application_protocols": ["istio"]}),
    ],
)
def test_the_more_specific_of_two_matches_is_not_a_duplicate(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    decode(one, other)


@pytest.mark.parametrize("name", ["", "*", "*.", ".", "a.*", "*a.test", "*.*.test"])
def test_an_invalid_server_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="is not a server name") as caught:
        decode({"server_names": ["a.test", name]})
    assert caught.value.path == "filter_chains[0].filter_chain_match.server_names[1]"


def test_an_invalid_prefix_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        decode({"prefix_ranges": [prefix("10.0.0.0", 99)]})
    assert caught.value.path.startswith("filter_chains[0].filter_chain_match.prefix_ranges[0]")
