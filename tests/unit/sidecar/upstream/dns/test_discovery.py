from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sidecar.back_off import BackOff
from sidecar.config.cluster import ClusterConfig, Discovery
from sidecar.config.dns import DnsDiscoveryConfig, DnsLookupFamily, DnsResolver
from sidecar.config.endpoint import Endpoint, LoadAssignment, SocketAddress
from sidecar.errors import NameResolutionError
from sidecar.observability.stats import ClusterStats
from sidecar.upstream.dns.discovery import DnsDiscovery, DnsEnvironment
from sidecar.upstream.dns.question import Answer, Question
from tests.support.names import Names, VirtualTime, turns

STRICT, LOGICAL = Discovery.STRICT_DNS, Discovery.LOGICAL_DNS


class Followed:
    """A cluster whose names are followed; `changes` are its addresses each time that it said so."""

    def __init__(self, time: VirtualTime, names: Names) -> None:
        self.time = time
        self.names = names
        names.now_s = time.time
        self.stats = ClusterStats()
        self.changes: list[list[str]] = []
        self.discovery: DnsDiscovery

    @property
    def addresses(self) -> list[str]:
        return [str(endpoint.address) for endpoint in self.discovery.assignment.endpoints]

    def change(self) -> None:
        self.changes.append(self.addresses)

    def replace(self, config: ClusterConfig) -> DnsDiscovery:
        env = DnsEnvironment(
            resolve=self.names, loop=self.time, sleep=self.time.sleep, uniform=lambda low, high: high
        )
        predecessor = getattr(self, "discovery", None)
        self.discovery = DnsDiscovery(config, self.stats, env, self.change, predecessor)
        self.discovery.start()
        return self.discovery


def cluster(discovery: Discovery, *hosts: str, **dns: Any) -> ClusterConfig:
    endpoints = tuple(Endpoint(address=SocketAddress(host, 80)) for host in hosts)
    return ClusterConfig(
        name="dns",
        discovery=discovery,
        load_assignment=LoadAssignment(cluster_name="dns", endpoints=endpoints),
        dns=DnsDiscoveryConfig(**{"refresh_rate_s": 7.0, **dns}),
    )


@asynccontextmanager
async def following(
    config: ClusterConfig, **answers: list[str] | Exception | None
) -> AsyncIterator[Followed]:
    time = VirtualTime()
    followed = Followed(time, Names(**answers))
    discoveries = [followed.replace(config)]
    await turns()
    try:
        yield followed
    finally:
        discoveries.append(followed.discovery)
        tasks = [task for discovery in discoveries for task in discovery.stop()]
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_strict_dns_makes_every_address_a_host_and_tells_changes_alone() -> None:
    async with following(cluster(STRICT, "a"), a=["10.0.0.2", "10.0.0.1"]) as followed:
        followed.names.say("a", "10.0.0.1", "10.0.0.2")
        await followed.time.pass_s(7.0)
        followed.names.say("a", "10.0.0.1")
        await followed.time.pass_s(6.9)
        assert followed.changes == [["10.0.0.1:80", "10.0.0.2:80"]]
        await followed.time.pass_s(0.1)
        assert followed.changes == [["10.0.0.1:80", "10.0.0.2:80"], ["10.0.0.1:80"]]
        assert (followed.stats.update_attempt, followed.stats.update_success) == (3, 3)


async def test_logical_dns_takes_the_first_address() -> None:
    async with following(cluster(LOGICAL, "a"), a=["10.0.0.2", "10.0.0.1"]) as followed:
        assert followed.changes == [["10.0.0.2:80"]]


@pytest.mark.parametrize("discovery", [STRICT, LOGICAL])
async def test_a_failure_keeps_the_addresses(discovery: Discovery) -> None:
    async with following(cluster(discovery, "a"), a=["10.0.0.1"]) as followed:
        followed.names.fail("a")
        await followed.time.pass_s(7.0)
        assert followed.addresses == ["10.0.0.1:80"]
        assert followed.stats.update_failure == 1
        followed.names.say("a", "10.0.0.2")
        await followed.time.pass_s(7.0)
        assert followed.changes == [["10.0.0.1:80"], ["10.0.0.2:80"]]


async def test_a_removed_name_has_no_hosts_in_strict_dns_and_keeps_its_host_in_logical_dns() -> None:
    for discovery, expected, failures in ((STRICT, [], 0), (LOGICAL, ["10.0.0.1:80"], 1)):
        async with following(cluster(discovery, "a"), a=["10.0.0.1"]) as followed:
            followed.names.say("a")
            await followed.time.pass_s(7.0)
            assert followed.addresses == expected
            assert followed.stats.update_failure == failures


async def test_a_name_that_has_no_answer_yet_holds_up_no_other() -> None:
    async with following(cluster(STRICT, "dead", "good"), dead=None, good=["10.0.0.1"]) as followed:
        assert followed.discovery.warm
        assert followed.addresses == ["10.0.0.1:80"]
        followed.names.say("good", "10.0.0.2")
        await followed.time.pass_s(7.0)
        assert followed.addresses == ["10.0.0.2:80"]
        assert followed.names.asked.count("dead") == 1


async def test_hosts_are_in_the_order_of_the_configuration() -> None:
    config = cluster(STRICT, "b", "10.9.9.9", "a")
    async with following(config, a=["10.0.0.1"], b=None) as followed:
        assert followed.addresses == ["10.9.9.9:80", "10.0.0.1:80"]
        followed.names.say("b", "10.0.0.2")
        await turns()
        assert followed.addresses == ["10.0.0.2:80", "10.9.9.9:80", "10.0.0.1:80"]


async def test_a_cluster_is_warm_when_something_has_an_address_or_everything_was_asked_for() -> None:
    async with following(cluster(STRICT, "a", "b"), a=None, b=[]) as followed:
        assert not followed.discovery.warm  # `a` may still get an address
        followed.names.fail("a")
        await turns()
        assert followed.discovery.warm
    async with following(cluster(STRICT, "10.9.9.9", "a"), a=None) as followed:
        assert followed.discovery.warm
    async with following(cluster(STRICT)) as followed:
        assert followed.discovery.warm


async def test_failures_are_retried_after_a_time_that_grows_up_to_its_bound() -> None:
    back_off = BackOff(base_s=1.0, max_s=3.0)
    async with following(
        cluster(STRICT, "a", failure_back_off=back_off), a=NameResolutionError()
    ) as followed:
        await followed.time.pass_s(20.0)
        assert followed.names.times_s == [0.0, 1.0, 3.0, 6.0, 9.0, 12.0, 15.0, 18.0]
        followed.names.say("a", "10.0.0.1")
        await followed.time.pass_s(1.0)
        followed.names.fail("a")
        await followed.time.pass_s(8.5)
        assert followed.names.times_s[8:] == [21.0, 28.0, 29.0]  # a success resets the count


async def test_the_ttl_is_respected_where_it_is_asked_for_and_known_and_jitter_is_added() -> None:
    for ttl_s, respect_ttl, expected in ((30, True, 30.0), (30, False, 7.0), (0, True, 7.0)):
        config = cluster(STRICT, "a", respect_ttl=respect_ttl, jitter_s=0.5)
        time, names = VirtualTime(), Names()
        names.answers["a"] = Answer(("10.0.0.1",), ttl_s)
        followed = Followed(time, names)
        discovery = followed.replace(config)
        await time.pass_s(expected + 1)
        assert names.times_s == [0.0, expected + 0.5]
        await asyncio.gather(*discovery.stop(), return_exceptions=True)


async def test_the_cluster_says_which_family_and_which_resolver() -> None:
    resolver = DnsResolver(servers=(SocketAddress("127.0.0.1", 5353),))
    config = cluster(STRICT, "a", lookup_family=DnsLookupFamily.V4_ONLY, resolver=resolver)
    async with following(config, a=[]) as followed:
        assert followed.names.questions == [Question("a", DnsLookupFamily.V4_ONLY, resolver)]


async def test_names_that_a_change_does_not_touch_are_not_looked_up_again() -> None:
    async with following(cluster(STRICT, "a"), a=["10.0.0.1"], b=None) as followed:
        await followed.time.pass_s(3.0)
        before = followed.discovery
        after = followed.replace(cluster(STRICT, "a", "b"))
        assert after.warm
        assert followed.addresses == ["10.0.0.1:80"]
        await turns()
        assert followed.names.asked == ["a", "b"]
        await asyncio.gather(*before.stop(), return_exceptions=True)
        await followed.time.pass_s(4.0)  # the next look-up is when it would have been
        assert followed.names.asked == ["a", "b", "a"]


@pytest.mark.parametrize(
    "config",
    [
        cluster(LOGICAL, "a"),
        cluster(STRICT, "a", lookup_family=DnsLookupFamily.V4_ONLY),
        cluster(STRICT, "a", resolver=DnsResolver(use_tcp=True)),
    ],
)
async def test_names_that_a_change_touches_are_looked_up_again(config: ClusterConfig) -> None:
    async with following(cluster(STRICT, "a"), a=["10.0.0.1"]) as followed:
        before = followed.discovery
        followed.names.keep_silent("a")
        assert not followed.replace(config).warm
        await turns()
        assert followed.names.asked == ["a", "a"]
        await asyncio.gather(*before.stop(), return_exceptions=True)
