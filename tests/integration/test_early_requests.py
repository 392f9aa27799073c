"""Requests that are sent to their upstream before the task of their connection wakes: every one on an idle
connection, when the pool has a connection too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sidecar.config.cluster import CircuitBreakers
from sidecar.config.http_filters import RouterConfig
from sidecar.config.listener import HttpFilter
from sidecar.config.route import RetryPolicy
from tests.support.clusters import static_cluster
from tests.support.flaky_upstream import Exchange, FlakyUpstream, flaky_upstream
from tests.support.listening import eventually
from tests.support.routes import configuration, prefix, route, to, virtual_host
from tests.support.running_stack import RunningStack, manager_of, running_stack

REQUEST = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
ROUTER = HttpFilter(name="router", config=RouterConfig())


class Client:
    """A connection on which one request was answered."""

    def __init__(self, stack: RunningStack, upstream: FlakyUpstream) -> None:
        self.stack = stack
        self.upstream = upstream

    async def connect(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self.stack.port)
        assert await self.ask() == 200

    def send(self) -> None:
        self._writer.write(REQUEST)

    async def answer(self) -> int:
        head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 10)
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length: "):
                await self._reader.readexactly(int(line.split()[1]))
        return int(head.split(b" ")[1])

    async def ask(self) -> int:
        self.send()
        return await self.answer()

    def leave(self) -> None:
        self._writer.transport.abort()

    @property
    def cluster(self) -> Any:
        return self.stack.stats.cluster("up")


@asynccontextmanager
async def client(*, breakers: CircuitBreakers | None = None, **options: Any) -> AsyncIterator[Client]:
    routes = configuration(virtual_host(route(prefix(), to("up", **options))))
    async with flaky_upstream() as upstream:
        cluster = static_cluster(upstream.endpoint, circuit_breakers=breakers or CircuitBreakers())
        manager = manager_of(ROUTER, route_config=routes, stream_idle_timeout_s=5.0)
        async with running_stack(manager, cluster) as stack:
            made = Client(stack, upstream)
            await made.connect()
            try:
                yield made
            finally:
                made.leave()
            await stack.settle()


async def silent(exchange: Exchange) -> None:
    await asyncio.Event().wait()


async def closed(exchange: Exchange) -> None:
    exchange.writer.close()


async def unavailable(exchange: Exchange) -> None:
    exchange.answer(503)


async def test_many_requests_are_answered_on_one_connection() -> None:
    async with client() as made:
        assert [await made.ask() for _ in range(5)] == [200] * 5
        assert made.upstream.connections_total == 1
        assert made.cluster.upstream_rq_total == 6


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with client() as made:
        for _ in range(3):
            made.send()
        assert [await made.answer() for _ in range(3)] == [200] * 3


async def test_a_client_that_leaves_frees_the_upstream() -> None:
    async with client() as made:
        made.upstream.behave = silent
        made.send()
        await eventually(lambda: len(made.upstream.exchanges) == 2)
        made.leave()
        await made.stack.settle()
        assert made.cluster.upstream_rq_tx_reset == 1
        assert made.cluster.upstream_cx_destroy_local_with_active_rq == 1


async def test_the_routes_timeout_ends_the_wait() -> None:
    async with client(timeout_s=1.0) as made:
        made.upstream.behave = silent
        assert await made.ask() == 504
        assert made.cluster.upstream_rq_timeout == 1
        assert made.cluster.upstream_rq_retry == 0
        made.upstream.behave = made.upstream.answer_with_name
        assert await made.ask() == 200, "the connection carries the next request"


@pytest.mark.parametrize("failure", [closed, unavailable])
async def test_a_failed_attempt_is_retried(failure: Any) -> None:
    async with client(retry_policy=RetryPolicy(retry_on=frozenset({"5xx"}), num_retries=1)) as made:

        async def fail_once(exchange: Exchange) -> None:
            made.upstream.behave = made.upstream.answer_with_name
            await failure(exchange)

        made.upstream.behave = fail_once
        assert await made.ask() == 200
        assert made.cluster.upstream_rq_retry == 1


async def test_the_timeout_covers_the_retries() -> None:
    policy = RetryPolicy(retry_on=frozenset({"5xx"}), num_retries=1)
    async with client(timeout_s=1.0, retry_policy=policy) as made:

        async def fail_then_be_silent(exchange: Exchange) -> None:
            made.upstream.behave = silent
            exchange.answer(503)

        made.upstream.behave = fail_then_be_silent
        assert await made.ask() == 504
        assert made.cluster.upstream_rq_timeout == 1


async def test_an_open_circuit_breaker_answers_at_once() -> None:
    async with client(breakers=CircuitBreakers(max_requests=1)) as made:
        made.upstream.behave = silent
        made.send()
        await eventually(lambda: len(made.upstream.exchanges) == 2)
        other, writer = await asyncio.open_connection("127.0.0.1", made.stack.port)
        for _ in range(2):  # the second one on an idle connection
            writer.write(REQUEST)
            head = await asyncio.wait_for(other.readuntil(b"\r\n\r\n"), 10)
            assert head.startswith(b"HTTP/1.1 503")
            await other.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
        writer.close()


async def test_the_stack_closes_while_the_upstream_is_silent() -> None:
    async with client() as made:
        made.upstream.behave = silent
        made.send()
        await eventually(lambda: len(made.upstream.exchanges) == 2)
        await made.stack.stack.listeners.close()
