"""The TCP proxy with real sockets on both sides."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import trustme

from sidecar.config.endpoint import SocketAddress
from sidecar.config.listener import TcpProxy
from sidecar.config.route import WeightedCluster
from sidecar.errors import NoClusterError, NoHealthyUpstreamError, RequestError, UpstreamConnectError
from sidecar.listener.tcp_proxy import TcpProxyHandler, TcpProxyServices
from sidecar.observability.stats import TcpProxyStats
from sidecar.observability.stream_info import DownstreamConnection, StreamInfo
from sidecar.timers import Timers
from sidecar.transport.tls import TlsTransport
from tests.support.listening import eventually
from tests.support.stream_peer import (
    END,
    RESET,
    SMALL_BUFFER_BYTES,
    StreamHost,
    StreamPeer,
    connect_stream,
)
from tests.support.virtual_time import VirtualTime

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])


class FakeCluster:
    """Connects to one port, after as many failures as it is told."""

    def __init__(self, port: int = 0, *failures: RequestError) -> None:
        self.port = port
        self.failures = list(failures)
        self.asked = 0
        self.lent = 0
        self.trust: ssl.SSLContext | None = None
        self.send_buffer_bytes = 0

    def release(self) -> None:
        self.lent -= 1

    async def connect_tcp(
        self, protocol_factory: Callable[[], asyncio.Protocol], info: StreamInfo
    ) -> FakeCluster:
        self.asked += 1
        if self.failures:
            raise self.failures.pop(0)
        loop = asyncio.get_running_loop()
        connection = socket.socket()
        if self.send_buffer_bytes:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.send_buffer_bytes)
        connection.connect(("127.0.0.1", self.port))
        if self.trust is None:
            await loop.create_connection(protocol_factory, sock=connection)
        else:
            secured = TlsTransport(self.trust, protocol_factory, server_side=False)
            await loop.create_connection(lambda: secured, sock=connection)
            await secured.established()
        info.upstream_address = SocketAddress("127.0.0.1", self.port)
        self.lent += 1
        return self


class Recorder:
    def __init__(self) -> None:
        self.opened_infos: list[StreamInfo] = []
        self.closed_infos: list[StreamInfo] = []

    def opened(self, info: StreamInfo) -> None:
        self.opened_infos.append(info)

    def progressed(self, info: StreamInfo) -> None:
        pass

    def closed(self, info: StreamInfo) -> None:
        self.closed_infos.append(info)


class Proxy:
    def __init__(
        self, config: TcpProxy, clusters: dict[str, FakeCluster], time: VirtualTime | None = None
    ) -> None:
        """Time passes by itself unless a virtual time is given."""
        loop = asyncio.get_running_loop()
        self.time = time
        self.timers = Timers(time or loop)
        self.observer = Recorder()
        self.stats = TcpProxyStats()
        self.clusters = clusters
        services = TcpProxyServices(
            find_cluster=self._find_cluster,
            timers=self.timers,
            observer=self.observer,
            clock=(time or loop).time,
            rng=random.Random(1),
        )
        self.handler = TcpProxyHandler(config, self.stats, services)

    def _find_cluster(self, name: str) -> FakeCluster:
        if name not in self.clusters:
            raise NoClusterError(f"no cluster {name!r}")
        return self.clusters[name]

    async def start(self, tls: ssl.SSLContext | None = None, *, send_buffer_bytes: int = 0) -> None:
        here = SocketAddress("127.0.0.1", 1)
        connection = DownstreamConnection(id=1, remote_address=here, local_address=here)
        loop = asyncio.get_running_loop()

        def protocol() -> asyncio.Protocol:
            return self.handler.protocol(connection)

        def secured() -> asyncio.Protocol:
            return TlsTransport(tls, protocol, server_side=True)

        self.server = await loop.create_server(protocol if tls is None else secured, "127.0.0.1", 0)
        # Connections inherit it.
        if send_buffer_bytes:
            self.server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
        self.port = self.server.sockets[0].getsockname()[1]

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def ended(self) -> StreamInfo:
        await eventually(lambda: self.handler.active_connections == 0)
        return self.observer.closed_infos[-1]


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]


@asynccontextmanager
async def proxy(
    serve: Serve, *failures: RequestError, time: VirtualTime | None = None, **options: object
) -> AsyncIterator[tuple[Proxy, FakeCluster]]:
    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    host = await asyncio.start_server(served, "127.0.0.1", 0)
    cluster = FakeCluster(host.sockets[0].getsockname()[1], *failures)
    config = TcpProxy(stat_prefix="tcp", clusters=(WeightedCluster(name="db"),), **options)
    running = Proxy(config, {"db": cluster}, time)
    await running.start()
    try:
        yield running, cluster
    finally:
        running.handler.close()
        running.server.close()
        host.close()
        await host.wait_closed()
        running.timers.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


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


async def test_what_a_client_sends_before_the_host_is_reached_arrives_with_its_end() -> None:
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
        writer.write_eof()
        await eventually(lambda: bool(running.handler.active_connections))
        await asyncio.sleep(0.02)
        gate.set()
        assert await asyncio.wait_for(reader.read(), 5) == b"early"
        writer.close()


async def test_a_client_that_does_not_read_holds_the_host_back_in_bounded_memory() -> None:
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    async with proxy(flood) as (running, _):
        client = socket.create_connection(("127.0.0.1", running.port))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        await eventually(lambda: sent > 0)
        before = -1
        async with asyncio.timeout(10):
            while before != sent:  # until the pipe is full: what is in flight is the kernel's buffers
                before = sent
                await asyncio.sleep(0.1)
        assert sent < 16 * 1024 * 1024  # of which most is the kernel's
        client.close()
        await running.ended()


async def test_everything_arrives_however_slow_the_reader_is() -> None:
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


async def test_no_cluster_no_host_and_no_connection_are_told_apart() -> None:
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


SIDES = pytest.mark.parametrize(
    ("client_tls", "host_tls"), [(False, False), (True, False), (False, True), (True, True)]
)
# More than the kernel takes off the proxy's hands: net.ipv4.tcp_wmem ends at 4 MiB by default.
LARGE = random.Random(1).randbytes(6_000_000)
# So much that the proxy has read all of it, and the end, while some of it waits to be sent.
TAIL = LARGE[:90_000]


class Stretch:
    """A client and a host with small windows, and the proxy between them, whose time stands still."""

    proxy: Proxy
    client: StreamPeer
    host: StreamPeer

    async def settle(self) -> None:
        """Until as much is under way as there is room for."""
        before: tuple[int, ...] = ()
        async with asyncio.timeout(10):
            while before != (now := (*self.client.queued_bytes, *self.host.queued_bytes)):
                before = now
                await asyncio.sleep(0.05)

    def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            self.proxy.time.advance(1)


@asynccontextmanager
async def stretch(client_tls: bool, host_tls: bool) -> AsyncIterator[Stretch]:
    authority = trustme.CA()
    serving, trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("a.test").configure_cert(serving)
    authority.configure_trust(trust)
    trust.check_hostname = False
    host = StreamHost(serving if host_tls else None)
    cluster = FakeCluster(host.port)
    cluster.trust = trust if host_tls else None
    cluster.send_buffer_bytes = SMALL_BUFFER_BYTES
    config = TcpProxy(stat_prefix="tcp", clusters=(WeightedCluster(name="db"),))
    made = Stretch()
    made.proxy = Proxy(config, {"db": cluster}, VirtualTime())
    await made.proxy.start(serving if client_tls else None, send_buffer_bytes=SMALL_BUFFER_BYTES)
    accepted = host.accept(receive_buffer_bytes=SMALL_BUFFER_BYTES)
    try:
        made.client = await asyncio.to_thread(
            connect_stream,
            made.proxy.port,
            trust if client_tls else None,
            receive_buffer_bytes=SMALL_BUFFER_BYTES,
        )
        made.host = await asyncio.wrap_future(accepted)
        with made.client, made.host:
            yield made
    finally:
        made.proxy.handler.close()
        made.proxy.server.close()
        host.close()


@SIDES
@pytest.mark.parametrize("data", [TAIL, LARGE], ids=["tail", "much"])
@pytest.mark.parametrize("client_ends_first", [False, True])
async def test_the_tail_reaches_a_client_that_pauses(
    client_tls: bool, host_tls: bool, data: bytes, client_ends_first: bool
) -> None:
    async with stretch(client_tls, host_tls) as made:
        if client_ends_first:
            await asyncio.to_thread(made.client.end)
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.to_thread(lambda: (made.host.send(data), made.host.end())))
            first = await asyncio.to_thread(made.client.receive)
            await made.settle()
            made.pass_time(600)
            rest = await asyncio.to_thread(made.client.drain)
        assert rest.how == END
        assert first + rest.data == data


@SIDES
@pytest.mark.parametrize("data", [TAIL, LARGE], ids=["tail", "much"])
@pytest.mark.parametrize("host_ends_first", [False, True])
async def test_the_tail_reaches_a_host_that_pauses(
    client_tls: bool, host_tls: bool, data: bytes, host_ends_first: bool
) -> None:
    async with stretch(client_tls, host_tls) as made:
        if host_ends_first:
            await asyncio.to_thread(made.host.end)
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.to_thread(lambda: (made.client.send(data), made.client.end())))
            first = await asyncio.to_thread(made.host.receive)
            await made.settle()
            made.pass_time(600)
            rest = await asyncio.to_thread(made.host.drain)
        assert rest.how == END
        assert first + rest.data == data


@SIDES
@pytest.mark.parametrize("end_first", [False, True])
async def test_a_tail_that_a_client_does_not_take_ends_in_a_reset(
    client_tls: bool, host_tls: bool, end_first: bool
) -> None:
    async with stretch(client_tls, host_tls) as made:
        if end_first:
            await asyncio.to_thread(made.client.end)
        # With what it holds back, the proxy's buffers included, the host has closed when time passes.
        sending = asyncio.create_task(asyncio.to_thread(lambda: (made.host.send(LARGE), made.host.end())))
        await asyncio.to_thread(made.client.receive)
        await made.settle()
        made.pass_time(4100)
        rest = await asyncio.to_thread(made.client.drain)
        assert rest.how == RESET
        with suppress(ConnectionError):
            await sending


@SIDES
async def test_a_reset_by_the_host_reaches_the_client(client_tls: bool, host_tls: bool) -> None:
    async with stretch(client_tls, host_tls) as made:
        await asyncio.to_thread(made.host.send, b"x" * 10_000)
        await asyncio.to_thread(made.client.receive_exactly, 10_000)
        made.host.reset()
        assert (await asyncio.to_thread(made.client.drain)).how == RESET


@SIDES
async def test_a_reset_by_the_client_reaches_the_host(client_tls: bool, host_tls: bool) -> None:
    async with stretch(client_tls, host_tls) as made:
        await asyncio.to_thread(made.client.send, b"x" * 10_000)
        await asyncio.to_thread(made.host.receive_exactly, 10_000)
        made.client.reset()
        assert (await asyncio.to_thread(made.host.drain)).how == RESET


async def test_closing_the_handler_cancels_what_is_still_connecting() -> None:
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
