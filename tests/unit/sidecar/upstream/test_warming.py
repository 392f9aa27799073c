"""A cluster is used once its names are resolved."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from sidecar.config.cluster import ClusterConfig, Discovery
from sidecar.config.dns import DnsDiscoveryConfig
from sidecar.observability.stats import Stats
from sidecar.upstream.cluster_manager import ClusterManager
from tests.support.clusters import (
    at_port,
    cluster_manager,
    dns_cluster,
    snapshot,
    static_cluster,
)
from tests.support.names import Names, turns

KINDS = [Discovery.STRICT_DNS, Discovery.LOGICAL_DNS]


def addresses(manager: ClusterManager, name: str = "up") -> list[str]:
    return [address.host for address in manager.get(name).hosts]


def warm(manager: ClusterManager, config: ClusterConfig) -> bool:
    return not manager.resolve_first({config.name: config})


@pytest.mark.parametrize("kind", KINDS)
async def test_a_cluster_whose_names_are_resolved_has_its_hosts_from_the_start(kind: Discovery) -> None:
    names, warmed = Names(a=None), []
    config = dns_cluster("a", kind=kind)
    async with cluster_manager(resolve=names, on_warm=lambda: warmed.append(1)) as manager:
        assert not warm(manager, config)
        await turns()
        assert not warm(manager, config)
        assert not warmed
        names.say("a", "10.0.0.1")
        await turns()
        assert warmed
        assert warm(manager, config)
        assert len(manager) == 0
        manager.update(snapshot(config))
        assert addresses(manager) == ["10.0.0.1"]
        assert names.asked == ["a"]


async def test_a_cluster_without_names_is_warm_at_once() -> None:
    async with cluster_manager(resolve=Names()) as manager:
        assert warm(manager, dns_cluster("10.0.0.1", name="addresses"))
        assert warm(manager, dns_cluster(name="empty"))
        assert warm(manager, static_cluster(at_port(1)))


async def test_a_name_that_cannot_be_resolved_ends_the_wait() -> None:
    names = Names(a=None)
    config = dns_cluster("a")
    async with cluster_manager(resolve=names) as manager:
        assert not warm(manager, config)
        await turns()
        names.fail("a")
        await turns()
        assert warm(manager, config)
        manager.update(snapshot(config))
        assert addresses(manager) == []
        assert manager.get("up").stats.update_failure == 1


async def test_a_cluster_may_ask_not_to_be_waited_for() -> None:
    config = dns_cluster("a", dns=DnsDiscoveryConfig(wait_for_warm=False))
    names = Names(a=None)
    async with cluster_manager(resolve=names) as manager:
        assert warm(manager, config)
        manager.update(snapshot(config))
        await turns()
        names.say("a", "10.0.0.1")
        await turns()
        assert addresses(manager) == ["10.0.0.1"]
        assert names.asked == ["a"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_change_that_does_not_concern_names_has_the_hosts_at_once(kind: Discovery) -> None:
    names = Names(a=["10.0.0.1"])
    config = dns_cluster("a", kind=kind)
    async with cluster_manager(config, resolve=names) as manager:
        await turns()
        names.keep_silent("a")
        changed = replace(config, connect_timeout_s=1.0)
        assert warm(manager, changed)
        manager.update(snapshot(changed))
        assert manager.get("up").config is changed
        assert addresses(manager) == ["10.0.0.1"]
        await turns()
        assert names.asked == ["a"]


async def test_the_old_cluster_serves_until_the_names_of_the_new_one_are_resolved() -> None:
    names = Names(a=["10.0.0.1"], b=None)
    old, new = dns_cluster("a"), dns_cluster("b")
    async with cluster_manager(old, resolve=names) as manager:
        await turns()
        serving = manager.get("up")
        assert not warm(manager, new)
        await turns()
        assert manager.get("up") is serving
        assert serving.stats.membership_total == serving.stats.membership_healthy == 1
        names.say("b", "10.0.0.2")
        await turns()
        assert addresses(manager) == ["10.0.0.1"]
        assert warm(manager, new)
        manager.update(snapshot(new))
        assert addresses(manager) == ["10.0.0.2"]


async def test_a_change_of_a_cluster_that_is_warm_and_does_not_serve_yet_asks_for_no_name_again() -> None:
    """Else frequent changes could keep a slow name from ever being served."""
    names = Names(a=["10.0.0.1"], b=["10.0.0.2"])
    second = dns_cluster("b")
    async with cluster_manager(dns_cluster("a"), resolve=names) as manager:
        await turns()
        assert not warm(manager, second)
        await turns()
        third = replace(second, connect_timeout_s=1.0)
        assert warm(manager, third)
        manager.update(snapshot(third))
        assert addresses(manager) == ["10.0.0.2"]
        assert names.asked == ["a", "b"]


async def test_a_cluster_that_is_replaced_while_it_warms_is_forgotten() -> None:
    names, stats = Names(a=None, b=None, c=["10.0.0.3"]), Stats()
    async with cluster_manager(resolve=names, stats=stats) as manager:
        assert not warm(manager, dns_cluster("a"))
        await turns()
        second = dns_cluster("b")
        assert not warm(manager, second)
        await turns()
        names.say("a", "10.0.0.1")
        names.say("b", "10.0.0.2")
        await turns()
        assert warm(manager, second)
        manager.update(snapshot(second))
        assert addresses(manager) == ["10.0.0.2"]
        assert manager.resolve_first({"gone": dns_cluster("a", name="gone")}) == {"gone"}
        assert manager.resolve_first({}) == set()
        assert [prefix for prefix, _ in stats.sets()] == ["cluster.up"]


async def test_names_are_followed_after_a_change_and_no_more_after_the_end() -> None:
    dns = DnsDiscoveryConfig(refresh_rate_s=0.001)
    names = Names(a=["10.0.0.1"])
    config = dns_cluster("a", dns=dns)
    async with cluster_manager(config, resolve=names) as manager:
        await turns()
        manager.update(snapshot(replace(config, connect_timeout_s=1.0)))
        names.say("a", "10.0.0.2")
        async with asyncio.timeout(5):
            while addresses(manager) != ["10.0.0.2"]:
                await asyncio.sleep(0.001)
        manager.update(snapshot())
        await turns()
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("follow ")]
