"""How much the xDS server sends to proxies that follow a thousand services of ten endpoints each.

`make bench-control-plane` has the times.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import grpc
import pytest

from protos.type_urls import CLUSTER, ENDPOINT
from tests.support.ads_client import DeltaClient, SotwClient, node_of
from tests.support.large_mesh import (
    SERVICES,
    Serving,
    cluster_name,
    follow_everything,
    hostname,
    service,
    serving,
    with_one_more_endpoint,
)
from tests.support.xds_exchange import names_in
from tests.support.xds_world import FULL

PROXIES = 50
STORM = 200


@pytest.fixture
async def scale() -> AsyncIterator[Serving]:
    async with serving() as started:
        yield started


async def test_a_sidecar_is_sent_each_type_in_few_responses(scale: Serving) -> None:
    async with (
        grpc.aio.insecure_channel(scale.target) as channel,
        DeltaClient(channel, node_of("sidecar")) as sidecar,
    ):
        assert await follow_everything(sidecar) < 20


async def test_an_endpoint_reaches_every_proxy_that_follows_its_service_alone(scale: Serving) -> None:
    async with AsyncExitStack() as stack:
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(scale.target))
        proxies = [
            await stack.enter_async_context(DeltaClient(channel, node_of(f"sidecar-{number}")))
            for number in range(PROXIES)
        ]
        await asyncio.gather(*map(follow_everything, proxies))
        scale.xds.set_snapshot(*with_one_more_endpoint(scale.snapshot, 7))
        responses = await asyncio.gather(*(proxy.accept(ENDPOINT) for proxy in proxies))
    assert all(names_in(response) == {cluster_name(7)} for response in responses)


async def test_a_storm_of_reconnecting_proxies_is_sent_nothing_again(scale: Serving) -> None:
    async def versions(sidecar: DeltaClient) -> dict[str, str]:
        await sidecar.subscribe(CLUSTER)
        known: dict[str, str] = {}
        while len(known) < SERVICES:
            response = await sidecar.accept(CLUSTER)
            known |= {resource.name: resource.version for resource in response.resources}
        return known

    async def reconnect(number: int) -> int:
        async with DeltaClient(channel, node_of(f"sidecar-{number}")) as again:
            await again.subscribe(CLUSTER, has=known)
            return len((await again.accept(CLUSTER)).resources)

    async with grpc.aio.insecure_channel(scale.target) as channel:
        async with DeltaClient(channel, node_of("sidecar-0")) as first:
            known = await versions(first)
        assert set(await asyncio.gather(*map(reconnect, range(STORM)))) == {0}
    async with asyncio.timeout(5):
        while scale.xds.proxies():
            await asyncio.sleep(0.005)


async def test_a_full_push_without_a_change_of_any_resource_sends_nothing(scale: Serving) -> None:
    async with (
        grpc.aio.insecure_channel(scale.target) as channel,
        DeltaClient(channel, node_of("sidecar")) as sidecar,
    ):
        await follow_everything(sidecar)
        changed = replace(service(7), labels={"nobody": "cares"})
        services = {**scale.snapshot.services, hostname(7): changed}
        snapshot = replace(scale.snapshot, generation=2, services=services)
        scale.xds.set_snapshot(snapshot, FULL)
        scale.xds.set_snapshot(*with_one_more_endpoint(snapshot, 7))
        response = await sidecar.accept(ENDPOINT)
    assert names_in(response) == {cluster_name(7)}


async def test_an_envoy_gets_the_same_in_the_state_of_the_world(scale: Serving) -> None:
    unlimited = [("grpc.max_receive_message_length", -1)]
    async with (
        grpc.aio.insecure_channel(scale.target, options=unlimited) as channel,
        SotwClient(channel, node_of("envoy")) as envoy,
    ):
        await envoy.subscribe(CLUSTER)
        clusters = names_in(await envoy.accept(CLUSTER))
        outbound = {name for name in clusters if name.startswith("outbound|")}
        assert outbound == {cluster_name(number) for number in range(SERVICES)}
        await envoy.subscribe(ENDPOINT, *outbound)
        assignments: set[str] = set()
        while assignments != outbound:
            assignments |= names_in(await envoy.accept(ENDPOINT))
