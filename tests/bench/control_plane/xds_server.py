"""The xDS server over sockets, with the mesh's own builders; the clients are in the same process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace

import grpc

from protos.type_urls import CLUSTER, ENDPOINT
from tests.bench.control_plane.figures import Case, figure, timed
from tests.support.ads_client import DeltaClient, SotwClient, node_of
from tests.support.large_mesh import (
    SERVICES,
    Serving,
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
UNLIMITED = [("grpc.max_receive_message_length", -1)]


async def first_push(served: Serving, channel: grpc.aio.Channel) -> None:
    watching = asyncio.create_task(longest_block_s())
    async with DeltaClient(channel, node_of("sidecar")) as sidecar:
        with timed("everything built, sent to a sidecar and acknowledged"):
            await follow_everything(sidecar)
    watching.cancel()
    figure("the longest that the event loop was blocked", await watching, "s")


async def longest_block_s() -> float:
    """Runs until it is cancelled."""
    longest_s = 0.0
    try:
        while True:
            before_s = time.perf_counter()
            await asyncio.sleep(0)
            longest_s = max(longest_s, time.perf_counter() - before_s)
    except asyncio.CancelledError:
        return longest_s


async def one_endpoint(served: Serving, channel: grpc.aio.Channel) -> None:
    async with AsyncExitStack() as stack:
        proxies = [
            await stack.enter_async_context(DeltaClient(channel, node_of(f"sidecar-{number}")))
            for number in range(PROXIES)
        ]
        with timed(f"everything sent to {PROXIES} sidecars"):
            await asyncio.gather(*map(follow_everything, proxies))
        with timed(f"one endpoint sent to {PROXIES} sidecars"):
            served.xds.set_snapshot(*with_one_more_endpoint(served.snapshot, 7))
            await asyncio.gather(*(proxy.accept(ENDPOINT) for proxy in proxies))


async def full_push(served: Serving, channel: grpc.aio.Channel) -> None:
    async with DeltaClient(channel, node_of("sidecar")) as sidecar:
        await follow_everything(sidecar)
        services = {**served.snapshot.services, hostname(7): replace(service(7), labels={"nobody": "cares"})}
        snapshot = replace(served.snapshot, generation=2, services=services)
        with timed("a full push without a change of any resource, and one endpoint after it"):
            served.xds.set_snapshot(snapshot, FULL)
            served.xds.set_snapshot(*with_one_more_endpoint(snapshot, 7))
            await sidecar.accept(ENDPOINT)


async def reconnects(served: Serving, channel: grpc.aio.Channel) -> None:
    known: dict[str, str] = {}
    async with DeltaClient(channel, node_of("sidecar-0")) as first:
        await first.subscribe(CLUSTER)
        while len(known) < SERVICES:
            response = await first.accept(CLUSTER)
            known |= {resource.name: resource.version for resource in response.resources}

    async def reconnect(number: int) -> None:
        async with DeltaClient(channel, node_of(f"sidecar-{number}")) as again:
            await again.subscribe(CLUSTER, has=known)
            await again.accept(CLUSTER)

    with timed(f"{STORM} sidecars reconnect with what they have"):
        await asyncio.gather(*map(reconnect, range(STORM)))


async def state_of_the_world(served: Serving, channel: grpc.aio.Channel) -> None:
    async with SotwClient(channel, node_of("envoy")) as envoy:
        with timed("clusters and endpoints sent in the state of the world"):
            await envoy.subscribe(CLUSTER)
            names = {name for name in names_in(await envoy.accept(CLUSTER)) if name.startswith("outbound|")}
            await envoy.subscribe(ENDPOINT, *names)
            assignments: set[str] = set()
            while assignments != names:
                assignments |= names_in(await envoy.accept(ENDPOINT))


def against_a_server(measure: Callable[[Serving, grpc.aio.Channel], Awaitable[None]]) -> Case:
    async def run() -> None:
        async with (
            serving() as served,
            grpc.aio.insecure_channel(served.target, options=UNLIMITED) as channel,
        ):
            await measure(served, channel)

    return lambda: asyncio.run(run())


CASES = {
    "xds-first-push": against_a_server(first_push),
    "xds-one-endpoint": against_a_server(one_endpoint),
    "xds-full-push": against_a_server(full_push),
    "xds-reconnects": against_a_server(reconnects),
    "xds-state-of-the-world": against_a_server(state_of_the_world),
}
