from __future__ import annotations

from typing import Any

import pytest

from protos import type_urls
from sidecar.back_off import BackOff
from sidecar.config.cluster import ClusterConfig
from sidecar.config.dns import DnsDiscoveryConfig, DnsLookupFamily, DnsResolver
from sidecar.config.endpoint import SocketAddress
from sidecar.xds.decode import decode_bootstrap, decode_resource
from tests.support.ads_server import packed
from tests.support.envoy_config import address, bootstrap, dns_cluster

CARES = "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"


def decoded(**fields: Any) -> DnsDiscoveryConfig:
    cluster = decode_resource(type_urls.CLUSTER, packed(type_urls.CLUSTER, dns_cluster("d", **fields)).value)
    assert isinstance(cluster, ClusterConfig)
    return cluster.dns


def cares(**fields: Any) -> dict[str, Any]:
    return {"name": "cares", "typed_config": {"@type": CARES, **fields}}


def test_defaults_are_envoys() -> None:
    assert decoded() == DnsDiscoveryConfig(
        lookup_family=DnsLookupFamily.AUTO,
        refresh_rate_s=5.0,
        jitter_s=0.0,
        failure_back_off=None,
        respect_ttl=False,
        wait_for_warm=True,
        resolver=None,
    )


@pytest.mark.parametrize("type_", ["STRICT_DNS", "LOGICAL_DNS"])
def test_the_dns_fields_of_a_cluster(type_: str) -> None:
    found = decoded(
        type=type_,
        dns_lookup_family="V4_PREFERRED",
        dns_refresh_rate="0.5s",
        dns_jitter="0.25s",
        dns_failure_refresh_rate={"base_interval": "1s", "max_interval": "3s"},
        respect_dns_ttl=True,
        wait_for_warm_on_init=False,
        typed_dns_resolver_config=cares(resolvers=[address(5353, "10.0.0.53"), address(0, "::1")]),
    )
    assert found == DnsDiscoveryConfig(
        lookup_family=DnsLookupFamily.V4_PREFERRED,
        refresh_rate_s=0.5,
        jitter_s=0.25,
        failure_back_off=BackOff(base_s=1.0, max_s=3.0),
        respect_ttl=True,
        wait_for_warm=False,
        resolver=DnsResolver(servers=(SocketAddress("10.0.0.53", 5353), SocketAddress("::1", 53))),
    )


def test_failures_back_off_to_ten_times_their_base_by_default() -> None:
    found = decoded(dns_failure_refresh_rate={"base_interval": "2s"})
    assert found.failure_back_off == BackOff(base_s=2.0, max_s=20.0)


def test_the_resolver_of_the_bootstrap_file() -> None:
    document = bootstrap()
    assert decode_bootstrap(document, warn=pytest.fail).dns_resolver == DnsResolver()
    document["typed_dns_resolver_config"] = cares(
        resolvers=[address(53, "10.0.0.53")],
        use_resolvers_as_fallback=True,
        filter_unroutable_families=True,
        dns_resolver_options={"use_tcp_for_dns_lookups": True, "no_default_search_domain": True},
        query_timeout_seconds=2,
        query_tries=3,
        rotate_nameservers=True,
        udp_max_queries=100,
        edns0_max_payload_size=1232,
        max_udp_channel_duration="60s",
        reinit_channel_on_timeout=True,
    )
    found = decode_bootstrap(document, warn=pytest.fail).dns_resolver
    assert found == DnsResolver(
        servers=(SocketAddress("10.0.0.53", 53),),
        servers_are_fallback=True,
        routable_families_alone=True,
        use_tcp=True,
        search=False,
        rotate=True,
        query_timeout_s=2.0,
        query_tries=3,
    )
    assert found.look_up_limit_s == 6.0
