from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from sidecar.config.cluster import ClusterConfig, Discovery, OutlierDetection
from sidecar.config.endpoint import Endpoint, HealthStatus
from sidecar.errors import NoClusterError
from sidecar.observability.stats import Stats
from sidecar.upstream.load_balancer.context import PickContext
from tests.support.clusters import (
    assignment,
    at_port,
    cluster_manager,
    snapshot,
    static_cluster,
)
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
