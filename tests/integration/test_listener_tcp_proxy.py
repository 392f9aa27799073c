"""The TCP proxy with real sockets on both sides."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable

import pytest

from sidecar.config.listener import TcpProxy
from sidecar.config.route import WeightedCluster
from sidecar.errors import NoHealthyUpstreamError, UpstreamConnectError
from sidecar.observability.stream_info import StreamInfo
from tests.support.listening import eventually
from tests.support.tcp_proxied import FakeCluster, Proxy, echo, proxy
from tests.support.tcp_sockets import is_left_unread, is_read_by_peer, other_end
from tests.support.virtual_time import VirtualTime

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])


async def test_bytes_pass_both_ways_and_are_counted() -> None:
    async with proxy(echo) as (running, cluster):
        reader, writer = await running.connect()
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        assert len(running.observer.opened_infos) == cluster.lent == 1
        writer.close()
        info = await running.ended()
        assert info is running.observer.opened_infos[0]
        assert cluster.lent == 0
        assert (info.cluster, info.bytes_received, info.bytes_sent, info.flags) == ("db", 5, 5, "")
        assert info.end_s >= info.start_s
        assert (running.stats.downstream_cx_total, running.stats.downstream_cx_active) == (1, 0)
        assert running.stats.downstream_cx_rx_bytes_total == 5


async def test_a_server_may_speak_first() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"5.7.0-mysql")
        await reader.read()

    async with proxy(greet) as (running, _):
        reader, writer = await running.connect()
        assert await asyncio.wait_for(reader.readexactly(11), 5) == b"5.7.0-mysql"
        writer.close()


async def test_a_client_that_has_finished_sending_still_gets_its_answer() -> None:
    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"%d" % len(await reader.read()))

    async with proxy(count) as (running, _):
        reader, writer = await running.connect()
        writer.write(b"x" * 100_000)
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 5) == b"100000"
        writer.close()
        assert (await running.ended()).flags == ""


async def test_early_data_of_a_client_arrives_with_its_end() -> None:
    async def all_of_it(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())

    async with proxy(all_of_it) as (running, cluster):
        gate = asyncio.Event()
        connect = cluster.connect_tcp

        async def connect_later(protocol_factory: Callable[[], asyncio.Protocol], info: StreamInfo):
            await gate.wait()
            return await connect(protocol_factory, info)

        cluster.connect_tcp = connect_later
        reader, writer = await running.connect()
        writer.write(b"early")
        await eventually(lambda: is_read_by_peer(writer))
        writer.write_eof()
        await eventually(lambda: other_end(writer.get_extra_info("socket")).has_received_end)
        gate.set()
        assert await asyncio.wait_for(reader.read(), 5) == b"early"
        writer.close()


async def test_a_client_that_does_not_read_holds_the_host_back_in_bounded_memory() -> None:
    sent = 0
    hosts: list[socket.socket] = []

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        hosts.append(writer.get_extra_info("socket"))
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    async with proxy(flood) as (running, _):
        client = socket.create_connection(("127.0.0.1", running.port))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        await eventually(lambda: other_end(client).probes_closed_window)
        async with asyncio.timeout(10):
            while not await is_left_unread(hosts[0]):
                await asyncio.sleep(0.002)
        assert sent < 16 * 1024 * 1024  # most of them are in the kernel's buffers
        client.close()
        await running.ended()


async def test_all_bytes_reach_a_slow_reader() -> None:
    payload = random.Random(1).randbytes(8 * 1024 * 1024)

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(payload)
        await writer.drain()

    async with proxy(send) as (running, _):
        reader, writer = await running.connect()
        received = bytearray()
        while data := await asyncio.wait_for(reader.read(100_000), 5):
            received += data
        assert received == payload
        writer.close()


async def test_no_cluster_no_host_and_no_connection_have_different_flags() -> None:
    for failure, flag in (
        (NoHealthyUpstreamError("no host is healthy"), "UH"),
        (UpstreamConnectError("refused"), "UF"),
    ):
        async with proxy(echo, failure) as (running, _):
            reader, writer = await running.connect()
            assert await asyncio.wait_for(reader.read(), 5) == b""
            info = await running.ended()
            assert info.flags == flag
            assert info.upstream_failure == str(failure)
            assert not running.observer.opened_infos
            writer.close()
    async with proxy(echo) as (running, cluster):
        running.clusters.clear()
        reader, writer = await running.connect()
        assert await asyncio.wait_for(reader.read(), 5) == b""
        assert (await running.ended()).flags == "NC"
        assert running.stats.downstream_cx_no_route == 1
        assert cluster.asked == 0
        writer.close()


async def test_connecting_is_tried_as_often_as_configured() -> None:
    refused = [UpstreamConnectError("refused")] * 2
    async with proxy(echo, *refused, max_connect_attempts=3) as (running, cluster):
        reader, writer = await running.connect()
        writer.write(b"x")
        assert await asyncio.wait_for(reader.readexactly(1), 5) == b"x"
        assert cluster.asked == running.observer.opened_infos[0].attempts == 3
        writer.close()


async def test_an_idle_connection_is_closed_and_a_busy_one_is_not() -> None:
    time = VirtualTime()
    async with proxy(echo, time=time, idle_timeout_s=2.0) as (running, _):
        reader, writer = await running.connect()
        for _ in range(8):
            writer.write(b"x")
            assert await asyncio.wait_for(reader.readexactly(1), 5) == b"x"
            time.advance(1.5)
        assert running.stats.idle_timeout == 0
        time.advance(4)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        assert running.stats.idle_timeout == 1
        assert (await running.ended()).details == "idle_timeout"
        writer.close()


async def test_closing_the_handler_cancels_connection_attempts() -> None:
    class Stuck(FakeCluster):
        cancelled = False

        async def connect_tcp(self, protocol_factory, info):
            self.asked += 1
            try:
                await asyncio.Future()
            except asyncio.CancelledError:
                self.cancelled = True
                raise

    async with proxy(echo) as (running, _):
        stuck = Stuck()
        running.clusters["db"] = stuck
        reader, writer = await running.connect()
        await eventually(lambda: stuck.asked == 1)
        running.handler.close()
        assert await asyncio.wait_for(reader.read(), 5) == b""
        await eventually(lambda: stuck.cancelled)
        writer.close()


async def test_clusters_are_chosen_by_weight() -> None:
    config = TcpProxy(
        stat_prefix="tcp",
        clusters=(
            WeightedCluster(name="v1", weight=9),
            WeightedCluster(name="v0", weight=0),
            WeightedCluster(name="v2", weight=1),
        ),
    )
    running = Proxy(config, {})
    names = [running.handler.choose_cluster() for _ in range(5000)]
    assert names.count("v0") == 0
    assert names.count("v2") == pytest.approx(500, abs=75)
    running.timers.close()
