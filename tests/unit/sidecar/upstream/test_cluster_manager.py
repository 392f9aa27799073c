from __future__ import annotations

from dataclasses import replace

import pytest

from sidecar.config.cluster import Cluster, Discovery, OutlierDetection
from sidecar.errors import NoClusterError
from sidecar.observability.stats import Stats
from tests.support.clusters import assignment, at_port, cluster_manager, snapshot, static_cluster

EDS = Cluster(name="eds", discovery=Discovery.EDS, eds_service_name="service")


async def test_an_unknown_cluster_has_its_own_error() -> None:
    async with cluster_manager() as manager:
        with pytest.raises(NoClusterError, match="'nope'"):
            manager.get("nope")


async def test_what_did_not_change_is_left_alone() -> None:
    first, second = static_cluster(at_port(1), name="a"), static_cluster(at_port(2), name="b")
    async with cluster_manager(first, second) as manager:
        a, b = manager.get("a"), manager.get("b")
        manager.update(snapshot(first, replace(second, connect_timeout_s=1.0)))
        assert manager.get("a") is a
        assert manager.get("b") is not b
        assert {cluster.name for cluster in manager} == {"a", "b"}


async def test_a_removed_cluster_is_gone_with_its_counters() -> None:
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


async def test_hosts_that_stay_keep_what_is_known_of_them() -> None:
    config = replace(EDS, outlier_detection=OutlierDetection(consecutive_5xx=1, max_ejection_percent=50))
    async with cluster_manager() as manager:
        manager.update(snapshot(config, service=assignment("service", at_port(1), at_port(2))))
        cluster = manager.get("eds")
        staying, leaving = cluster.hosts.values()
        cluster.responded(staying, 500, 0.1)
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
            cluster.failed(host, 503)
        assert cluster.stats.outlier_detection__ejections_active == 0
        ill = next(iter(cluster.hosts.values()))
        cluster.responded(ill, 500, 0.1)
        assert ill.ejected


async def test_a_replaced_cluster_ejects_nobody_in_the_name_of_its_successor() -> None:
    config = static_cluster(
        at_port(1), at_port(2), outlier_detection=OutlierDetection(consecutive_5xx=1, max_ejection_percent=50)
    )
    async with cluster_manager(config) as manager:
        replaced = manager.get("up")
        ejected, other = replaced.hosts.values()
        replaced.failed(ejected, 503)
        manager.update(snapshot(replace(config, connect_timeout_s=1.0)))
        stats = manager.get("up").stats
        replaced.failed(other, 503)
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
            cluster.responded(ill, 503, 0.1)
        assert ill.ejected
        assert ill not in {cluster.pick() for _ in range(30)}


async def test_a_host_that_was_tried_is_avoided_while_there_is_another() -> None:
    async with cluster_manager(static_cluster(at_port(1), at_port(2))) as manager:
        cluster = manager.get("up")
        tried = cluster.pick()
        assert tried is not None
        assert all(cluster.pick(tried=[tried], attempts=5) is not tried for _ in range(20))


async def test_counters_tell_how_requests_went() -> None:
    async with cluster_manager(static_cluster(at_port(1))) as manager:
        cluster = manager.get("up")
        (host,) = cluster.hosts.values()
        for status in (200, 301, 404, 503):
            cluster.begin_request(host)
            assert cluster.stats.upstream_rq_active == host.stats.rq_active == cluster.breaker.requests == 1
            cluster.responded(host, status, 0.1)
            cluster.end_request(host)
        stats = cluster.stats
        assert (stats.upstream_rq_2xx, stats.upstream_rq_3xx) == (1, 1)
        assert (stats.upstream_rq_4xx, stats.upstream_rq_5xx) == (1, 1)
        assert (host.stats.rq_total, host.stats.rq_success, host.stats.rq_error) == (4, 3, 1)
        assert stats.upstream_rq_active == host.stats.rq_active == cluster.breaker.requests == 0
