"""Retries, timeouts and circuit breakers, over real sockets against a flaky upstream."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

from controlplane.networking.routes import DEFAULT_RETRY_ON
from sidecar.config.cluster import (
    CircuitBreakers,
    LbPolicy,
    OutlierDetection,
)
from sidecar.http.body import Body, BodyStream
from tests.support.bodies import read_all
from tests.support.clusters import static_cluster
from tests.support.flaky_upstream import Exchange, FlakyUpstream, flaky_upstream
from tests.support.identities import MESH_CLIENT, MESH_SERVER, TestTrustDomain
from tests.support.listening import eventually
from tests.support.requests import make_request
from tests.support.routed_proxy import Start, fail, hang_up, retries, silence
from tests.support.routes import to


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

    async def test_a_host_whose_certificate_has_expired_is_hidden_by_another(self, start: Start) -> None:
        """As for Envoy, a handshake that fails is a ``connect-failure``."""
        domain = TestTrustDomain()
        an_hour_ago = TestTrustDomain(lifetime_s=1800, clock=lambda: time.time() - 3600, sharing=domain)
        client, expired = domain.contexts(), an_hour_ago.contexts()
        async with (
            flaky_upstream("a", tls=expired.server(MESH_SERVER)) as bad,
            flaky_upstream("b", tls=client.server(MESH_SERVER)) as good,
        ):
            proxy = await start(static_cluster(bad.endpoint, good.endpoint, tls=MESH_CLIENT), tls=client)
            policy = retries(*DEFAULT_RETRY_ON.split(","), num_retries=2, previous_hosts=True)
            proxy.use(to("up", retry_policy=policy))
            assert [await proxy.ask() for _ in range(6)] == [(200, b"b")] * 6
            stats = proxy.clusters.get("up").stats
            assert stats.upstream_rq_retry == stats.upstream_rq_retry_success > 0
            assert stats.ssl__fail_verify_error == stats.upstream_rq_retry

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
    async def test_the_upstream_is_told_the_timeout_and_no_other(
        self, start: Start, upstream: FlakyUpstream
    ) -> None:
        """A filter may have set the header, and so has the first attempt when the second begins."""
        upstream.behave = fail
        proxy = await start(static_cluster(upstream.endpoint))
        proxy.use(to("up", timeout_s=20.0, retry_policy=retries("5xx", num_retries=1)))
        request = make_request(headers=[(b"x-envoy-expected-rq-timeout-ms", b"1")])
        request.resolver = lambda request: None  # the chain has filters
        await proxy.ask(request)
        said = [
            [value for name, value in exchange.headers if name == b"x-envoy-expected-rq-timeout-ms"]
            for exchange in upstream.exchanges
        ]
        assert [len(values) for values in said] == [1, 1]
        assert said[0] == [b"20000"]

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
        """The second request is not read: it waits for the only connection."""
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
        """Another request, which begins later, times out before the upload has ended."""
        proxy = await start(static_cluster(upstream.endpoint))
        proxy.use(to("up", timeout_s=0.05))
        body = BodyStream()
        asking = asyncio.create_task(proxy.ask(make_request(method=b"POST", body=body)))
        body.feed(b"first")
        await eventually(lambda: upstream.connections_total == 1)
        upstream.behave = silence
        assert (await proxy.ask())[0] == 504
        upstream.behave = upstream.answer_with_name
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
        release = upstream.hold()
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
