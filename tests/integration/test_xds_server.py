"""The ADS server over real sockets, with hand-written clients."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator

import pytest

from controlplane.model.snapshot import MeshSnapshot, SnapshotChange
from controlplane.xds.status import SyncState
from protos.type_urls import CLUSTER, ENDPOINT, LISTENER, ROUTE
from tests.support.ads_client import DeltaClient, SotwClient, node_of
from tests.support.bookinfo_mesh import bookinfo
from tests.support.metrics import MOVED_IN, moved
from tests.support.xds_exchange import names_in, outline
from tests.support.xds_serving import RATINGS, REVIEWS, Mesh, served_mesh, serving, until
from tests.support.xds_world import FULL, FakeGenerator, cluster, endpoints, listener, route


@pytest.fixture
async def mesh() -> AsyncIterator[Mesh]:
    async with served_mesh() as made:
        yield made


async def test_an_envoy_gets_its_configuration_and_later_changes(mesh: Mesh) -> None:
    async with SotwClient(mesh.channel, node_of("envoy")) as envoy:
        await envoy.subscribe(CLUSTER)
        assert names_in(await envoy.accept(CLUSTER)) == {REVIEWS, RATINGS}
        await envoy.subscribe(ENDPOINT, REVIEWS, RATINGS)
        assert names_in(await envoy.accept(ENDPOINT)) == {REVIEWS, RATINGS}
        await envoy.subscribe(LISTENER)
        await envoy.accept(LISTENER)
        await envoy.subscribe(ROUTE, "r")
        await envoy.accept(ROUTE)
        await until(lambda: all(each.state is SyncState.SYNCED for each in mesh.status.types.values()))

        mesh.generator.put(endpoints(REVIEWS, 1), endpoints(RATINGS, 1))
        mesh.endpoints_changed("reviews")
        assert names_in(await envoy.accept(ENDPOINT)) == {REVIEWS}

        mesh.generator.put(cluster(REVIEWS, 1), route("r", 1))
        mesh.publish()
        await envoy.accept(CLUSTER)
        assert names_in(await envoy.accept(ENDPOINT)) == {REVIEWS, RATINGS}
        await envoy.accept(ROUTE)
        assert mesh.metric("pilot_xds_pushes_total", type="cds") == 2
        assert mesh.metric("pilot_xds_pushes_total", type="eds") == 3
        assert mesh.metric("pilot_xds_pushes_total", type="lds") == 1


async def test_a_sidecar_gets_only_changes(mesh: Mesh) -> None:
    async with DeltaClient(mesh.channel, node_of("sidecar")) as sidecar:
        await sidecar.follow(2)
        mesh.generator.put(endpoints(RATINGS, 1))
        mesh.endpoints_changed("ratings")
        assert outline([await sidecar.accept(ENDPOINT)]) == [("eds", {RATINGS})]
        mesh.generator.remove(CLUSTER, REVIEWS)
        mesh.generator.remove(ENDPOINT, REVIEWS)
        mesh.publish()
        assert outline([await sidecar.accept(CLUSTER)]) == [("cds", {f"-{REVIEWS}"})]
        assert outline([await sidecar.accept(ENDPOINT)]) == [("eds", {f"-{REVIEWS}"})]


async def test_routes_wait_for_the_clusters_they_need(mesh: Mesh) -> None:
    async with DeltaClient(mesh.channel, node_of("sidecar")) as sidecar:
        await sidecar.follow(2)
        await sidecar.subscribe(ROUTE, "r")
        await sidecar.accept(ROUTE)
        mesh.generator.put(cluster("new"), endpoints("new"), route("r", 1))
        mesh.publish()
        clusters = await sidecar.receive(CLUSTER)
        await sidecar.subscribe(ENDPOINT, "new")
        await sidecar.accept(ENDPOINT)
        assert mesh.metric("pilot_xds_pushes_total", type="rds") == 1
        await sidecar.acknowledge(clusters)
        assert outline([await sidecar.accept(ROUTE)]) == [("rds", {"r"})]


async def test_a_rejection_is_reported_with_its_reason_and_the_version_in_force(mesh: Mesh) -> None:
    async with DeltaClient(mesh.channel, node_of("sidecar")) as sidecar:
        await sidecar.subscribe(LISTENER)
        good = await sidecar.accept(LISTENER)
        await until(lambda: mesh.status.types["lds"].state is SyncState.SYNCED)
        mesh.generator.put(listener("l", 1))
        mesh.publish()
        bad = await sidecar.receive(LISTENER)
        await sidecar.acknowledge(bad, error="l: port 80 is taken")
        await until(lambda: mesh.status.types["lds"].state is SyncState.ERROR)
        status = mesh.status.types["lds"]
        assert status.rejection == "l: port 80 is taken"
        assert status.rejected_version == bad.system_version_info
        assert status.accepted_version == good.system_version_info
        assert mesh.metric("pilot_total_xds_rejects_total", type="lds") == 1
        assert mesh.metric("pilot_xds_lds_reject") == 1
        mesh.generator.put(listener("l", 2))
        mesh.publish()
        await sidecar.accept(LISTENER)
        await until(lambda: mesh.status.types["lds"].state is SyncState.SYNCED)
        assert mesh.metric("pilot_xds_lds_reject") == 0


async def test_after_a_reconnect_only_the_difference_is_sent(mesh: Mesh) -> None:
    async with DeltaClient(mesh.channel, node_of("sidecar")) as sidecar:
        await sidecar.subscribe(CLUSTER)
        first = await sidecar.accept(CLUSTER)
    has = {resource.name: resource.version for resource in first.resources}
    mesh.generator.put(cluster(RATINGS, 1))
    mesh.publish()
    async with DeltaClient(mesh.channel, node_of("sidecar")) as again:
        await again.subscribe(CLUSTER, has=has)
        assert outline([await again.receive(CLUSTER)]) == [("cds", {RATINGS})]


async def test_versions_survive_a_restart_of_the_control_plane(mesh: Mesh) -> None:
    async with DeltaClient(mesh.channel, node_of("sidecar")) as sidecar:
        await sidecar.subscribe(CLUSTER)
        first = await sidecar.accept(CLUSTER)
    has = {resource.name: resource.version for resource in first.resources}
    generator = FakeGenerator()
    generator.put(cluster(REVIEWS), cluster(RATINGS))
    async with (
        serving(generator) as (restarted, channel, _),
        DeltaClient(channel, node_of("sidecar")) as sidecar,
    ):
        restarted.set_snapshot(MeshSnapshot(), FULL)
        await sidecar.subscribe(CLUSTER, has=has)
        assert outline([await sidecar.receive(CLUSTER)]) == [("cds", set())]


async def test_a_stale_request_is_ignored(mesh: Mesh) -> None:
    async with SotwClient(mesh.channel, node_of("envoy")) as envoy:
        await envoy.subscribe(ENDPOINT, REVIEWS)
        first = await envoy.receive(ENDPOINT)
        mesh.generator.put(endpoints(REVIEWS, 1))
        mesh.endpoints_changed("reviews")
        second = await envoy.receive(ENDPOINT)
        await envoy.subscribe(ENDPOINT, REVIEWS, RATINGS, nonce=first.nonce)
        await envoy.subscribe(ENDPOINT, RATINGS, nonce=second.nonce)
        assert names_in(await envoy.receive(ENDPOINT)) == {RATINGS}


async def test_endpoints_are_not_sent_to_proxies_without_a_subscription(mesh: Mesh) -> None:
    async with DeltaClient(mesh.channel, node_of("sidecar")) as sidecar:
        await sidecar.subscribe(ENDPOINT, REVIEWS)
        await sidecar.accept(ENDPOINT)
        mesh.generator.built.clear()
        mesh.endpoints_changed("ratings")
        mesh.generator.put(endpoints(REVIEWS, 1))
        mesh.endpoints_changed("reviews")
        await sidecar.receive(ENDPOINT)
        assert mesh.generator.built == [(ENDPOINT, [REVIEWS])]


async def test_a_proxy_may_connect_before_there_is_a_mesh() -> None:
    generator = FakeGenerator()
    async with (
        serving(generator) as (xds, channel, _),
        DeltaClient(channel, node_of("early")) as early,
    ):
        await early.subscribe(CLUSTER)
        await until(lambda: len(xds.proxies()) == 1 and "cds" in xds.proxies()[0].types)
        generator.put(cluster("a"))
        # The first snapshot is pushed to all proxies, regardless of its changes.
        xds.set_snapshot(MeshSnapshot(), SnapshotChange(full=False))
        assert outline([await early.receive(CLUSTER)]) == [("cds", {"a"})]


async def test_two_streams_of_one_proxy_are_independent(mesh: Mesh) -> None:
    node = node_of("sidecar")
    async with DeltaClient(mesh.channel, node) as new:
        async with DeltaClient(mesh.channel, node) as old:
            await old.subscribe(CLUSTER)
            await old.accept(CLUSTER)
            await new.subscribe(LISTENER)
            await new.accept(LISTENER)
            ids = [(status.proxy_id, set(status.types)) for status in mesh.server.proxies()]
            assert ids == [(node.id, {"cds"}), (node.id, {"lds"})]
            dump = mesh.server.config_dump(node.id)
            assert [config["@type"].rsplit(".", 1)[-1] for config in dump["configs"]] == [
                "ListenersConfigDump"
            ]
        await until(lambda: len(mesh.server.proxies()) == 1)
        mesh.generator.put(listener("l", 1))
        mesh.publish()
        await new.accept(LISTENER)


async def test_the_sent_configuration_can_be_dumped_in_envoys_format(mesh: Mesh) -> None:
    async with DeltaClient(mesh.channel, node_of("sidecar")) as sidecar:
        await sidecar.follow(2)
        await sidecar.subscribe(ROUTE, "r")
        await sidecar.accept(ROUTE)
        dump = mesh.server.config_dump(sidecar.node.id)
        by_type = {config["@type"].rsplit(".", 1)[-1]: config for config in dump["configs"]}
        clusters = by_type["ClustersConfigDump"]["dynamic_active_clusters"]
        assert {each["cluster"]["name"] for each in clusters} == {REVIEWS, RATINGS}
        assert clusters[0]["cluster"]["@type"] == CLUSTER
        [dumped] = by_type["RoutesConfigDump"]["dynamic_route_configs"]
        assert dumped["route_config"]["name"] == "r"
        assert len(by_type["EndpointsConfigDump"]["dynamic_endpoint_configs"]) == 2


async def test_everything_is_counted(mesh: Mesh) -> None:
    large = bookinfo()
    big = listener("l")
    big.stat_prefix = "x" * 3_000_000
    async with (
        DeltaClient(mesh.channel, node_of("sidecar")) as sidecar,
        mesh.narrow_channel() as channel,
        DeltaClient(channel, node_of("deaf")) as deaf,
    ):
        for type_url, *names in ((CLUSTER,), (ENDPOINT, REVIEWS, RATINGS), (LISTENER,), (ROUTE, "r")):
            await sidecar.subscribe(type_url, *names)
            await sidecar.acknowledge(await sidecar.receive(type_url))
        mesh.generator.put(cluster(REVIEWS, 1), endpoints(RATINGS, 1), big, route("r", 1))
        mesh.server.set_snapshot(dataclasses.replace(large, generation=2), FULL)
        for type_url in (CLUSTER, ENDPOINT, LISTENER, ROUTE):
            await sidecar.acknowledge(await sidecar.receive(type_url), error="no")
        await deaf.subscribe(LISTENER)
        await until(lambda: mesh.metric("pilot_xds_write_timeout_total") == 1)
        mesh.generator.broken.add(ROUTE)
        mesh.server.set_snapshot(dataclasses.replace(large, generation=3), FULL)
        expected = MOVED_IN["integration/test_xds_server.py"]
        await until(lambda: moved(mesh.registry) == expected)


async def test_a_proxy_that_was_not_sent_the_newest_is_stale(mesh: Mesh) -> None:
    async with DeltaClient(mesh.channel, node_of("sidecar")) as sidecar:
        await sidecar.subscribe(LISTENER)
        await sidecar.accept(LISTENER)
        await until(lambda: mesh.status.types["lds"].state is SyncState.SYNCED)
        mesh.generator.broken.add(LISTENER)
        mesh.publish()
        await until(lambda: mesh.metric("pilot_total_xds_internal_errors_total") >= 1)
        assert mesh.status.types["lds"].state is SyncState.STALE
