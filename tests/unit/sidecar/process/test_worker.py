from __future__ import annotations

import gc
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from sidecar.config.endpoint import SocketAddress
from sidecar.config.listener import FilterChain, HttpConnectionManager, Listener, TcpProxy
from sidecar.config.route import WeightedCluster
from sidecar.errors import ConfigError
from sidecar.listener.manager import ListenerState
from sidecar.observability.series import SWEEP_INTERVAL_S
from sidecar.process.worker import Worker, WorkerConfig
from sidecar.timers import Timers
from sidecar.upstream.cluster import Cluster
from sidecar.upstream.host import Host
from sidecar.upstream.load_balancer.host_set import HostSet
from tests.support.clusters import snapshot, static_cluster
from tests.support.identities import MESH_SERVER, TestTrustDomain
from tests.support.routes import configuration, prefix, route, virtual_host
from tests.support.upstreams import endpoint
from tests.support.virtual_time import VirtualTime

PLAIN = TcpProxy(stat_prefix="db", clusters=(WeightedCluster(name="up"),))


def listener(chain: FilterChain, **options: object) -> Listener:
    return Listener(
        name="l",
        address=SocketAddress("127.0.0.1", 1),
        filter_chains=(chain,),
        bind_to_port=False,
        **options,
    )


@asynccontextmanager
async def worker(time: VirtualTime | None = None) -> AsyncIterator[Worker]:
    made = Worker(WorkerConfig(), timers=Timers(time or VirtualTime()), on_warm=lambda: None)
    try:
        yield made
    finally:
        await made.close()


async def prefixes(made: Worker) -> set[str]:
    return {prefix for prefix, _ in (await made.stats()).counters}


async def test_counters_of_removed_listeners_are_forgotten() -> None:
    time = VirtualTime()
    clusters = snapshot(static_cluster())
    async with worker(time) as made:
        assert not await made.apply(
            replace(clusters, listeners={"l": listener(FilterChain(name="c", filter=PLAIN))})
        )
        time.advance(SWEEP_INTERVAL_S)
        assert await prefixes(made) == {"cluster.up", "tcp.db", "listener.127.0.0.1_1"}
        await made.apply(clusters)
        time.advance(SWEEP_INTERVAL_S)
        assert await prefixes(made) == {"cluster.up"}


async def test_listener_with_mesh_tls_waits_for_the_certificate() -> None:
    config = listener(FilterChain(name="c", filter=PLAIN, tls=MESH_SERVER))
    async with worker() as made:
        assert not await made.apply(replace(snapshot(static_cluster()), listeners={"l": config}))
        assert made.warming_listeners == {"l"}
        assert not await made.use_svid(TestTrustDomain().svid().pem())
        assert [status.state for status in await made.listeners()] == [ListenerState.ACTIVE]


async def test_snapshot_that_is_refused_changes_nothing() -> None:
    host = virtual_host(route(prefix()), per_filter_config={"x": "of no filter"})
    async with worker() as made:
        await made.apply(snapshot(static_cluster(name="old")))
        with pytest.raises(ConfigError, match="typed_per_filter_config"):
            await made.apply(
                replace(snapshot(static_cluster(name="new")), routes={"9080": configuration(host)})
            )
        assert [status.name for status in await made.clusters(["new", "old"])] == ["old"]


async def test_routes_that_arrive_later_bring_their_listener_into_service() -> None:
    http = HttpConnectionManager(stat_prefix="in", rds_name="9080")
    first = replace(snapshot(), listeners={"l": listener(FilterChain(name="c", filter=http))})
    async with worker() as made:
        await made.apply(first)
        assert made.warming_listeners == {"l"}
        await made.apply(replace(first, routes={"9080": configuration(virtual_host(route(prefix())))}))
        assert made.warming_listeners == frozenset()


async def test_removed_clusters_are_freed_without_the_garbage_collector() -> None:
    """A large configuration is exempt from it."""
    many = snapshot(
        *(
            static_cluster(endpoint(1), endpoint(2, priority=1), endpoint(3), name=f"c{number}")
            for number in range(20)
        )
    )
    gc.collect()
    before = objects_in_memory()
    async with worker() as made:
        await made.apply(many)
        assert objects_in_memory()[Host] - before[Host] == 60
        gc.collect()
        gc.disable()
        try:
            await made.apply(snapshot())
            # The last one is kept until another one is removed.
            assert objects_in_memory() - before == Counter({Cluster: 1, HostSet: 1, Host: 3})
        finally:
            gc.enable()


def objects_in_memory() -> Counter[type]:
    return Counter(type(each) for each in gc.get_objects() if type(each) in (Cluster, HostSet, Host))
