"""Filters in front of the router and of real upstreams: changes of the configuration, retries,
cancellation, calls of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from random import Random

import pytest

from sidecar.config.cluster import ClusterConfig
from sidecar.config.listener import HttpConnectionManager, HttpFilter
from sidecar.config.route import ForwardAction, RetryPolicy, Route
from sidecar.errors import NoClusterError, UpstreamTimeoutError
from sidecar.filters.bodies import map_body
from sidecar.filters.chain import FilterContext, FilterKind, FilterRegistry, HttpFilterChain
from sidecar.http.body import Body, BodyStream
from sidecar.http.message import Request, Response, Service
from sidecar.router.exchange import RouterEnvironment
from sidecar.router.match import RouteTable, RouteTableRef
from sidecar.router.router import Router
from sidecar.timers import Timers
from sidecar.upstream.cluster_manager import ClusterManager
from tests.support.bodies import read_all
from tests.support.clusters import cluster_manager, snapshot, static_cluster
from tests.support.filter_chains import ROUTER, filter_chain, filter_context
from tests.support.flaky_upstream import Exchange, FlakyUpstream
from tests.support.requests import CONNECTION, make_request
from tests.support.routes import configuration, exact, prefix, route, to, virtual_host

Call = Callable[[Request, Service], Awaitable[Response]]


@dataclass(frozen=True)
class CallConfig:
    call: Call


class Calling:
    """A filter that is a function of the test."""

    def __init__(self, config: CallConfig, context: FilterContext) -> None:
        self._call = config.call

    async def __call__(self, request: Request, proceed: Service) -> Response:
        return await self._call(request, proceed)

    def close(self) -> None:
        pass


REGISTRY = FilterRegistry(FilterKind(config=CallConfig, make=Calling))


class Stack:
    """Filters, the router and clusters, without a downstream codec."""

    def __init__(self, clusters: ClusterManager, timers: Timers) -> None:
        self.clusters = clusters
        env = RouterEnvironment(timers=timers, rng=Random(1))
        self.router = Router(env)
        self.context = filter_context(clusters.find)
        self.routes = RouteTableRef()

    def use(self, *routes: Route | ForwardAction) -> None:
        made = [entry if isinstance(entry, Route) else route(prefix(), entry) for entry in routes]
        self.routes.current = RouteTable(configuration(virtual_host(*made)))

    def chain(self, *calls: Call) -> HttpFilterChain:
        filters = tuple(HttpFilter(name="test", config=CallConfig(call)) for call in calls)
        return filter_chain(
            HttpConnectionManager(stat_prefix="test", http_filters=(*filters, ROUTER)),
            routes=self.routes,
            router=self.router,
            registry=REGISTRY,
            find_cluster=self.clusters.find,
            context=self.context,
        )


Start = Callable[..., Awaitable[Stack]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:
        timers = Timers(asyncio.get_running_loop())
        stack.callback(timers.close)

        async def start_stack(*clusters: ClusterConfig) -> Stack:
            return Stack(await stack.enter_async_context(cluster_manager(*clusters)), timers)

        yield start_stack


class Gate:
    """A filter that holds each request until the test opens it."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def __call__(self, request: Request, proceed: Service) -> Response:
        self.reached.set()
        await self.opened.wait()
        return await proceed(request)


class TestChangesOfTheConfiguration:
    @pytest.mark.parametrize("connected", [False, True])
    async def test_a_request_in_a_filter_keeps_a_cluster_that_is_removed(
        self, start: Start, upstream: FlakyUpstream, connected: bool
    ) -> None:
        stack = await start(static_cluster(upstream.endpoint))
        stack.use(to("up"))
        if connected:
            await read_all((await stack.chain()(make_request())).body)
        gate, request = Gate(), make_request()
        under_way = asyncio.create_task(ask(stack.chain(gate), request))
        await gate.reached.wait()
        stack.clusters.update(snapshot())
        stack.use()
        gate.opened.set()
        assert await under_way == (200, b"a")
        assert (request.info.flags, request.info.cluster) == ("", "up")
        assert (await ask(stack.chain()))[0] == 404

    async def test_a_request_in_a_filter_keeps_a_cluster_that_is_replaced(
        self, start: Start, upstream: FlakyUpstream, other: FlakyUpstream
    ) -> None:
        stack = await start(static_cluster(upstream.endpoint))
        stack.use(to("up"))
        gate = Gate()
        under_way = asyncio.create_task(ask(stack.chain(gate)))
        await gate.reached.wait()
        stack.clusters.update(snapshot(static_cluster(other.endpoint)))
        gate.opened.set()
        assert await under_way == (200, b"a")
        assert await ask(stack.chain()) == (200, b"b")

    async def test_resolving_again_finds_the_configuration_of_now(
        self, start: Start, upstream: FlakyUpstream, other: FlakyUpstream
    ) -> None:
        async def follow(request: Request, proceed: Service) -> Response:
            stack.clusters.update(snapshot(static_cluster(other.endpoint)))
            request.resolve_again()
            return await proceed(request)

        stack = await start(static_cluster(upstream.endpoint))
        stack.use(to("up"))
        assert await ask(stack.chain(follow)) == (200, b"b")


async def ask(chain: HttpFilterChain, request: Request | None = None) -> tuple[int, bytes]:
    response = await chain(request or make_request())
    return response.status, await read_all(response.body)


class TestFailures:
    @pytest.mark.parametrize(
        ("path", "status", "flag"),
        [(b"/nowhere", 404, "NR"), (b"/missing", 503, "NC"), (b"/empty", 503, "UH")],
    )
    async def test_filters_see_the_replies_of_the_router(
        self, start: Start, path: bytes, status: int, flag: str
    ) -> None:
        async def mark(request: Request, proceed: Service) -> Response:
            response = await proceed(request)
            response.headers.append((b"x-marked", b"%d" % response.status))
            return response

        stack = await start(static_cluster(name="empty"))
        stack.use(route(exact("/missing"), to("missing")), route(exact("/empty"), to("empty")))
        request = make_request(path)
        response = await stack.chain(mark)(request)
        assert (b"x-marked", b"%d" % status) in response.headers
        assert request.info.flags == flag

    async def test_a_filter_runs_once_for_all_attempts(self, start: Start, upstream: FlakyUpstream) -> None:
        async def fail_twice(exchange: Exchange) -> None:
            if len(upstream.exchanges) <= 2:
                exchange.answer(503, b"broken")
            else:
                await upstream.answer_with_name(exchange)

        async def count(request: Request, proceed: Service) -> Response:
            seen.append(request.path)
            return await proceed(request)

        seen: list[bytes] = []
        stack = await start(static_cluster(upstream.endpoint))
        retry = RetryPolicy(retry_on=frozenset({"5xx"}), num_retries=2, back_off_base_interval_s=0.001)
        stack.use(to("up", retry_policy=retry))
        upstream.behave = fail_twice
        request = make_request()
        assert await ask(stack.chain(count), request) == (200, b"a")
        assert (seen, request.info.attempts) == ([b"/"], 3)

    async def test_a_request_that_is_cancelled_ends_its_filter_and_its_exchange(
        self, start: Start, upstream: FlakyUpstream
    ) -> None:
        async def silence(exchange: Exchange) -> None:
            asked.set()
            await asyncio.Event().wait()

        async def note(request: Request, proceed: Service) -> Response:
            try:
                return await proceed(request)
            except asyncio.CancelledError:
                cancelled.append(request.path)
                raise

        asked, cancelled = asyncio.Event(), list[bytes]()
        stack = await start(static_cluster(upstream.endpoint))
        stack.use(to("up"))
        upstream.behave = silence
        under_way = asyncio.create_task(ask(stack.chain(note)))
        await asked.wait()
        under_way.cancel()
        with pytest.raises(asyncio.CancelledError):
            await under_way
        assert cancelled == [b"/"]
        assert stack.clusters.get("up").stats.upstream_rq_active == 0


class TestCallsOfAFilter:
    async def test_a_filter_asks_another_cluster(
        self, start: Start, upstream: FlakyUpstream, other: FlakyUpstream
    ) -> None:
        stack = await start(
            static_cluster(upstream.endpoint), static_cluster(other.endpoint, name="authorizer")
        )
        stack.use(to("up"))
        client = stack.context.client("authorizer", timeout_s=5.0)

        async def authorize(request: Request, proceed: Service) -> Response:
            verdict = await client.send(
                request.info.connection,
                method=b"POST",
                authority=b"authorizer",
                path=b"/check" + request.path,
                headers=[(b"x-a", b"b")],
            )
            request.headers.append((b"x-verdict", await read_all(verdict.body)))
            return await proceed(request)

        request = make_request(b"/books")
        assert await ask(stack.chain(authorize), request) == (200, b"a")
        call = other.exchanges[0]
        assert (call.method, call.path) == (b"POST", b"/check/books")
        assert (b"x-verdict", b"b") in request.headers
        assert (request.info.cluster, request.info.attempts) == ("up", 1)
        stats = stack.clusters.get("authorizer").stats
        assert (stats.upstream_rq_total, stats.upstream_rq_active) == (1, 0)

    async def test_a_call_has_a_timeout(self, start: Start, upstream: FlakyUpstream) -> None:
        async def silence(exchange: Exchange) -> None:
            await asyncio.Event().wait()

        stack = await start(static_cluster(upstream.endpoint))
        upstream.behave = silence
        client = stack.context.client("up", timeout_s=0.05)
        with pytest.raises(UpstreamTimeoutError):
            await client.send(CONNECTION, method=b"GET", authority=b"up", path=b"/")

    async def test_a_call_to_a_missing_cluster_fails(self, start: Start) -> None:
        stack = await start()
        with pytest.raises(NoClusterError, match="nowhere"):
            await stack.context.client("nowhere", timeout_s=1.0).send(
                CONNECTION, method=b"GET", authority=b"up", path=b"/"
            )


class TestBodies:
    """A filter may change a body without changing its Content-Length."""

    @staticmethod
    async def double(request: Request, proceed: Service) -> Response:
        request.body = map_body(request.body, lambda piece: piece * 2)
        response = await proceed(request)
        response.body = map_body(response.body, lambda piece: piece * 2)
        return response

    @pytest.mark.parametrize("streamed", [False, True])
    async def test_the_upstream_gets_the_body_that_a_filter_returns(
        self, start: Start, upstream: FlakyUpstream, streamed: bool
    ) -> None:
        stack = await start(static_cluster(upstream.endpoint))
        stack.use(to("up"))
        stream = BodyStream()
        body = stream if streamed else Body(b"hello")
        request = make_request(method=b"POST", headers=[(b"content-length", b"5")], body=body)
        under_way = asyncio.create_task(ask(stack.chain(self.double), request))
        await asyncio.sleep(0)
        stream.feed(b"hello")
        stream.feed_end()
        assert await asyncio.wait_for(under_way, 5) == (200, b"aa")
        assert upstream.exchanges[0].body == b"hellohello"
        assert await asyncio.wait_for(ask(stack.chain()), 5) == (200, b"a")
        assert upstream.connections_total == 1, "no exchange has broken its connection"
