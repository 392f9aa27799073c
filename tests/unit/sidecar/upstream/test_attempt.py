from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sidecar.config.cluster import CircuitBreakers, ClusterConfig, Discovery, OutlierDetection
from sidecar.config.endpoint import SocketAddress
from sidecar.errors import (
    DownstreamDisconnectError,
    NoHealthyUpstreamError,
    UpstreamConnectError,
    UpstreamError,
    UpstreamOverflowError,
    UpstreamPerTryTimeoutError,
    UpstreamProtocolError,
    UpstreamResetError,
    UpstreamTimeoutError,
)
from sidecar.grpc_status import NO_STATUS
from sidecar.observability.stream_info import StreamInfo
from sidecar.upstream.attempt import Attempt
from sidecar.upstream.cluster import Cluster
from sidecar.upstream.cluster_manager import ClusterManager
from sidecar.upstream.load_balancer.context import PickContext
from tests.support.clusters import at_port, cluster_manager, snapshot, static_cluster
from tests.support.fake_network import FakeNetwork
from tests.support.requests import connection_with, make_request

EJECT_AT_ONCE = OutlierDetection(consecutive_5xx=1, max_ejection_percent=100)


@asynccontextmanager
async def clusters(
    config: ClusterConfig, *, capacity: int = 1
) -> AsyncIterator[tuple[ClusterManager, FakeNetwork]]:
    network = FakeNetwork(capacity=capacity)
    async with cluster_manager(
        config, connection_factory=lambda codec_type, client: network.codec, loop=network
    ) as manager:
        yield manager, network


def begin(cluster: Cluster, info: StreamInfo | None = None) -> Attempt:
    return cluster.begin_attempt(PickContext(), info or make_request().info)


async def send(attempt: Attempt) -> None:
    if not attempt.checkout():
        await attempt.wait_for_connection()
    await attempt.send("a request")


def active(cluster: Cluster) -> set[int]:
    """All counts of active requests, which agree."""
    return {
        cluster.breaker.requests.count,
        cluster.stats.upstream_rq_active,
        sum(host.stats.rq_active for host in cluster.hosts.values()),
    }


async def test_a_request_is_active_from_its_connection_to_the_end_of_its_response() -> None:
    async with clusters(static_cluster(at_port(1))) as (manager, network):
        cluster = manager.get("up")
        attempt = begin(cluster)
        assert not attempt.checkout()
        assert active(cluster) == {0}
        await attempt.wait_for_connection()
        assert active(cluster) == {1}
        await attempt.send("a request")
        network.connections[0].end_exchange()
        attempt.responded(200, 0.1, False)
        assert active(cluster) == {1}
        attempt.end()
        attempt.end()
        assert active(cluster) == {0}
        assert begin(cluster).checkout(), "the connection serves the next one"


async def test_an_attempt_notes_where_it_goes() -> None:
    info = make_request().info
    async with clusters(static_cluster(at_port(1))) as (manager, _):
        attempt = begin(manager.get("up"), info)
        assert info.upstream_address == SocketAddress("127.0.0.1", 1)
        assert info.upstream_local_address is None
        await send(attempt)
        assert info.upstream_local_address == SocketAddress("10.0.0.1", 40000)


async def test_counters_tell_how_requests_went() -> None:
    async with clusters(static_cluster(at_port(1)), capacity=4) as (manager, _):
        cluster = manager.get("up")
        (host,) = cluster.hosts.values()
        for status in (200, 301, 404, 503):
            attempt = begin(cluster)
            await send(attempt)
            attempt.responded(status, 0.1, True)
        stats = cluster.stats
        assert (stats.upstream_rq_2xx, stats.upstream_rq_3xx) == (1, 1)
        assert (stats.upstream_rq_4xx, stats.upstream_rq_5xx) == (1, 1)
        assert (host.stats.rq_total, host.stats.rq_success, host.stats.rq_error) == (4, 3, 1)
        assert active(cluster) == {0}


@pytest.mark.parametrize(
    ("http_status", "ended", "in_head", "in_trailers", "succeeds", "ejects"),
    [
        (200, True, 0, None, True, False),
        (200, True, 5, None, True, False),
        (200, True, 14, None, False, True),
        (200, True, -1, None, False, True),
        (200, True, NO_STATUS, None, False, False),
        (503, True, NO_STATUS, None, False, True),
        (200, False, NO_STATUS, 0, True, False),
        (200, False, NO_STATUS, 13, False, True),
        (200, False, NO_STATUS, NO_STATUS, False, False),
    ],
)
async def test_a_grpc_call_judges_its_host_by_its_status(
    http_status: int, ended: bool, in_head: int, in_trailers: int | None, succeeds: bool, ejects: bool
) -> None:
    config = static_cluster(at_port(1), outlier_detection=EJECT_AT_ONCE)
    async with clusters(config) as (manager, _):
        cluster = manager.get("up")
        (host,) = cluster.hosts.values()
        attempt = begin(cluster)
        await send(attempt)
        waits = attempt.responded_to_call(http_status, 0.1, ended, in_head)
        assert waits is (in_trailers is not None)
        if in_trailers is not None:
            assert (host.stats.rq_success, host.stats.rq_error) == (0, 0)
            attempt.call_ended(in_trailers)
        attempt.end()
        assert (host.stats.rq_success, host.stats.rq_error) == (int(succeeds), int(not succeeds))
        assert host.monitor.ejected is ejects
        assert cluster.stats.upstream_rq_completed == 1


@pytest.mark.parametrize(
    ("error", "host_fails", "counted"),
    [
        (UpstreamResetError("reset"), True, {"upstream_rq_rx_reset": 1}),
        (UpstreamProtocolError("no HTTP"), True, {"upstream_rq_rx_reset": 1}),
        (UpstreamPerTryTimeoutError("slow"), True, {"upstream_rq_per_try_timeout": 1}),
        (UpstreamTimeoutError("slow"), True, {}),
        (asyncio.CancelledError(), False, {}),
        (DownstreamDisconnectError("gone"), False, {}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
async def test_a_failure_is_counted_and_charged_to_the_host_if_it_is_its_fault(
    error: BaseException, host_fails: bool, counted: dict[str, int]
) -> None:
    config = static_cluster(at_port(1), outlier_detection=EJECT_AT_ONCE)
    async with clusters(config, capacity=2) as (manager, _):
        cluster = manager.get("up")
        attempt = begin(cluster)
        await send(attempt)
        attempt.failed(error)
        assert active(cluster) == {0}
        assert attempt.host.ejected is host_fails
        assert attempt.host.stats.rq_error == host_fails
        names = ("upstream_rq_rx_reset", "upstream_rq_per_try_timeout", "upstream_rq_cancelled")
        assert {name: count for name in names if (count := getattr(cluster.stats, name))} == counted
        timeouts = (UpstreamTimeoutError, UpstreamPerTryTimeoutError)
        assert attempt.host.stats.rq_timeout == isinstance(error, timeouts)


async def test_a_request_that_is_given_up_before_it_has_a_connection_is_cancelled() -> None:
    async with clusters(static_cluster(at_port(1)), capacity=1) as (manager, _):
        cluster = manager.get("up")
        begin(cluster).failed(asyncio.CancelledError())
        assert cluster.stats.upstream_rq_cancelled == 1


async def test_an_error_tells_whether_the_connection_was_reused() -> None:
    reused = []
    async with clusters(static_cluster(at_port(1)), capacity=1) as (manager, network):
        for _ in range(2):
            attempt = begin(manager.get("up"))
            await send(attempt)
            network.connections[0].end_exchange()
            error: UpstreamError = UpstreamResetError("reset")
            attempt.failed(error)
            reused.append(error.connection_reused)
    assert reused == [False, True]


async def test_a_host_that_refuses_connections_fails_the_attempt() -> None:
    config = static_cluster(at_port(1), outlier_detection=EJECT_AT_ONCE)
    async with clusters(config) as (manager, network):
        network.refused.add(("127.0.0.1", 1))
        cluster = manager.get("up")
        attempt = begin(cluster)
        with pytest.raises(UpstreamConnectError) as raised:
            await attempt.wait_for_connection()
        attempt.failed(raised.value)
        assert attempt.host.ejected
        assert (attempt.host.stats.rq_error, attempt.host.stats.rq_total) == (1, 0)
        assert active(cluster) == {0}


async def test_a_request_beyond_the_limit_gives_its_connection_back() -> None:
    config = static_cluster(
        at_port(1), circuit_breakers=CircuitBreakers(max_requests=1), outlier_detection=EJECT_AT_ONCE
    )
    async with clusters(config, capacity=2) as (manager, network):
        cluster = manager.get("up")
        first = begin(cluster)
        await send(first)
        for _ in range(5):
            second = begin(cluster)
            with pytest.raises(UpstreamOverflowError) as raised:
                second.checkout()
            second.failed(raised.value)
        assert cluster.stats.upstream_rq_active_overflow == 5
        assert active(cluster) == {1}
        assert not first.host.ejected
        first.end()
        await send(begin(cluster))
        assert len(network.connections) == 1


async def test_an_attempt_that_is_cancelled_while_it_waits_is_not_counted() -> None:
    async with clusters(static_cluster(at_port(1))) as (manager, _):
        cluster = manager.get("up")
        attempt = begin(cluster)
        waiting = asyncio.create_task(attempt.wait_for_connection())
        await asyncio.sleep(0)
        assert cluster.breaker.pending_requests.count == 1
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError) as raised:
            await waiting
        attempt.failed(raised.value)
        assert cluster.breaker.pending_requests.count == 0
        assert active(cluster) == {0}


async def test_without_a_host_an_attempt_fails() -> None:
    async with clusters(static_cluster()) as (manager, _):
        with pytest.raises(NoHealthyUpstreamError):
            begin(manager.get("up"))
        assert manager.get("up").stats.upstream_cx_none_healthy == 1


async def test_an_attempt_goes_to_the_original_destination() -> None:
    address = SocketAddress("10.9.9.9", 8080)
    info = make_request(connection=connection_with(original_destination=address)).info
    async with clusters(ClusterConfig(name="up", discovery=Discovery.ORIGINAL_DST)) as (manager, _):
        attempt = await manager.get("up").begin_original_dst_attempt(info, b"ignored")
        await send(attempt)
        assert attempt.host.address == info.upstream_address == address


async def test_a_known_original_destination_needs_no_search() -> None:
    address = SocketAddress("10.9.9.9", 8080)
    info = make_request(connection=connection_with(original_destination=address)).info
    async with clusters(ClusterConfig(name="up", discovery=Discovery.ORIGINAL_DST)) as (manager, network):
        cluster = manager.get("up")
        assert cluster.begin_known_attempt(info) is None
        first = await cluster.begin_original_dst_attempt(info, b"")
        await send(first)
        network.connections[0].end_exchange()
        first.responded(200, 0.1, True)
        known = cluster.begin_known_attempt(info)
        assert known is not None
        assert known.checkout()
        assert info.upstream_address == address
        assert cluster.begin_known_attempt(make_request().info) is None


async def test_a_request_that_holds_a_removed_cluster_is_served_and_its_connection_closed() -> None:
    """A filter may have waited while the configuration changed."""
    other = static_cluster(at_port(2), name="other")
    async with clusters(static_cluster(at_port(1))) as (manager, network):
        cluster = manager.get("up")
        manager.update(snapshot(other))
        manager.update(snapshot())
        attempt = begin(cluster)
        await send(attempt)
        (connection,) = network.connections
        connection.end_exchange()
        assert connection.closed
        attempt.responded(200, 0.1, True)
        await send(begin(cluster))
    assert [connection.closed for connection in network.connections] == [True, True]


async def test_a_removed_cluster_keeps_no_connection_to_a_new_original_destination() -> None:
    address = SocketAddress("10.9.9.9", 8080)
    info = make_request(connection=connection_with(original_destination=address)).info
    async with clusters(ClusterConfig(name="up", discovery=Discovery.ORIGINAL_DST)) as (manager, network):
        cluster = manager.get("up")
        manager.update(snapshot())
        await send(await cluster.begin_original_dst_attempt(info, b""))
        network.connections[0].end_exchange()
        assert network.connections[0].closed
