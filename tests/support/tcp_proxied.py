"""A TCP proxy handler on a real listening socket, with one host behind it."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from sidecar.config.endpoint import SocketAddress
from sidecar.config.listener import TcpProxy
from sidecar.config.route import WeightedCluster
from sidecar.errors import NoClusterError, RequestError
from sidecar.listener.tcp_proxy import TcpProxyHandler, TcpProxyServices
from sidecar.observability.stats import TcpProxyStats
from sidecar.observability.stream_info import DownstreamConnection, StreamInfo
from sidecar.timers import Timers
from sidecar.transport.forwarding import forwarder
from sidecar.transport.tls import TlsTransport
from tests.support.listening import eventually
from tests.support.virtual_time import VirtualTime


class FakeCluster:
    """Connects to one port, after the given number of failures."""

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
            forwarder=forwarder(loop),
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
