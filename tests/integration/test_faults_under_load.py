"""Hundreds of requests, faults on both sides at any byte, and configuration that changes all the while: in
the end nothing that counts what is under way may count anything."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest

from sidecar.config.cluster import CircuitBreakers, ClusterConfig, OutlierDetection
from sidecar.config.endpoint import SocketAddress
from sidecar.config.listener import HttpConnectionManager
from sidecar.config.route import ForwardAction, RetryPolicy, WeightedCluster
from sidecar.http.codec import client_codec, server_codec
from sidecar.http.connection_manager import ConnectionManager
from sidecar.observability.stats import HttpConnectionManagerStats, Stats
from sidecar.observability.stream_info import DownstreamConnection
from sidecar.router.exchange import RouterEnvironment
from sidecar.router.match import RouteTable, RouteTableRef
from sidecar.router.router import Router
from sidecar.timers import Timers
from sidecar.upstream.cluster import ClusterConfig as RunningCluster
from sidecar.upstream.cluster_manager import ClusterManager
from tests.support.clusters import NoTls, at_port, snapshot, static_cluster
from tests.support.filter_chains import ROUTER, filter_chain
from tests.support.http1_proxy import upstream
from tests.support.listening import eventually
from tests.support.routes import configuration, prefix, route, virtual_host

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])

MANAGER = HttpConnectionManager(
    stat_prefix="test",
    http_filters=(ROUTER,),
    upgrades=frozenset({"websocket"}),
    stream_idle_timeout_s=1.0,
    request_headers_timeout_s=1.0,
)

ANSWERS = (
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\ncontent-length: 600000\r\n\r\n" + b"x" * 600_000,
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n400\r\n"
    + b"y" * 1024
    + b"\r\n0\r\nx-a: b\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 503 Unavailable\r\ncontent-length: 2\r\n\r\nno",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nframes",
    b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx",
    b"not HTTP at all\r\n\r\n",
    b"HTTP/1.1 500 Error\r\ncontent-length: 0\r\n\r\nand more than it said",
)

REQUESTS = (
    b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" * 5,
    b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 400000\r\n\r\n" + b"x" * 400_000,
    b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ntransfer-encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n0\r\nx-a: b\r\n\r\n",
    b"GET / HTTP/1.0\r\nhost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nframes",
    b"GET / HTTP/1.1\r\nhost: a\r\n\r\nrubbish\r\n\r\n",
)


class Upstream:
    """Answers as chance has it: whole, cut off at any byte, byte by byte, too early, or never."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        rng = self._rng
        while await reader.read(65536) and not writer.transport.is_closing():
            answer = rng.choice(ANSWERS)
            chance = rng.randrange(10)
            if chance == 0:
                writer.write(answer[: rng.randrange(len(answer) + 1)])
                if rng.random() < 0.5:
                    writer.transport.abort()
                return
            if chance == 1:
                for position in range(20):
                    if not writer.transport.is_closing():
                        writer.write(answer[position : position + 1])
                    await asyncio.sleep(0)
                answer = answer[20:]
            elif chance == 2:
                await reader.read()
            if not writer.transport.is_closing():
                writer.write(answer)
                await writer.drain()


class Mesh:
    """The whole request path of one listener, and every cluster that was ever in service."""

    def __init__(self, ports: list[int], rng: Random) -> None:
        loop = asyncio.get_running_loop()
        self._ports = ports
        self._rng = rng
        self.timers = Timers(loop)
        self.stats = Stats()
        self.clusters = ClusterManager(
            stats=self.stats,
            tls=NoTls(),
            http_connection_factory=client_codec,
            timers=self.timers,
            loop=loop,
            rng=rng,
        )
        self.router = Router(RouterEnvironment(timers=self.timers, rng=rng))
        self.routes = RouteTableRef()
        self.manager = self.new_manager()
        self.replaced: list[ConnectionManager] = []
        self.seen: set[RunningCluster] = set()
        self.change()

    def new_manager(self) -> ConnectionManager:
        stack = filter_chain(MANAGER, routes=self.routes, router=self.router, find_cluster=self.clusters.find)
        return ConnectionManager(
            MANAGER, stack, HttpConnectionManagerStats(), codec=server_codec, timers=self.timers
        )

    def change(self) -> None:
        """Another configuration: clusters come, go and differ, and so do hosts, routes and the listener."""
        rng = self._rng
        names = rng.sample(("a", "b"), rng.choice((1, 2, 2, 2)))
        self.clusters.update(snapshot(*(self._cluster(name) for name in names)))
        self.seen.update(self.clusters)
        retry = RetryPolicy(
            retry_on=frozenset(
                rng.sample(("5xx", "reset", "connect-failure", "gateway-error"), rng.randrange(4))
            ),
            num_retries=2,
            per_try_timeout_s=rng.choice((0.0, 0.05, 0.2)),
            back_off_base_interval_s=0.001,
        )
        weighted = (WeightedCluster(name="a", weight=1), WeightedCluster(name="b", weight=1))
        forward = ForwardAction(clusters=weighted, timeout_s=rng.choice((0.1, 0.5)), retry_policy=retry)
        self.routes.current = RouteTable(configuration(virtual_host(route(prefix(), forward))))
        if rng.random() < 0.1:
            self.manager.drain()
            self.replaced.append(self.manager)
            self.manager = self.new_manager()

    def _cluster(self, name: str) -> ClusterConfig:
        rng = self._rng
        return static_cluster(
            *(at_port(port) for port in rng.sample(self._ports, rng.randrange(1, len(self._ports)))),
            name=name,
            connect_timeout_s=rng.choice((0.2, 0.3)),
            circuit_breakers=CircuitBreakers(
                max_connections=rng.choice((2, 100)),
                max_pending_requests=rng.choice((2, 100)),
                max_requests=50,
            ),
            outlier_detection=OutlierDetection(
                consecutive_5xx=2, interval_s=0.05, base_ejection_time_s=0.05, max_ejection_percent=100
            ),
        )

    def assert_nothing_is_under_way(self) -> None:
        for manager in (self.manager, *self.replaced):
            stats = manager.stats
            assert manager.active_connections == 0
            assert stats.downstream_rq_active == stats.downstream_cx_active == 0
            assert stats.downstream_cx_upgrades_active == 0
        for cluster in self.seen:
            breaker, stats_ = cluster.breaker, cluster.stats
            assert (breaker.requests.count, breaker.pending_requests.count, breaker.retries.count) == (
                0,
                0,
                0,
            )
            assert stats_.upstream_rq_active == stats_.upstream_rq_pending_active == 0
            assert all(host.stats.rq_active == 0 for host in cluster.hosts.values())

    def assert_nothing_is_connected(self) -> None:
        for cluster in self.seen:
            assert cluster.breaker.connections.count == cluster.stats.upstream_cx_active == 0
            assert all(host.stats.cx_active == 0 for host in cluster.hosts.values())


async def client(port: int, rng: Random) -> None:
    """Sends some of a request, reads some of its answer, and leaves: politely or not."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for _ in range(rng.randrange(1, 4)):
            request = rng.choice(REQUESTS)
            cut = rng.random() < 0.2
            sent = request[: rng.randrange(len(request))] if cut else request
            position = rng.randrange(len(sent) + 1)
            writer.write(sent[:position])
            await asyncio.sleep(rng.choice((0, 0, 0.001)))
            writer.write(sent[position:])
            if cut:
                return
            async with asyncio.timeout(rng.choice((0.01, 0.1, 1.5))):
                await reader.read(rng.choice((1, 1000, 10_000_000)))
    except (TimeoutError, ConnectionError, RuntimeError):
        pass  # a RuntimeError is uvloop's answer to a write after the end
    finally:
        writer.transport.abort() if rng.random() < 0.5 else writer.close()


@pytest.mark.parametrize("seed", range(3))
async def test_nothing_is_left_behind(seed: int) -> None:
    rng, faults = Random(seed), list[dict[str, Any]]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    tasks_before, sockets_before = len(asyncio.all_tasks()), open_sockets()
    async with AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(upstream(Upstream(rng))) for _ in range(3)]
        mesh = Mesh([*ports, unused_port()], rng)
        numbers = itertools.count()
        address = SocketAddress("127.0.0.1", 0)
        server = await asyncio.get_running_loop().create_server(
            lambda: mesh.manager.protocol(
                DownstreamConnection(id=next(numbers), remote_address=address, local_address=address)
            ),
            "127.0.0.1",
            0,
        )
        port = server.sockets[0].getsockname()[1]
        async with asyncio.TaskGroup() as clients:
            for number in range(400):
                clients.create_task(client(port, rng))
                if number % 4 == 0:
                    mesh.change()
                    await asyncio.sleep(0.01)
        with suppress(TimeoutError):
            await eventually(lambda: passes(mesh.assert_nothing_is_under_way))
        mesh.assert_nothing_is_under_way()
        server.close()
        await mesh.router.close()
        await mesh.clusters.close()
        with suppress(TimeoutError):
            await eventually(lambda: passes(mesh.assert_nothing_is_connected))
        mesh.assert_nothing_is_connected()
        mesh.timers.close()
    await eventually(lambda: len(asyncio.all_tasks()) <= tasks_before)
    await eventually(lambda: open_sockets() <= sockets_before)
    assert not faults


def passes(check: Callable[[], None]) -> bool:
    try:
        check()
    except AssertionError:
        return False
    return True


def open_sockets() -> int:
    kinds = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # that of the directory itself
            kinds.append(os.readlink(descriptor))
    return sum(kind.startswith("socket:") for kind in kinds)


def unused_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
