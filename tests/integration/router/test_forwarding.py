"""The filter chain, the router and the upstream side over real sockets, against a flaky upstream."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from sidecar.config.cluster import CircuitBreakers
from sidecar.config.route import (
    ForwardAction,
    WeightedCluster,
)
from tests.support.clusters import at_port, snapshot, static_cluster
from tests.support.flaky_upstream import Exchange, FlakyUpstream
from tests.support.listening import eventually
from tests.support.requests import make_request
from tests.support.routed_proxy import Start, silence
from tests.support.routes import prefix, route, to


class TestForwarding:
    async def test_a_response_passes_and_is_recorded(self, start: Start, upstream: FlakyUpstream) -> None:
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

    async def test_the_hosts_name_becomes_the_authority(self, start: Start, upstream: FlakyUpstream) -> None:
        proxy = await start(static_cluster(upstream.endpoint))
        proxy.use(to("up", auto_host_rewrite=True))
        await proxy.ask()
        assert (b"host", b"a") in upstream.exchanges[0].headers


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
        assert stats.upstream_rq_tx_reset == 1
        assert stats.upstream_cx_active == 0, "its connection cannot be used again"

    async def test_a_cancelled_waiter_leaves_its_place_to_the_next(
        self, start: Start, upstream: FlakyUpstream
    ) -> None:
        release = upstream.hold()
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
    async def test_a_removed_cluster_finishes_its_requests(
        self, start: Start, upstream: FlakyUpstream
    ) -> None:
        release = upstream.hold()
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
