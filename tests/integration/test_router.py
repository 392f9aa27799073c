"""The filter chain, the router and the upstream side over real sockets, against a flaky upstream."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from random import Random
from typing import Any

import pytest

from sidecar.config.cluster import (
    CircuitBreakers,
    ClusterConfig,
    Discovery,
    HttpVersion,
    LbPolicy,
    OutlierDetection,
)
from sidecar.config.listener import HttpConnectionManager
from sidecar.config.route import (
    ForwardAction,
    PathMatchKind,
    RetryPolicy,
    Route,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
)
from sidecar.errors import UpstreamResetError
from sidecar.http.body import Body, BodyStream
from sidecar.http.message import Request, Response
from sidecar.router.exchange import RouterEnvironment
from sidecar.router.match import RouteTable, RouteTableRef
from sidecar.router.router import Router
from sidecar.timers import Timers
from sidecar.upstream.cluster_manager import ClusterManager
from tests.support.bodies import read_all
from tests.support.clusters import at_port, cluster_manager, snapshot, static_cluster
from tests.support.filter_chains import ROUTER, filter_chain
from tests.support.flaky_upstream import Exchange, FlakyUpstream, flaky_upstream
from tests.support.listening import eventually
from tests.support.requests import make_request
from tests.support.routes import configuration, prefix, route, to, virtual_host

MANAGER = HttpConnectionManager(
    stat_prefix="test",
    http_filters=(ROUTER,),
    upgrades=frozenset({"websocket", "connect"}),
)

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"


class Proxy:
    """A stack without a downstream codec: requests go in, responses come out."""

    def __init__(self, clusters: ClusterManager, timers: Timers) -> None:
        self.clusters = clusters
        self.timers = timers
        self.router = Router(RouterEnvironment(timers=timers, rng=Random(1)))
        self.routes = RouteTableRef()
        self.service = filter_chain(
            MANAGER, routes=self.routes, router=self.router, find_cluster=clusters.find
        )

    def use(self, *routes: Route | ForwardAction, **options: Any) -> None:
        made = [entry if isinstance(entry, Route) else route(prefix(), entry) for entry in routes]
        host: VirtualHost = virtual_host(*made, **options)
        self.routes.current = RouteTable(configuration(host))

    async def send(self, request: Request | None = None) -> Response:
        return await self.service(request or make_request())

    async def ask(self, request: Request | None = None) -> tuple[int, bytes]:
        response = await self.send(request)
        return response.status, await read_all(response.body)

    def assert_nothing_under_way(self) -> None:
        """Every count that something under way holds is back at zero."""
        for cluster in self.clusters:
            breaker = cluster.breaker
            assert (breaker.requests, breaker.pending_requests, breaker.retries) == (0, 0, 0)
            assert cluster.stats.upstream_rq_active == cluster.stats.upstream_rq_pending_active == 0
            assert all(host.stats.rq_active == 0 for host in cluster.hosts.values())


Start = Callable[..., Any]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts a proxy for given clusters, and checks in the end that nothing leaked."""
    async with AsyncExitStack() as stack:
        timers = Timers(asyncio.get_running_loop())
        stack.callback(timers.close)

        async def start_proxy(*clusters: ClusterConfig, **options: Any) -> Proxy:
            proxy = Proxy(await stack.enter_async_context(cluster_manager(*clusters, **options)), timers)
            stack.push_async_callback(proxy.router.close)
            stack.callback(proxy.assert_nothing_under_way)
            return proxy

        yield start_proxy


@pytest.fixture
async def upstream() -> AsyncIterator[FlakyUpstream]:
    async with flaky_upstream("a") as started:
        yield started


@pytest.fixture
async def other() -> AsyncIterator[FlakyUpstream]:
    async with flaky_upstream("b") as started:
        yield started


def retries(*retry_on: str, **options: Any) -> RetryPolicy:
    options.setdefault("back_off_base_interval_s", 0.001)
    return RetryPolicy(retry_on=frozenset(retry_on), **options)


async def silence(exchange: Exchange) -> None:
    await asyncio.Event().wait()


async def hang_up(exchange: Exchange) -> None:
    exchange.writer.close()
    raise ConnectionResetError


async def fail(exchange: Exchange) -> None:
    exchange.answer(503, b"broken")


class TestForwarding:
    async def test_a_response_passes_and_what_happened_is_noted(
        self, start: Start, upstream: FlakyUpstream
    ) -> None:
        proxy = await start(static_cluster(upstream.endpoint))
        proxy.use(route(prefix(), to("up"), name="default"))
        request = make_request(b"/p?q=1")
        assert await proxy.ask(request) == (200, b"a")
        info = request.info
        assert (info.cluster, info.route_name, info.attempts) == ("up", "default", 1)
        assert info.upstream_address == upstream.endpoint.address
        assert info.upstream_service_time_s > 0
        assert upstream.exchanges[0].path == b"/p?q=1"

    async def test_connections_are_kept_and_used_again(self, start: Start, upstream: FlakyUpstream) -> None:
        proxy = await start(static_cluster(upstream.endpoint))
        proxy.use(to("up"))
        for _ in range(5):
            await proxy.ask()
        assert upstream.connections_total == 1
        assert proxy.clusters.get("up").stats.upstream_cx_total == 1

    async def test_weights_divide_the_requests(
        self, start: Start, upstream: FlakyUpstream, other: FlakyUpstream
    ) -> None:
        proxy = await start(
            static_cluster(upstream.endpoint, name="v1"), static_cluster(other.endpoint, name="v2")
        )
        weighted = (WeightedCluster(name="v1", weight=90), WeightedCluster(name="v2", weight=10))
        proxy.use(ForwardAction(clusters=weighted))
        counted = Counter([(await proxy.ask())[1] for _ in range(300)])
        assert counted[b"a"] == pytest.approx(270, abs=16)  # 3 sigma

    async def test_weights_hold_over_tens_of_requests_not_just_thousands(
        self, start: Start, upstream: FlakyUpstream, other: FlakyUpstream
    ) -> None:
        proxy = await start(
            static_cluster(upstream.endpoint, name="v1"), static_cluster(other.endpoint, name="v2")
        )
        weighted = (WeightedCluster(name="v1", weight=90), WeightedCluster(name="v2", weight=10))
        proxy.use(ForwardAction(clusters=weighted))
        counted = Counter([(await proxy.ask())[1] for _ in range(50)])
        assert counted[b"b"] == pytest.approx(5, abs=2)

    async def test_a_missing_cluster_gets_the_status_that_the_route_gives_it(self, start: Start) -> None:
        proxy = await start()
        proxy.use(to("nope", cluster_not_found_status=404))
        request = make_request()
        assert await proxy.ask(request) == (404, b"cluster not found; NC: the cluster 'nope' does not exist")
        assert (request.info.flags, request.info.details) == ("NC", "cluster_not_found")

    async def test_a_cluster_that_a_header_makes_up_is_not_counted_under(self, start: Start) -> None:
        proxy = await start()
        proxy.use(ForwardAction(cluster_header="x-cluster"))
        request = make_request(headers=[(b"x-cluster", b"made-up")])
        assert (await proxy.ask(request))[0] == 503
        assert (request.info.cluster, request.info.flags) == ("", "NC")

    async def test_a_cluster_without_hosts_is_unhealthy(self, start: Start) -> None:
        proxy = await start(static_cluster())
        proxy.use(to("up"))
        request = make_request()
        assert await proxy.ask(request) == (503, b"no healthy upstream")
        assert request.info.flags == "UH"

    async def test_a_host_that_refuses_is_named_as_the_fault(
        self, start: Start, unused_tcp_port: int
    ) -> None:
        proxy = await start(static_cluster(at_port(unused_tcp_port)))
        proxy.use(to("up"))
        request = make_request()
        assert (await proxy.send(request)).status == 503
        assert request.info.flags == "UF"
        assert request.info.upstream_failure == "delayed connect error: Connection refused"
        assert proxy.clusters.get("up").stats.upstream_cx_connect_fail == 1

    async def test_an_upstream_that_speaks_http2_alone_is_not_spoken_to_in_http1(
        self, start: Start, upstream: FlakyUpstream
    ) -> None:
        proxy = await start(static_cluster(upstream.endpoint, http_version=HttpVersion.HTTP2))
        proxy.use(to("up"))
        status, body = await proxy.ask()
        assert status == 503
        assert b"HTTP/2" in body
        assert not upstream.connections_total

    async def test_the_hosts_name_becomes_the_authority(self, start: Start, upstream: FlakyUpstream) -> None:
        proxy = await start(static_cluster(upstream.endpoint))
        proxy.use(to("up", auto_host_rewrite=True))
        await proxy.ask()
        assert (b"host", b"a") in upstream.exchanges[0].headers


class TestRetries:
    async def test_a_failing_host_is_hidden_by_another(
        self, start: Start, upstream: FlakyUpstream, other: FlakyUpstream
    ) -> None:
        upstream.behave = fail
        proxy = await start(static_cluster(upstream.endpoint, other.endpoint))
        policy = retries("5xx", num_retries=2, previous_hosts=True, host_selection_max_attempts=5)
        proxy.use(to("up", retry_policy=policy), include_request_attempt_count=True)
        answers = [await proxy.ask() for _ in range(10)]
        assert answers == [(200, b"b")] * 10
        stats = proxy.clusters.get("up").stats
        assert stats.upstream_rq_retry == stats.upstream_rq_retry_success == len(upstream.exchanges) > 0
        attempts = Counter(dict(exchange.headers)[b"x-envoy-attempt-count"] for exchange in other.exchanges)
        assert attempts == Counter({b"1": 10 - len(upstream.exchanges), b"2": len(upstream.exchanges)})

    async def test_a_host_that_answered_an_error_is_not_the_next_choice(
        self, start: Start, upstream: FlakyUpstream, other: FlakyUpstream
    ) -> None:
        upstream.behave = fail
        policy = retries("5xx", num_retries=1, previous_hosts=True, host_selection_max_attempts=100)
        cluster = static_cluster(upstream.endpoint, other.endpoint, lb_policy=LbPolicy.RANDOM)
        proxy = await start(cluster)
        proxy.use(to("up", retry_policy=policy))
        assert [await proxy.ask() for _ in range(40)] == [(200, b"b")] * 40

    async def test_when_the_retries_are_used_up_the_last_answer_counts(
        self, start: Start, upstream: FlakyUpstream
    ) -> None:
        upstream.behave = fail
        proxy = await start(static_cluster(upstream.endpoint))
        proxy.use(to("up", retry_policy=retries("5xx", num_retries=2)))
        request = make_request()
        assert await proxy.ask(request) == (503, b"broken")
        assert len(upstream.exchanges) == request.info.attempts == 3
        assert request.info.flags == "URX"

    async def test_without_a_policy_an_error_is_passed_on(
        self, start: Start, upstream: FlakyUpstream
    ) -> None:
        upstream.behave = fail
        proxy = await start(static_cluster(upstream.endpoint))
        proxy.use(to("up"))
        assert await proxy.ask() == (503, b"broken")
        assert len(upstream.exchanges) == 1

    async def test_a_streaming_body_is_sent_again_from_its_beginning(
        self, start: Start, upstream: FlakyUpstream
    ) -> None:
        async def fail_once(exchange: Exchange) -> None:
            exchange.answer(503 if len(upstream.exchanges) == 1 else 200, exchange.body)

        upstream.behave = fail_once
        proxy = await start(static_cluster(upstream.endpoint))
        proxy.use(to("up", retry_policy=retries("5xx")))
        body = BodyStream()
        for chunk in (b"abc", b"def"):
            body.feed(chunk)
        body.feed_end()
        assert await proxy.ask(make_request(method=b"POST", body=body)) == (200, b"abcdef")
        assert [exchange.body for exchange in upstream.exchanges] == [b"abcdef", b"abcdef"]

    @pytest.mark.parametrize(("size", "limit"), [(1_100_000, {}), (5000, {"replay_limit_bytes": 1000})])
    @pytest.mark.parametrize("streaming", [True, False])
    async def test_a_body_that_outgrew_the_buffer_is_not_sent_again(
        self, start: Start, upstream: FlakyUpstream, size: int, limit: dict[str, int], streaming: bool
    ) -> None:
        upstream.behave = fail
        proxy = await start(static_cluster(upstream.endpoint))
        proxy.use(to("up", retry_policy=retries("5xx"), **limit))
        body: Body | bytes = b"x" * size
        if streaming:
            body = BodyStream()
            body.feed(b"x" * size)
            body.feed_end()
        assert await proxy.ask(make_request(method=b"POST", body=body)) == (503, b"broken")
        assert len(upstream.exchanges) == 1
        assert proxy.clusters.get("up").stats.retry_or_shadow_abandoned == 1

    async def test_an_idle_connection_that_was_just_closed_costs_an_idempotent_request_nothing(
        self, start: Start, upstream: FlakyUpstream
    ) -> None:
        async def hang_up_when_reused(exchange: Exchange) -> None:
            if len(upstream.exchanges) == 2:
                await hang_up(exchange)
            await upstream.answer_with_name(exchange)

        upstream.behave = hang_up_when_reused
        proxy = await start(static_cluster(upstream.endpoint))
        proxy.use(to("up"))
        assert [await proxy.ask() for _ in range(2)] == [(200, b"a")] * 2
        assert len(upstream.exchanges) == 3

    async def test_a_post_that_may_have_been_processed_is_never_repeated(
        self, start: Start, upstream: FlakyUpstream
    ) -> None:
        async def hang_up_when_reused(exchange: Exchange) -> None:
            if len(upstream.exchanges) > 1:
                await hang_up(exchange)
            await upstream.answer_with_name(exchange)

        upstream.behave = hang_up_when_reused
        proxy = await start(static_cluster(upstream.endpoint))
        proxy.use(to("up"))
        await proxy.ask()
        request = make_request(method=b"POST", body=b"pay")
        assert (await proxy.send(request)).status == 503
        assert request.info.flags == "UC"
        assert len(upstream.exchanges) == 2

    async def test_an_idle_connection_whose_eof_was_seen_is_not_used(
        self, start: Start, upstream: FlakyUpstream
    ) -> None:
        proxy = await start(static_cluster(upstream.endpoint))
        proxy.use(to("up"))
        await proxy.ask()
        upstream.close_connections()
        stats = proxy.clusters.get("up").stats
        await eventually(lambda: stats.upstream_cx_active == 0)
        assert (await proxy.ask(make_request(method=b"POST", body=b"pay")))[0] == 200
        assert stats.upstream_rq_retry == 0

    async def test_a_budget_bounds_the_retries(self, start: Start, upstream: FlakyUpstream) -> None:
        upstream.behave = fail
        proxy = await start(
            static_cluster(upstream.endpoint, circuit_breakers=CircuitBreakers(max_retries=0))
        )
        proxy.use(to("up", retry_policy=retries("5xx", num_retries=5)))
        request = make_request()
        assert await proxy.ask(request) == (503, b"broken")
        assert len(upstream.exchanges) == 1
        assert request.info.flags == "UO"
        assert proxy.clusters.get("up").stats.upstream_rq_retry_overflow == 1


class TestTimeouts:
    async def test_the_routes_timeout_ends_the_request(self, start: Start, upstream: FlakyUpstream) -> None:
        upstream.behave = silence
        proxy = await start(static_cluster(upstream.endpoint))
        proxy.use(to("up", timeout_s=0.05))
        request = make_request()
        response = await proxy.send(request)
        assert (response.status, request.info.flags) == (504, "UT")
        assert (b"x-envoy-expected-rq-timeout-ms", b"50") in upstream.exchanges[0].headers
        cluster = proxy.clusters.get("up")
        assert cluster.stats.upstream_rq_timeout == 1
        await eventually(lambda: cluster.stats.upstream_cx_active == 0)

    async def test_an_attempt_that_takes_too_long_is_retried(
        self, start: Start, upstream: FlakyUpstream
    ) -> None:
        async def slow_once(exchange: Exchange) -> None:
            if len(upstream.exchanges) == 1:
                await silence(exchange)
            await upstream.answer_with_name(exchange)

        upstream.behave = slow_once
        proxy = await start(static_cluster(upstream.endpoint))
        proxy.use(to("up", retry_policy=retries("5xx", per_try_timeout_s=0.05)))
        assert await proxy.ask() == (200, b"a")
        assert proxy.clusters.get("up").stats.upstream_rq_per_try_timeout == 1

    async def test_the_timeout_covers_a_body_that_drips(self, start: Start, upstream: FlakyUpstream) -> None:
        async def drip(exchange: Exchange) -> None:
            exchange.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc")
            await silence(exchange)

        upstream.behave = drip
        proxy = await start(static_cluster(upstream.endpoint))
        proxy.use(to("up", timeout_s=0.05))
        response = await proxy.send()
        with pytest.raises(Exception, match="within the route's timeout"):
            await read_all(response.body)

    async def test_the_time_runs_from_when_the_client_has_sent_all(
        self, start: Start, upstream: FlakyUpstream
    ) -> None:
        """Nobody reads the second request: it waits for the only connection."""
        upstream.behave = silence
        breakers = CircuitBreakers(max_connections=1)
        proxy = await start(static_cluster(upstream.endpoint, circuit_breakers=breakers))
        proxy.use(to("up", timeout_s=0.0))
        first = asyncio.create_task(proxy.ask())
        await eventually(lambda: len(upstream.exchanges) == 1)
        proxy.use(to("up", timeout_s=0.05))
        body = BodyStream()
        second = asyncio.create_task(proxy.ask(make_request(method=b"POST", body=body)))
        await eventually(lambda: proxy.clusters.get("up").stats.upstream_rq_pending_active == 1)
        body.feed(b"hello")
        body.feed_end()
        assert (await asyncio.wait_for(second, 5))[0] == 504
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)

    async def test_an_upload_may_take_longer_than_the_timeout(
        self, start: Start, upstream: FlakyUpstream
    ) -> None:
        proxy = await start(static_cluster(upstream.endpoint))
        proxy.use(to("up", timeout_s=0.05))
        body = BodyStream()
        asking = asyncio.create_task(proxy.ask(make_request(method=b"POST", body=body)))
        body.feed(b"first")
        await proxy.timers.sleep(0.1)
        body.feed(b"last")
        body.feed_end()
        assert await asking == (200, b"a")


class TestCircuitBreakers:
    async def test_requests_beyond_the_maximum_overflow_until_a_body_has_ended(
        self, start: Start, upstream: FlakyUpstream
    ) -> None:
        finish = asyncio.Event()

        async def half(exchange: Exchange) -> None:
            exchange.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab")
            await finish.wait()
            exchange.writer.write(b"cd")

        upstream.behave = half
        proxy = await start(
            static_cluster(upstream.endpoint, circuit_breakers=CircuitBreakers(max_requests=1))
        )
        proxy.use(to("up"))
        streaming = await proxy.send()
        request = make_request()
        assert (await proxy.send(request)).status == 503
        assert request.info.flags == "UO"
        finish.set()
        assert await read_all(streaming.body) == b"abcd"
        assert (await proxy.ask())[0] == 200

    async def test_requests_wait_for_a_connection_in_bounded_number(
        self, start: Start, upstream: FlakyUpstream
    ) -> None:
        release = asyncio.Event()

        async def wait(exchange: Exchange) -> None:
            await release.wait()
            await upstream.answer_with_name(exchange)

        upstream.behave = wait
        breakers = CircuitBreakers(max_connections=1, max_pending_requests=1)
        proxy = await start(static_cluster(upstream.endpoint, circuit_breakers=breakers))
        proxy.use(to("up"))
        first = asyncio.create_task(proxy.ask())
        await eventually(lambda: len(upstream.exchanges) == 1)
        waiting = asyncio.create_task(proxy.ask())
        await eventually(lambda: proxy.clusters.get("up").stats.upstream_rq_pending_active == 1)
        assert (await proxy.ask())[0] == 503
        release.set()
        assert (await first, await waiting) == ((200, b"a"), (200, b"a"))
        assert upstream.connections_total == 1

    async def test_a_host_that_keeps_failing_is_ejected_and_the_log_says_so(
        self, start: Start, upstream: FlakyUpstream, other: FlakyUpstream, caplog: pytest.LogCaptureFixture
    ) -> None:
        upstream.behave = fail
        detection = OutlierDetection(consecutive_5xx=3, max_ejection_percent=50)
        proxy = await start(static_cluster(upstream.endpoint, other.endpoint, outlier_detection=detection))
        proxy.use(to("up"))
        answers = Counter([(await proxy.ask())[0] for _ in range(30)])
        assert answers == {503: 3, 200: 27}
        (line,) = [record.getMessage() for record in caplog.records if "ejected" in record.getMessage()]
        assert f"cluster up: {upstream.endpoint.address} is ejected" in line
        assert "503" in line


class TestCancellation:
    async def test_a_cancelled_request_gives_everything_back(
        self, start: Start, upstream: FlakyUpstream
    ) -> None:
        upstream.behave = silence
        proxy = await start(static_cluster(upstream.endpoint))
        proxy.use(to("up"))
        asking = asyncio.create_task(proxy.ask())
        await eventually(lambda: len(upstream.exchanges) == 1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        stats = proxy.clusters.get("up").stats
        assert stats.upstream_rq_cancelled == 1
        assert stats.upstream_cx_active == 0, "its connection cannot be used again"

    async def test_a_cancelled_waiter_leaves_its_place_to_the_next(
        self, start: Start, upstream: FlakyUpstream
    ) -> None:
        release = asyncio.Event()

        async def wait(exchange: Exchange) -> None:
            await release.wait()
            await upstream.answer_with_name(exchange)

        upstream.behave = wait
        breakers = CircuitBreakers(max_connections=1)
        proxy = await start(static_cluster(upstream.endpoint, circuit_breakers=breakers))
        proxy.use(to("up"))
        first, given_up, last = (asyncio.create_task(proxy.ask()) for _ in range(3))
        stats = proxy.clusters.get("up").stats
        await eventually(lambda: stats.upstream_rq_pending_active == 2)
        given_up.cancel()
        release.set()
        assert (await first, await last) == ((200, b"a"), (200, b"a"))
        assert given_up.cancelled()

    async def test_a_body_left_half_read_ends_the_exchange(
        self, start: Start, upstream: FlakyUpstream
    ) -> None:
        async def half(exchange: Exchange) -> None:
            exchange.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab")
            await silence(exchange)

        upstream.behave = half
        proxy = await start(static_cluster(upstream.endpoint))
        proxy.use(to("up"))
        response = await proxy.send()
        assert not isinstance(response.body, bytes)
        await response.body.read()
        response.body.close()
        assert proxy.clusters.get("up").stats.upstream_cx_active == 0


class TestUpdates:
    async def test_a_removed_cluster_finishes_what_it_began(
        self, start: Start, upstream: FlakyUpstream
    ) -> None:
        release = asyncio.Event()

        async def wait(exchange: Exchange) -> None:
            await release.wait()
            await upstream.answer_with_name(exchange)

        upstream.behave = wait
        proxy = await start(static_cluster(upstream.endpoint))
        proxy.use(to("up"))
        stats = proxy.clusters.get("up").stats
        asking = asyncio.create_task(proxy.ask())
        await eventually(lambda: len(upstream.exchanges) == 1)
        proxy.clusters.update(snapshot())
        assert (await proxy.ask())[0] == 503
        release.set()
        assert await asking == (200, b"a")
        await eventually(lambda: stats.upstream_cx_active == 0)

    async def test_an_idle_connection_is_closed_in_time(self, start: Start, upstream: FlakyUpstream) -> None:
        proxy = await start(static_cluster(upstream.endpoint, idle_timeout_s=0.05))
        proxy.use(to("up"))
        await proxy.ask()
        stats = proxy.clusters.get("up").stats
        assert stats.upstream_cx_active == 1
        await eventually(lambda: stats.upstream_cx_active == 0)
        assert stats.upstream_cx_idle_timeout == 1


class TestTunnels:
    async def test_a_websocket_passes_both_ways(self, start: Start, upstream: FlakyUpstream) -> None:
        async def upgrade(exchange: Exchange) -> None:
            exchange.writer.write(SWITCH + b"hello ")

        upstream.behave = upgrade
        proxy = await start(static_cluster(upstream.endpoint))
        proxy.use(to("up"))
        request = make_request(body=BodyStream())
        request.upgrade = b"websocket"
        response = await proxy.send(request)
        assert (response.status, response.upgraded) == (101, True)
        assert not isinstance(response.body, bytes)
        assert await response.body.read() == b"hello "
        response.body.close()

    async def test_an_upstream_that_breaks_a_websocket_takes_no_more_of_the_clients_bytes(
        self, start: Start, upstream: FlakyUpstream
    ) -> None:
        async def upgrade(exchange: Exchange) -> None:
            exchange.writer.write(SWITCH)
            await exchange.writer.drain()
            exchange.writer.transport.abort()

        upstream.behave = upgrade
        proxy = await start(static_cluster(upstream.endpoint))
        proxy.use(to("up"))
        body = BodyStream()
        request = make_request(body=body)
        request.upgrade = b"websocket"
        response = await proxy.send(request)
        body.feed(bytes(1_000_000))
        await asyncio.wait_for(body.left(), 5)
        assert not body.ended
        assert not isinstance(response.body, bytes)
        response.body.close()

    async def test_an_upgrade_is_tried_again_until_it_is_a_tunnel(
        self, start: Start, upstream: FlakyUpstream
    ) -> None:
        async def refuse_once(exchange: Exchange) -> None:
            if len(upstream.exchanges) == 1:
                exchange.answer(503)
            else:
                exchange.writer.write(SWITCH)

        upstream.behave = refuse_once
        proxy = await start(static_cluster(upstream.endpoint))
        proxy.use(to("up"), retry_policy=retries("5xx"))
        request = make_request(body=BodyStream())
        request.upgrade = b"websocket"
        response = await proxy.send(request)
        assert (response.status, response.upgraded) == (101, True)
        assert not isinstance(response.body, bytes)
        response.body.close()

    async def test_connect_is_terminated_and_its_payload_goes_out_as_tcp(self, start: Start) -> None:
        async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write((await reader.read(100)).upper())
            await reader.read()  # until the client's end of it
            writer.write(b"!")
            writer.close()

        server = await asyncio.start_server(shout, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            proxy = await start(static_cluster(at_port(port)))
            connect = RouteMatch(path_kind=PathMatchKind.CONNECT)
            proxy.use(route(connect, to("up", terminate_connect=True)))
            body = BodyStream()
            request = make_request(b"", method=b"CONNECT", authority=b"any:443", body=body)
            request.upgrade = b"connect"
            response = await proxy.send(request)
            assert (response.status, response.upgraded) == (200, True)
            body.feed(b"abc")
            assert not isinstance(response.body, bytes)
            assert await response.body.read() == b"ABC"
            body.feed_end()
            assert await read_all(response.body) == b"!"
            stats = proxy.clusters.get("up").stats
            await eventually(lambda: stats.upstream_cx_active == 0)
            assert proxy.clusters.get("up").breaker.connections == 0

    async def test_a_client_that_leaves_its_tunnel_closes_the_other_end(self, start: Start) -> None:
        gone = asyncio.Event()

        async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.read()
            finally:
                writer.close()
                gone.set()

        server = await asyncio.start_server(listen, "127.0.0.1", 0)
        async with server:
            proxy = await start(static_cluster(at_port(server.sockets[0].getsockname()[1])))
            connect = RouteMatch(path_kind=PathMatchKind.CONNECT)
            proxy.use(route(connect, to("up", terminate_connect=True)))
            body = BodyStream()
            request = make_request(b"", method=b"CONNECT", authority=b"any:443", body=body)
            request.upgrade = b"connect"
            await proxy.send(request)
            body.fail(UpstreamResetError("the client is gone"))
            await asyncio.wait_for(gone.wait(), 5)


class TestOriginalDestination:
    PASSTHROUGH = ClusterConfig(name="PassthroughCluster", discovery=Discovery.ORIGINAL_DST)

    async def test_the_authority_of_a_proxy_request_is_where_it_goes(
        self, start: Start, upstream: FlakyUpstream
    ) -> None:
        proxy = await start(self.PASSTHROUGH)
        proxy.use(to("PassthroughCluster"))
        authority = str(upstream.endpoint.address).encode()
        assert await proxy.ask(make_request(authority=authority)) == (200, b"a")
        assert await proxy.ask(make_request(authority=authority)) == (200, b"a")
        assert upstream.connections_total == 1
        assert len(proxy.clusters.get("PassthroughCluster").hosts) == 1

    async def test_a_request_back_into_this_proxy_is_refused(
        self, start: Start, upstream: FlakyUpstream
    ) -> None:
        proxy = await start(
            self.PASSTHROUGH, is_own_listener=lambda address: address == upstream.endpoint.address
        )
        proxy.use(to("PassthroughCluster"))
        request = make_request(authority=str(upstream.endpoint.address).encode())
        assert (await proxy.send(request)).status == 503
        assert request.info.flags == "UH"
        assert "loop" in request.info.upstream_failure
        assert upstream.connections_total == 0
