"""Filters that a control plane configures, and their configuration for a route, which changes alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest

from protos import type_urls
from sidecar.process.worker import Worker, WorkerConfig
from sidecar.timers import Timers
from sidecar.xds.client import XdsClient
from tests.support.ads_follower import accept, ads_bootstrap, no_delay
from tests.support.ads_server import Stream, ads_server
from tests.support.envoy_config import (
    changed,
    http_connection_manager,
    listener,
    rds,
    route_configuration,
    router,
    static_cluster,
)
from tests.support.flaky_upstream import FlakyUpstream, flaky_upstream

_HTTP = "type.googleapis.com/envoy.extensions.filters.http"
DISABLED = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": True}


def adding(value: str) -> dict[str, Any]:
    header = {"append": {"header": {"key": "x-by", "value": value}}}
    return {"request_mutations": [header], "response_mutations": [header]}


FILTERS = [
    {
        "name": "mutate",
        "typed_config": {
            "@type": f"{_HTTP}.header_mutation.v3.HeaderMutation",
            "mutations": adding("filter"),
        },
    },
    {
        "name": "health",
        "typed_config": {
            "@type": f"{_HTTP}.health_check.v3.HealthCheck",
            "pass_through_mode": False,
            "headers": [{"name": ":path", "string_match": {"exact": "/healthz"}}],
            "cluster_min_healthy_percentages": {"books": {"value": 100}},
        },
    },
    router(),
]


def routes(**per_filter_config: Any) -> dict[str, Any]:
    route = "virtual_hosts[0].routes[0]"
    document = changed(route_configuration("routes"), f"{route}.route.cluster", "books")
    return changed(document, f"{route}.typed_per_filter_config", per_filter_config)


class Mesh:
    def __init__(self, stream: Stream, worker: Worker, upstream: FlakyUpstream) -> None:
        self.stream = stream
        self.upstream = upstream
        self._worker = worker
        self._versions = 0

    async def use(self, **per_filter_config: Any) -> None:
        self._versions += 1
        document = routes(**per_filter_config)
        ack = await self.stream.send_delta(type_urls.ROUTE, document, version=f"{self._versions}")
        assert ack.error_detail.message == ""

    async def ask(self, path: str) -> tuple[int, list[str]]:
        """The status, and the values of ``x-by`` in the response."""
        port = (await self._worker.listeners())[0].address.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".encode())
        head, *_ = (await reader.read()).decode().partition("\r\n\r\n")
        writer.close()
        status, *fields = head.split("\r\n")
        return int(status.split()[1]), [field[6:] for field in fields if field.startswith("x-by: ")]


@pytest.fixture
async def mesh() -> AsyncIterator[Mesh]:
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(flaky_upstream("a"))
        server = await stack.enter_async_context(ads_server())
        timers = Timers(asyncio.get_running_loop())
        stack.callback(timers.close)
        worker = Worker(WorkerConfig(), timers=timers, on_warm=lambda: None)
        stack.push_async_callback(worker.close)
        client = XdsClient(ads_bootstrap(server.port), worker.apply, cache_dir=None, sleep=no_delay)
        running = asyncio.create_task(client.run(), name="xds-client")
        stack.push_async_callback(_end, running)
        stream = await accept(server)
        await stream.send_delta(type_urls.CLUSTER, static_cluster("books", upstream.port))
        manager = http_connection_manager(rds=rds("routes"), http_filters=FILTERS)
        await stream.send_delta(type_urls.LISTENER, listener("l", manager))
        yield Mesh(stream, worker, upstream)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_filters_of_a_listener_serve(mesh: Mesh) -> None:
    await mesh.use()
    assert await mesh.ask("/books") == (200, ["filter"])
    assert (b"x-by", b"filter") in mesh.upstream.exchanges[0].headers
    assert await mesh.ask("/healthz") == (200, ["filter"])
    assert len(mesh.upstream.exchanges) == 1


async def test_a_route_overrides_both_filters_and_its_next_version_again(mesh: Mesh) -> None:
    mutations = {"@type": f"{_HTTP}.header_mutation.v3.HeaderMutationPerRoute", "mutations": adding("route")}
    await mesh.use(mutate=mutations, health=DISABLED)
    assert await mesh.ask("/healthz") == (200, ["filter", "route"])
    assert len(mesh.upstream.exchanges) == 1
    await mesh.use(mutate=DISABLED)
    assert await mesh.ask("/healthz") == (200, [])
    assert len(mesh.upstream.exchanges) == 1
