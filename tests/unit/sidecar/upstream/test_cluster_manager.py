from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from sidecar.config.cluster import ClusterConfig, Discovery, OutlierDetection
from sidecar.config.dns import DnsDiscoveryConfig
from sidecar.config.endpoint import Endpoint, HealthStatus
from sidecar.errors import NoClusterError
from sidecar.observability.stats import Stats
from sidecar.timers import Timers
from sidecar.upstream.cluster_manager import ClusterManager
from sidecar.upstream.load_balancer.context import PickContext
from sidecar.upstream.outlier_detection import HostEjection
from tests.support.clusters import (
    assignment,
    at_port,
    cluster_manager,
    dns_cluster,
    snapshot,
    static_cluster,
)
from tests.support.fake_network import FakeNetwork
from tests.support.names import Names, turns
from tests.support.requests import make_request

EDS = ClusterConfig(name="eds", discovery=Discovery.EDS, eds_service_name="service")


async def test_an_unknown_cluster_has_its_own_error() -> None:
    async with cluster_manager() as manager:
        with pytest.raises(NoClusterError, match="'nope'"):
            manager.get("nope")


async def test_a_cluster_that_did_not_change_remains() -> None:
    first, second = static_cluster(at_port(1), name="a"), static_cluster(at_port(2), name="b")
    async with cluster_manager(first, second) as manager:
        a, b = manager.get("a"), manager.get("b")
        manager.update(snapshot(first, replace(second, connect_timeout_s=1.0)))
        assert manager.get("a") is a
        assert manager.get("b") is not b
        assert {cluster.name for cluster in manager} == {"a", "b"}


async def test_a_removed_cluster_has_no_counters() -> None:
    stats = Stats()
    async with cluster_manager(static_cluster(at_port(1), name="a"), stats=stats) as manager:
        manager.update(snapshot())
        assert len(manager) == 0
        assert [prefix for prefix, _ in stats.sets()] == []


async def test_an_alternative_name_is_that_of_the_counters() -> None:
    stats = Stats()
    async with cluster_manager(static_cluster(at_port(1), alt_stat_name="b"), stats=stats):
        assert [prefix for prefix, _ in stats.sets()] == ["cluster.b"]


async def test_endpoints_follow_the_name_that_the_cluster_gives() -> None:
    async with cluster_manager() as manager:
        manager.update(snapshot(EDS))
        assert not manager.get("eds").hosts
        manager.update(snapshot(EDS, service=assignment("service", at_port(1), at_port(2))))
        assert len(manager.get("eds").hosts) == 2
        assert manager.get("eds").stats.membership_total == 2


async def test_hosts_that_remain_keep_their_statistics_and_ejections() -> None:
    config = replace(EDS, outlier_detection=OutlierDetection(consecutive_5xx=1, max_ejection_percent=50))
    async with cluster_manager() as manager:
        manager.update(snapshot(config, service=assignment("service", at_port(1), at_port(2))))
        cluster = manager.get("eds")
        staying, leaving = cluster.hosts.values()
        cluster.host_answered_error(staying, 500)
        assert staying.health_flags == "/failed_outlier_check"
        manager.update(snapshot(config, service=assignment("service", at_port(3), at_port(1, weight=5))))
        assert manager.get("eds") is cluster
        assert cluster.hosts[staying.address] is staying
        assert leaving.address not in cluster.hosts
        assert (staying.weight, staying.ejected, staying.stats.rq_error) == (5, True, 1)
        assert cluster.stats.membership_healthy == 1


async def test_a_host_that_left_is_not_ejected_by_the_last_requests_that_it_fails() -> None:
    config = replace(EDS, outlier_detection=OutlierDetection(consecutive_5xx=1, max_ejection_percent=50))
    async with cluster_manager() as manager:
        manager.update(snapshot(config, service=assignment("service", at_port(1), at_port(2))))
        cluster = manager.get("eds")
        leaving = tuple(cluster.hosts.values())
        manager.update(snapshot(config, service=assignment("service", at_port(3), at_port(4))))
        for host in leaving:
            cluster.host_failed(host, 503)
        assert cluster.stats.outlier_detection__ejections_active == 0
        ill = next(iter(cluster.hosts.values()))
        cluster.host_answered_error(ill, 500)
        assert ill.ejected


async def test_a_replaced_cluster_does_not_count_ejections_of_its_successor() -> None:
    config = static_cluster(
        at_port(1), at_port(2), outlier_detection=OutlierDetection(consecutive_5xx=1, max_ejection_percent=50)
    )
    async with cluster_manager(config) as manager:
        replaced = manager.get("up")
        ejected, other = replaced.hosts.values()
        replaced.host_failed(ejected, 503)
        manager.update(snapshot(replace(config, connect_timeout_s=1.0)))
        stats = manager.get("up").stats
        replaced.host_failed(other, 503)
        assert stats is replaced.stats
        assert (stats.outlier_detection__ejections_active, stats.membership_healthy) == (0, 2)


async def test_an_ejected_host_gets_no_more_requests() -> None:
    config = static_cluster(
        *map(at_port, (1, 2, 3)),
        outlier_detection=OutlierDetection(consecutive_5xx=2, max_ejection_percent=50),
    )
    async with cluster_manager(config) as manager:
        cluster = manager.get("up")
        ill = next(iter(cluster.hosts.values()))
        for _ in range(2):
            cluster.host_answered_error(ill, 503)
        assert ill.ejected
        assert ill not in {cluster.pick(PickContext()) for _ in range(30)}


async def test_the_other_hosts_go_on_in_turn_when_one_is_ejected_and_comes_back() -> None:
    config = static_cluster(
        *map(at_port, range(1, 7)),
        outlier_detection=OutlierDetection(consecutive_5xx=1, max_ejection_percent=50, interval_s=10.0),
    )
    network = FakeNetwork()
    async with cluster_manager(config, loop=network, timers=Timers(network.clock)) as manager:
        cluster = manager.get("up")
        hosts = list(cluster.hosts.values())

        def turns_of(count: int) -> list[int]:
            return [hosts.index(host) for _ in range(count) if (host := cluster.pick(PickContext()))]

        while turns_of(1) != [1]:
            pass
        cluster.host_answered_error(hosts[3], 500)
        assert turns_of(5) == [2, 4, 5, 0, 1]
        assert cluster.stats.membership_healthy == 5
        network.clock.advance(41)  # the ejection lasts for 30 s, and is looked at every 10 s
        assert turns_of(4) == [2, 3, 4, 5]
        assert cluster.stats.membership_healthy == 6


@asynccontextmanager
async def two_workers(*clusters: ClusterConfig, network: FakeNetwork) -> AsyncIterator[list[ClusterManager]]:
    """They tell each other of ejections."""
    managers: list[ClusterManager] = []

    def tell(ejection: HostEjection) -> None:
        for manager in managers:
            manager.follow_ejection(ejection)

    options = {"loop": network, "on_ejection": tell}
    async with (
        cluster_manager(*clusters, timers=Timers(network.clock), **options) as one,
        cluster_manager(*clusters, timers=Timers(network.clock), **options) as other,
    ):
        managers += [one, other]
        yield managers


async def test_workers_follow_each_others_ejections() -> None:
    outliers = OutlierDetection(consecutive_5xx=1, max_ejection_percent=50, interval_s=10.0)
    config = static_cluster(*map(at_port, (1, 2, 3)), outlier_detection=outliers)
    network = FakeNetwork()
    async with two_workers(config, network=network) as managers:
        deciding, following = (manager.get("up") for manager in managers)
        ill, theirs = (next(iter(cluster.hosts.values())) for cluster in (deciding, following))
        deciding.host_answered_error(ill, 500)
        assert theirs.ejected
        assert theirs not in {following.pick(PickContext()) for _ in range(30)}
        stats = following.stats
        assert (stats.membership_healthy, stats.outlier_detection__ejections_active) == (2, 1)
        assert stats.outlier_detection__ejections_enforced_total == 0, "the worker that decides counts it"
        network.clock.advance(31)
        assert (ill.ejected, theirs.ejected) == (False, False)
        assert stats.outlier_detection__ejections_active == 0
        deciding.host_answered_error(ill, 500)
        network.clock.advance(41)
        assert (ill.ejected, theirs.ejected) == (True, True), "the second ejection is longer in both"


async def test_a_new_worker_learns_of_the_ejections_and_of_their_end() -> None:
    outliers = OutlierDetection(consecutive_5xx=1, max_ejection_percent=50, interval_s=10.0)
    config = static_cluster(*map(at_port, (1, 2, 3)), outlier_detection=outliers)
    network = FakeNetwork()
    options = {"loop": network, "timers": Timers(network.clock)}
    async with cluster_manager(config, **options) as old, cluster_manager(**options) as new:
        running = old.get("up")
        running.host_answered_error(next(iter(running.hosts.values())), 500)
        network.clock.advance(25)
        for ejection in running.ejections():
            new.follow_ejection(ejection)
        new.update(snapshot(config))
        cluster = new.get("up")
        assert [host.ejected for host in cluster.hosts.values()] == [True, False, False]
        network.clock.advance(10)
        assert not any(host.ejected for host in cluster.hosts.values())


async def test_an_ejection_of_a_host_that_is_gone_changes_nothing() -> None:
    outliers = OutlierDetection(consecutive_5xx=1, max_ejection_percent=50)
    gone = HostEjection(cluster="up", address=at_port(9).address, since_s=1.0, multiplier=1)
    async with cluster_manager(static_cluster(at_port(1), outlier_detection=outliers)) as manager:
        manager.follow_ejection(gone)
        manager.follow_ejection(replace(gone, cluster="gone"))
        manager.update(snapshot(static_cluster(at_port(1), outlier_detection=outliers)))
        assert manager.get("up").stats.membership_healthy == 1


async def test_an_update_that_changes_the_health_of_hosts_only_lets_the_others_go_on_in_turn() -> None:
    endpoints = [at_port(port) for port in range(1, 7)]
    async with cluster_manager() as manager:
        manager.update(snapshot(EDS, service=assignment("service", *endpoints)))
        cluster = manager.get("eds")
        hosts = list(cluster.hosts.values())

        def turns_of(count: int) -> list[int]:
            return [hosts.index(host) for _ in range(count) if (host := cluster.pick(PickContext()))]

        while turns_of(1) != [1]:
            pass
        endpoints[3] = at_port(4, health=HealthStatus.DRAINING)
        manager.update(snapshot(EDS, service=assignment("service", *endpoints)))
        assert turns_of(5) == [2, 4, 5, 0, 1]
        assert (cluster.stats.membership_healthy, cluster.stats.membership_total) == (5, 6)
        endpoints[3] = at_port(4)
        manager.update(snapshot(EDS, service=assignment("service", *endpoints)))
        assert turns_of(3) == [2, 3, 4]
        assert cluster.stats.membership_healthy == 6


@pytest.mark.parametrize(
    "changed",
    [
        [at_port(1), at_port(2)],
        [at_port(1), at_port(2), at_port(3, weight=1000)],
        [at_port(1, priority=1), at_port(2, priority=1), at_port(3)],
    ],
    ids=["a host has left", "a weight", "priorities"],
)
async def test_an_update_that_changes_more_than_health_changes_the_balance(changed: list[Endpoint]) -> None:
    async with cluster_manager() as manager:
        ports = map(at_port, (1, 2, 3))
        manager.update(snapshot(EDS, service=assignment("service", *ports)))
        manager.update(snapshot(EDS, service=assignment("service", *changed)))
        cluster = manager.get("eds")
        picked = [cluster.pick(PickContext()) for _ in range(100)]
        shares = Counter(host.address.port for host in picked if host is not None)
        assert len(changed) < 3 or shares[3] >= 98
        assert len(changed) == 3 or shares == {1: 50, 2: 50}


async def test_a_host_that_was_tried_is_avoided_while_there_is_another() -> None:
    async with cluster_manager(static_cluster(at_port(1), at_port(2))) as manager:
        cluster, context = manager.get("up"), PickContext(max_repicks=5)
        tried = cluster.begin_attempt(context, make_request().info).host
        assert all(cluster.pick(context) is not tried for _ in range(20))


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
