from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from sidecar.config.cluster import Cluster, Discovery, DnsLookupFamily
from sidecar.config.endpoint import Endpoint, LoadAssignment, SocketAddress
from sidecar.observability.stats import ClusterStats
from sidecar.upstream.dns import DnsDiscovery, of_family


class Names:
    """A name server whose answers the test changes, one for each round."""

    def __init__(self, *rounds: list[str] | OSError) -> None:
        self.rounds = list(rounds)
        self.reports: list[list[str]] = []
        self.stats = ClusterStats()
        self.slept_s: list[float] = []

    async def resolve(self, name: str) -> Sequence[str]:
        answer = self.rounds.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    def report(self, assignment: LoadAssignment) -> None:
        self.reports.append([str(endpoint.address) for endpoint in assignment.endpoints])

    async def sleep(self, delay_s: float) -> None:
        self.slept_s.append(delay_s)
        if not self.rounds:
            raise asyncio.CancelledError

    async def follow(self, discovery: Discovery, *names: str) -> list[list[str]]:
        endpoints = tuple(Endpoint(address=SocketAddress(name, 80)) for name in names)
        config = Cluster(
            name="dns",
            discovery=discovery,
            load_assignment=LoadAssignment(cluster_name="dns", endpoints=endpoints),
            dns_refresh_rate_s=7.0,
            dns_lookup_family=DnsLookupFamily.ALL,
        )
        with pytest.raises(asyncio.CancelledError):
            await DnsDiscovery(config, self.stats, self.resolve, self.report, sleep=self.sleep).run()
        return self.reports


async def test_strict_dns_makes_every_address_a_host_and_reports_changes_alone() -> None:
    names = Names(["10.0.0.2", "10.0.0.1"], ["10.0.0.1", "10.0.0.2"], ["10.0.0.1"])
    reports = await names.follow(Discovery.STRICT_DNS, "a")
    assert reports == [["10.0.0.1:80", "10.0.0.2:80"], ["10.0.0.1:80"]]
    assert names.slept_s == [7.0, 7.0, 7.0]


async def test_logical_dns_takes_the_first_address() -> None:
    names = Names(["10.0.0.2", "10.0.0.1"])
    assert await names.follow(Discovery.LOGICAL_DNS, "a") == [["10.0.0.2:80"]]


async def test_a_name_that_cannot_be_resolved_keeps_its_addresses() -> None:
    names = Names(["10.0.0.1"], OSError("timeout"), ["10.0.0.2"])
    assert await names.follow(Discovery.STRICT_DNS, "a") == [["10.0.0.1:80"], ["10.0.0.2:80"]]
    assert names.stats.update_failure == 1


async def test_addresses_need_no_name_server() -> None:
    names = Names(["10.0.0.1"])
    assert await names.follow(Discovery.STRICT_DNS, "10.9.9.9", "a") == [["10.9.9.9:80", "10.0.0.1:80"]]


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        (DnsLookupFamily.AUTO, ["::1"]),
        (DnsLookupFamily.V6_ONLY, ["::1"]),
        (DnsLookupFamily.V4_ONLY, ["127.0.0.1"]),
        (DnsLookupFamily.V4_PREFERRED, ["127.0.0.1"]),
        (DnsLookupFamily.ALL, ["::1", "127.0.0.1"]),
    ],
)
def test_lookup_families(family: DnsLookupFamily, expected: list[str]) -> None:
    assert of_family(["::1", "127.0.0.1"], family) == expected


def test_a_family_that_is_merely_preferred_gives_way() -> None:
    assert of_family(["127.0.0.1"], DnsLookupFamily.AUTO) == ["127.0.0.1"]
    assert of_family(["::1"], DnsLookupFamily.V4_PREFERRED) == ["::1"]
    assert of_family(["::1"], DnsLookupFamily.V4_ONLY) == []
