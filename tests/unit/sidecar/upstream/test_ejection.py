"""What the ejection of a host changes in its cluster, here and in other workers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from sidecar.config.cluster import ClusterConfig, Discovery, OutlierDetection
from sidecar.timers import Timers
from sidecar.upstream.cluster_manager import ClusterManager
from sidecar.upstream.load_balancer.context import PickContext
from sidecar.upstream.outlier_detection import HostEjection
from tests.support.clusters import (
    assignment,
    at_port,
    cluster_manager,
    snapshot,
    static_cluster,
)
from tests.support.fake_network import FakeNetwork

EDS = ClusterConfig(name="eds", discovery=Discovery.EDS, eds_service_name="service")


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
