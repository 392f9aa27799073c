"""Clients of the ADS server that disconnect, do not read, or send invalid messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from envoy.config.core.v3.base_pb2 import Node
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest

from protos.type_urls import CLUSTER, ENDPOINT, LISTENER
from tests.support.ads_client import DeltaClient, SotwClient, node_of
from tests.support.xds_exchange import names_in, outline
from tests.support.xds_serving import RATINGS, Mesh, served_mesh, stream_tasks, until
from tests.support.xds_world import cluster, listener


@pytest.fixture
async def mesh() -> AsyncIterator[Mesh]:
    async with served_mesh() as made:
        yield made


async def test_a_disconnected_proxy_leaves_nothing(mesh: Mesh) -> None:
    async with DeltaClient(mesh.channel, node_of("sidecar")) as sidecar:
        await sidecar.follow(2)
        assert mesh.metric("pilot_xds", version="unknown") == 1
    await until(lambda: mesh.server.proxies() == [])
    assert mesh.registry.get_sample_value("pilot_xds", {"version": "unknown"}) is None
    await until(lambda: not stream_tasks())


async def test_proxies_that_vanish_during_a_push_do_not_affect_others(mesh: Mesh) -> None:
    for number in range(500):
        mesh.generator.put(cluster(f"c{number}"))
    async with DeltaClient(mesh.channel, node_of("stays")) as stays:
        for number in range(10):
            async with DeltaClient(mesh.channel, node_of(f"goes-{number}")) as goes:
                await goes.subscribe(CLUSTER)
                await until(lambda: len(mesh.server.proxies()) > 0)
        await stays.subscribe(CLUSTER)
        assert len(names_in(await stays.accept(CLUSTER))) == 502
    await until(lambda: mesh.server.proxies() == [])
    assert mesh.metric("pilot_total_xds_internal_errors_total") == 0


async def test_a_proxy_that_does_not_read_delays_no_other_and_gets_the_latest_when_it_reads(
    mesh: Mesh,
) -> None:
    big = listener("l")
    big.stat_prefix = "x" * 3_000_000
    mesh.generator.put(big)
    async with (
        mesh.narrow_channel() as channel,
        DeltaClient(channel, node_of("deaf")) as deaf,
        DeltaClient(mesh.channel, node_of("fine")) as fine,
    ):
        await deaf.subscribe(LISTENER)
        await deaf.subscribe(CLUSTER)
        await until(lambda: mesh.metric("pilot_xds_pushes_total", type="lds") == 1)
        await fine.subscribe(CLUSTER)
        await fine.accept(CLUSTER)
        for content in range(1, 6):
            mesh.generator.put(listener("l", content))
            mesh.generator.put(cluster(RATINGS, content))
            mesh.publish()
            assert outline([await fine.accept(CLUSTER)]) == [("cds", {RATINGS})]
        await until(lambda: mesh.metric("pilot_xds_write_timeout_total") == 1)
        assert mesh.metric("pilot_xds_pushes_total", type="lds") == 1
        assert outline([await deaf.accept(LISTENER)]) == [("lds", {"l"})]
        await deaf.accept(CLUSTER)
        latest = await deaf.accept(LISTENER)
        assert latest.resources[0].resource.value == listener("l", 5).SerializeToString()


async def test_a_proxy_that_does_not_read_finally_receives_the_status(mesh: Mesh) -> None:
    big = listener("l")
    big.stat_prefix = "x" * 3_000_000
    mesh.generator.put(big)
    async with mesh.narrow_channel() as channel, DeltaClient(channel, node_of("deaf")) as deaf:
        await deaf.subscribe(LISTENER)
        await until(lambda: mesh.metric("pilot_xds_pushes_total", type="lds") == 1)
        await deaf.subscribe(ENDPOINT, "")
        await until(lambda: mesh.server.proxies() == [])
        await deaf.receive(LISTENER)
        code, details = await deaf.failure()
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "0 characters" in details


async def test_a_proxy_that_vanishes_while_it_is_written_to_leaves_nothing(mesh: Mesh) -> None:
    big = listener("l")
    big.stat_prefix = "x" * 3_000_000
    mesh.generator.put(big)
    async with mesh.narrow_channel() as channel, DeltaClient(channel, node_of("deaf")) as deaf:
        await deaf.subscribe(LISTENER)
        await until(lambda: mesh.metric("pilot_xds_write_timeout_total") == 1)
    await until(lambda: mesh.server.proxies() == [] and not stream_tasks())


async def test_a_builder_that_fails_for_one_type_leaves_the_others_alone(
    mesh: Mesh, caplog: pytest.LogCaptureFixture
) -> None:
    mesh.generator.broken.add(LISTENER)
    async with DeltaClient(mesh.channel, node_of("sidecar")) as sidecar:
        await sidecar.subscribe(LISTENER)
        await sidecar.follow(2)
        assert "cannot build lds" in caplog.text
        assert mesh.metric("pilot_total_xds_internal_errors_total") >= 1
        mesh.generator.broken.clear()
        mesh.publish()
        await sidecar.accept(LISTENER)


@pytest.mark.parametrize("client_type", [SotwClient, DeltaClient])
@pytest.mark.parametrize(
    ("node", "words"),
    [
        (Node(), "node.id"),
        (Node(id="garbage"), "'garbage'"),
        (node_of("a", NAMESPACE="other"), "NAMESPACE"),
    ],
)
async def test_an_invalid_node_is_rejected_with_the_reason(
    mesh: Mesh, client_type: type[SotwClient | DeltaClient], node: Node, words: str
) -> None:
    async with client_type(mesh.channel, node) as client:
        await client.subscribe(CLUSTER)
        code, details = await client.failure()
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert words in details
    assert mesh.server.proxies() == []


async def test_too_many_names_end_the_stream(mesh: Mesh) -> None:
    async with DeltaClient(mesh.channel, node_of("greedy")) as greedy:
        await greedy.subscribe(CLUSTER)
        await greedy.receive(CLUSTER)
        await greedy.subscribe(ENDPOINT, *(str(number) for number in range(60_000)))
        code, details = await greedy.failure()
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "60000 subscribed resource names" in details


async def test_a_request_too_large_ends_the_stream(mesh: Mesh) -> None:
    async with DeltaClient(mesh.channel, node_of("greedy")) as greedy:
        await greedy.subscribe(ENDPOINT, *("x" * 1000 + str(number) for number in range(6_000)))
        code, _ = await greedy.failure()
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert mesh.server.proxies() == []


@pytest.mark.parametrize("after_the_first", [False, True])
async def test_malformed_bytes_end_the_stream(mesh: Mesh, after_the_first: bool) -> None:
    method = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
    call = mesh.channel.stream_stream(method)()
    if after_the_first:
        request = DeltaDiscoveryRequest(node=node_of("a"), type_url=CLUSTER)
        await call.write(request.SerializeToString())
        await call.read()
    await call.write(b"\xff\xff garbage")
    assert await asyncio.wait_for(call.code(), 10) is grpc.StatusCode.INVALID_ARGUMENT
    await until(lambda: mesh.server.proxies() == [])


async def test_a_type_that_is_not_served_does_not_end_the_stream(
    mesh: Mesh, caplog: pytest.LogCaptureFixture
) -> None:
    async with SotwClient(mesh.channel, node_of("envoy")) as envoy:
        secret = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
        await envoy.subscribe(secret, "default")
        await envoy.subscribe(secret, "default")
        await envoy.subscribe(CLUSTER)
        await envoy.accept(CLUSTER)
    assert caplog.text.count("which is not served") == 1


async def test_closing_ends_every_stream_with_a_status(mesh: Mesh) -> None:
    async with DeltaClient(mesh.channel, node_of("sidecar")) as sidecar:
        await sidecar.follow(2)
        await mesh.server.close()
        code, details = await sidecar.failure()
        assert code is grpc.StatusCode.UNAVAILABLE
        assert "stopping" in details


async def test_a_proxy_that_hangs_up_is_not_a_failure(mesh: Mesh) -> None:
    async with DeltaClient(mesh.channel, node_of("sidecar")) as sidecar:
        await sidecar.subscribe(CLUSTER)
        await sidecar.accept(CLUSTER)
        await sidecar.call.done_writing()
        assert (await sidecar.failure())[0] is grpc.StatusCode.OK
