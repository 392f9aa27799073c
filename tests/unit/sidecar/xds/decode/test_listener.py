from __future__ import annotations

from typing import Any

import pytest

from protos import type_urls
from sidecar.config.listener import FilterChainMatch, Listener, OriginalSrc, TcpProxy
from sidecar.config.route import WeightedCluster
from sidecar.config.tls import SanMatch, SanMatchKind, TlsParameters, TlsVersion
from sidecar.errors import ConfigError
from sidecar.xds.decode import decode_resource
from tests.support.ads_server import packed
from tests.support.decoded import MANAGER, listener_with
from tests.support.envoy_config import TYPE, downstream_tls, listener, tcp_proxy


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


def test_a_listener_of_istio() -> None:
    inspector = {
        "name": "envoy.filters.listener.tls_inspector",
        "typed_config": {"@type": f"{TYPE}/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"},
    }
    original = {
        "name": "envoy.filters.listener.original_dst",
        "typed_config": {"@type": f"{TYPE}/envoy.extensions.filters.listener.original_dst.v3.OriginalDst"},
    }
    socket = downstream_tls(
        tls_params={"tls_minimum_protocol_version": "TLSv1_3"},
        alpn_protocols=["istio", "http/1.1"],
        tls_certificate_sds_secret_configs=[{"name": "default"}],
        combined_validation_context={
            "default_validation_context": {
                "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"prefix": "spiffe://a/"}}]
            },
            "validation_context_sds_secret_config": {"name": "ROOTCA"},
        },
    )
    socket["typed_config"]["require_client_certificate"] = True
    document = {
        **listener("virtualInbound", tcp_proxy(), 15006),
        "listener_filters": [original, inspector],
        "traffic_direction": "INBOUND",
        "listener_filters_timeout": "0s",
        "continue_on_listener_filters_timeout": True,
    }
    document["filter_chains"][0] |= {
        "name": "mesh",
        "filter_chain_match": {
            "destination_port": 9080,
            "transport_protocol": "tls",
            "application_protocols": ["istio"],
            "prefix_ranges": [{"address_prefix": "10.1.2.3", "prefix_len": 8}],
            "server_names": ["*.Example.com"],
        },
        "transport_socket": socket,
        "transport_socket_connect_timeout": "15s",
    }
    found = listener_with(document)

    assert found.tls_inspector
    assert found.original_dst_filter
    assert not found.http_inspector
    assert found.listener_filters_timeout_s == 0.0
    assert found.direction.name == "INBOUND"
    (chain,) = found.filter_chains
    assert chain.match == FilterChainMatch(
        destination_port=9080,
        prefix_ranges=("10.0.0.0/8",),
        server_names=("*.example.com",),
        transport_protocol="tls",
        application_protocols=("istio",),
    )
    assert chain.handshake_timeout_s == 15.0
    assert chain.tls is not None
    assert chain.tls.require_client_certificate
    parameters = chain.tls.parameters
    assert (parameters.certificate_secret, parameters.validation_secret) == ("default", "ROOTCA")
    assert parameters.minimum_version is TlsVersion.TLS1_3
    assert parameters.validation is not None
    expected = SanMatch(kind=SanMatchKind.PREFIX, value="spiffe://a/", san_type="URI")
    assert parameters.validation.match_sans == (expected,)


def test_a_transparent_listener_of_istio() -> None:
    source = {
        "name": "envoy.filters.listener.original_src",
        "typed_config": {
            "@type": f"{TYPE}/envoy.extensions.filters.listener.original_src.v3.OriginalSrc",
            "mark": 1337,
        },
    }
    plain = listener_with(listener("l", tcp_proxy()))
    assert (plain.transparent, plain.original_src) == (False, None)
    found = listener_with(listener("l", tcp_proxy()) | {"transparent": True, "listener_filters": [source]})
    assert found.transparent
    assert found.original_src == OriginalSrc(mark=1337)


def test_ipv4_compat_is_for_ipv6_addresses() -> None:
    path = "address.socket_address"
    address = {"address": "::", "port_value": 1, "ipv4_compat": True}
    assert listener_with(listener("l", tcp_proxy()), path, address).ipv4_compat
    with pytest.raises(ConfigError) as caught:
        listener_with(listener("l", tcp_proxy()), path, address | {"address": "0.0.0.0"})
    assert caught.value.path == "address.socket_address.ipv4_compat"


def test_a_weighted_tcp_proxy() -> None:
    document = listener("l", tcp_proxy())
    del document["filter_chains"][0]["filters"][0]["typed_config"]["cluster"]
    weighted = {"clusters": [{"name": "a", "weight": 1}, {"name": "b", "weight": 3}]}
    chain = listener_with(document, f"{MANAGER}.weighted_clusters", weighted).filter_chains[0]
    assert isinstance(chain.filter, TcpProxy)
    assert chain.filter.clusters == (WeightedCluster(name="a", weight=1), WeightedCluster(name="b", weight=3))


def server_tls(**common: Any) -> TlsParameters:
    document = listener("l", tcp_proxy())
    secret = {"tls_certificate_sds_secret_configs": [{"name": "default"}]}
    document["filter_chains"][0]["transport_socket"] = downstream_tls(**secret, **common)
    tls = listener_with(document).filter_chains[0].tls
    assert tls is not None
    return tls.parameters


def test_cipher_suites_have_the_names_of_openssl() -> None:
    given = ["[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]", "AES256-GCM-SHA384"]
    assert server_tls(tls_params={"cipher_suites": given}).cipher_suites == (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "AES256-GCM-SHA384",
    )


@pytest.mark.parametrize("suite", ["ALL", "!MD5", "NO-SUCH-SUITE", "", "AES256-GCM-SHA384:ALL", "HIGH"])
def test_what_is_no_cipher_suite_is_refused(suite: str) -> None:
    with pytest.raises(ConfigError, match="is not a cipher suite") as caught:
        server_tls(tls_params={"cipher_suites": ["AES256-GCM-SHA384", suite]})
    assert caught.value.path.endswith("common_tls_context.tls_params.cipher_suites[1]")


def test_the_exchange_of_metadata_before_the_first_byte_is_never_agreed_to() -> None:
    assert server_tls(alpn_protocols=["istio-peer-exchange", "istio"]).alpn_protocols == ("istio",)


def network_filter(inner: str, **value: Any) -> dict[str, Any]:
    packed = {"@type": f"{TYPE}/udpa.type.v1.TypedStruct", "type_url": f"{TYPE}/{inner}", "value": value}
    return {"name": inner, "typed_config": packed}


EXCHANGE = "envoy.tcp.metadataexchange.config.MetadataExchange"


MONGO = f"{TYPE}/envoy.extensions.filters.network.mongo_proxy.v3.MongoProxy"


def mongo(**fields: Any) -> dict[str, Any]:
    config = {"@type": MONGO, "stat_prefix": "outbound|27017||ports.bookinfo.svc.cluster.local", **fields}
    return {"name": "envoy.filters.network.mongo_proxy", "typed_config": config}


def with_filters(*filters: dict[str, Any]) -> Listener:
    document = listener("l", tcp_proxy())
    terminal = document["filter_chains"][0]["filters"]
    document["filter_chains"][0]["filters"] = [*filters, *terminal]
    return listener_with(document)


def test_istios_network_filters_do_not_change_a_connection() -> None:
    filters = (network_filter(EXCHANGE, protocol="istio-peer-exchange"), network_filter("stats.PluginConfig"))
    assert with_filters(*filters) == with_filters()


def test_the_statistics_of_mongo_do_not_change_a_connection() -> None:
    assert with_filters(network_filter("stats.PluginConfig"), mongo()) == with_filters()


@pytest.mark.parametrize(
    ("network_filter", "path", "reason"),
    [
        (mongo(delay={"fixed_delay": "1s"}), ".typed_config.delay", "is not supported"),
        (mongo(access_log="/tmp/mongo"), ".typed_config.access_log", "is not supported"),
        (network_filter("stats.PluginConfig", metrics=[{}]), ".typed_config.metrics", "is not supported"),
        (network_filter("envoy.other"), ".typed_config", "type envoy.other is not supported here"),
        (tcp_proxy(), ".typed_config", "TcpProxy is not supported here"),
    ],
)
def test_other_filters_before_the_terminal_one_are_refused(
    network_filter: dict[str, Any], path: str, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        with_filters(network_filter)
    assert caught.value.path == f"filter_chains[0].filters[0]{path}"
