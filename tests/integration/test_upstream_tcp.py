"""Raw TCP connections to a cluster's hosts, as the TCP proxy opens them."""

from __future__ import annotations

import asyncio
import socket

import pytest

from sidecar.config.cluster import CircuitBreakers, ClusterConfig, Discovery, OutlierDetection, TcpKeepalive
from sidecar.config.endpoint import Endpoint, SocketAddress
from sidecar.errors import NoHealthyUpstreamError, UpstreamConnectError, UpstreamOverflowError
from sidecar.observability.stream_info import DownstreamConnection, StreamInfo
from sidecar.upstream.load_balancer.context import PickContext
from tests.support.clusters import at_port, cluster_manager, static_cluster
from tests.support.flaky_upstream import flaky_upstream
from tests.support.listening import as_soon_as
from tests.support.requests import CONNECTION


def info(connection: DownstreamConnection = CONNECTION) -> StreamInfo:
    return StreamInfo(connection, 0.0, 0.0)


async def test_a_connection_is_counted_until_it_is_released() -> None:
    async with flaky_upstream() as upstream:
        config = static_cluster(upstream.endpoint, circuit_breakers=CircuitBreakers(max_connections=1))
        async with cluster_manager(config) as manager:
            cluster = manager.get("up")
            about = info()
            opened = await cluster.connect_tcp(asyncio.Protocol, about)
            assert about.upstream_address == upstream.endpoint.address
            with pytest.raises(UpstreamOverflowError):
                await cluster.connect_tcp(asyncio.Protocol, info())
            assert (opened.host.stats.cx_active, cluster.stats.upstream_cx_overflow) == (1, 1)
            opened.transport.abort()
            opened.release()
            opened.release()
            assert (opened.host.stats.cx_active, cluster.stats.upstream_cx_active) == (0, 0)
            again = await cluster.connect_tcp(asyncio.Protocol, info())
            again.transport.abort()
            again.release()


async def test_hosts_that_refuse_are_ejected(unused_tcp_port: int) -> None:
    detection = OutlierDetection(consecutive_5xx=2, max_ejection_percent=50)
    async with (
        flaky_upstream() as upstream,
        cluster_manager(
            static_cluster(at_port(unused_tcp_port), upstream.endpoint, outlier_detection=detection)
        ) as manager,
    ):
        cluster = manager.get("up")
        failures = []
        for _ in range(10):
            try:
                opened = await cluster.connect_tcp(asyncio.Protocol, info())
            except UpstreamConnectError as error:
                failures.append(str(error))
            else:
                opened.transport.abort()
                opened.release()
        assert failures == ["delayed connect error: Connection refused"] * 2
        assert cluster.breaker.connections.count == 0


async def test_no_host_to_connect_to() -> None:
    async with cluster_manager(static_cluster()) as manager:
        with pytest.raises(NoHealthyUpstreamError):
            await manager.get("up").connect_tcp(asyncio.Protocol, info())


async def test_a_redirected_connection_goes_on_to_where_it_was_going() -> None:
    async with flaky_upstream() as upstream:
        config = ClusterConfig(name="PassthroughCluster", discovery=Discovery.ORIGINAL_DST)
        redirected = DownstreamConnection(
            id=1,
            remote_address=SocketAddress("127.0.0.1", 40000),
            local_address=SocketAddress("127.0.0.1", 15001),
            original_destination=upstream.endpoint.address,
        )
        async with cluster_manager(config) as manager:
            opened = await manager.get("PassthroughCluster").connect_tcp(asyncio.Protocol, info(redirected))
            assert opened.transport.get_extra_info("peername") == ("127.0.0.1", upstream.port)
            opened.transport.abort()
            opened.release()


async def test_keepalive_and_source_address_are_applied() -> None:
    async with flaky_upstream() as upstream:
        config = static_cluster(
            upstream.endpoint,
            tcp_keepalive=TcpKeepalive(probes=3, time_s=7),
            source_addresses=("::6", "127.0.0.6"),
        )
        async with cluster_manager(config) as manager:
            opened = await manager.get("up").connect_tcp(asyncio.Protocol, info())
            connection = opened.transport.get_extra_info("socket")
            assert connection.getsockname()[0] == "127.0.0.6"

            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 7
            opened.transport.abort()
            opened.release()


@pytest.mark.parametrize("keepalive", [TcpKeepalive(probes=1000), TcpKeepalive(time_s=2**32 - 1)])
async def test_a_keepalive_that_the_kernel_does_not_take_leaves_no_connection_open(
    keepalive: TcpKeepalive,
) -> None:
    lost = asyncio.Event()

    class Noticing(asyncio.Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            lost.set()

    async with flaky_upstream() as upstream:
        config = static_cluster(upstream.endpoint, tcp_keepalive=keepalive)
        async with cluster_manager(config) as manager:
            with pytest.raises(UpstreamConnectError, match="Invalid argument"):
                await manager.get("up").connect_tcp(Noticing, info())
            await asyncio.wait_for(lost.wait(), 5)
            assert manager.get("up").breaker.connections.count == 0


async def test_a_dial_that_is_cancelled_gives_its_place_back() -> None:
    async with flaky_upstream() as upstream, cluster_manager(static_cluster(upstream.endpoint)) as manager:
        cluster = manager.get("up")
        dialing = asyncio.create_task(cluster.connect_tcp(asyncio.Protocol, info()))
        await as_soon_as(lambda: cluster.breaker.connections.count == 1)
        dialing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialing
        assert cluster.breaker.connections.count == 0


async def test_an_invalid_host_name_fails_only_its_connection() -> None:
    config = static_cluster(Endpoint(address=SocketAddress("a" * 64, 80)))
    async with cluster_manager(config) as manager:
        cluster = manager.get("up")
        with pytest.raises(UpstreamConnectError, match=r"name .* is not valid"):
            await cluster.connect_tcp(asyncio.Protocol, info())
        host = cluster.pick(PickContext())
        assert host is not None
        with pytest.raises(UpstreamConnectError, match=r"name .* is not valid"):
            await host.pool.acquire()
        assert cluster.breaker.connections.count == cluster.stats.upstream_cx_active == 0
