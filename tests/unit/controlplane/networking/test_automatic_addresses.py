from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from ipaddress import ip_address, ip_network

import pytest

from controlplane.model.service import Protocol, Service
from controlplane.networking.automatic_addresses import SLOTS, AutomaticAddress, assign, automatic_addresses
from controlplane.networking.build_cache import BuildCache
from tests.support.meshes import external_service, port

TCP = port(5432, Protocol.TCP)
HOSTS = [f"db{number}.example.com" for number in range(3000)]


def entry(host: str, **fields: object) -> Service:
    return external_service(host, TCP, automatic_address=True, **fields)


def addresses(*services: Service) -> Mapping[str, AutomaticAddress]:
    return automatic_addresses(BuildCache(), {each.hostname: each for each in services}, {})


def test_addresses_are_in_istios_ranges_and_distinct() -> None:
    found = addresses(*map(entry, HOSTS)).values()
    assert len({each.v4 for each in found}) == len({each.v6 for each in found}) == len(HOSTS)
    for each in found:
        assert ip_address(each.v4) in ip_network("240.240.0.0/16")
        assert int(each.v4.rpartition(".")[2]) not in (0, 255)
        assert ip_address(each.v6) in ip_network("2001:2::/48")


def test_the_first_and_the_last_slot_are_addresses() -> None:
    # The two hosts are the only candidates, so a table of two slots has both.
    assert sorted(assign(["a", "b"], slots=2).values()) == [0, 1]
    assert max(assign(HOSTS).values()) < SLOTS == 65024


def test_replicas_agree_whatever_the_order_of_the_resources() -> None:
    shuffled = list(map(entry, HOSTS))
    random.Random(1).shuffle(shuffled)
    assert addresses(*shuffled) == addresses(*map(entry, HOSTS))


def test_the_addresses_of_a_release_stay() -> None:
    """A change would give every connection of an application to a host another address."""
    assert addresses(entry("api.example.com"))["api.example.com"] == AutomaticAddress(
        "240.240.10.168", "2001:2::f0f0:aa8"
    )


def test_a_new_host_never_takes_the_address_of_an_older_one() -> None:
    old = [entry(host, creation="2026-01-01T00:00:00Z") for host in HOSTS]
    before = addresses(*old)
    new = [entry(f"a{number}.example.com", creation="2026-01-02T00:00:00Z") for number in range(3000)]
    after = addresses(*new, *old)
    assert {host: after[host] for host in HOSTS} == before


def test_a_removal_moves_only_hosts_that_wanted_the_slot() -> None:
    before, after = addresses(*map(entry, HOSTS)), addresses(*map(entry, HOSTS[1:]))
    assert sum(before[host] != after[host] for host in HOSTS[1:]) <= 2


def test_the_older_host_keeps_a_slot_that_both_choose() -> None:
    assert assign(["a", "b", "c"], slots=3).keys() == {"a", "b", "c"}
    for first in "abc":
        alone = assign([first], slots=3)
        assert assign([first, *"abc".replace(first, "")], slots=3)[first] == alone[first]


def test_two_owners_of_a_host_share_its_address() -> None:
    first, other = entry("a.example.com"), entry("a.example.com", namespace="other")
    found = automatic_addresses(BuildCache(), {first.hostname: first}, {first.hostname: (other,)})
    assert found == addresses(first)


def test_a_service_with_addresses_gets_none() -> None:
    assert not addresses(external_service("a.example.com", TCP, addresses=("10.0.0.1",)))


def test_hosts_beyond_the_range_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = addresses(*(entry(f"{number}.example.com") for number in range(SLOTS + 2)))
    assert len(found) == SLOTS
    assert "2 hosts of ServiceEntries have no automatic address" in caplog.text
