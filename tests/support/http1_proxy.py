"""A whole HTTP/1.1 path over loopback, without routing: manager -> service -> client -> upstream."""

from __future__ import annotations

import asyncio
import itertools
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from sidecar.config.endpoint import SocketAddress
from sidecar.config.listener import HttpConnectionManager
from sidecar.errors import UpstreamConnectError
from sidecar.http.codec import server_codec
from sidecar.http.connection_manager import ConnectionManager
from sidecar.http.h1.client import Http1ClientConnection
from sidecar.http.message import Request, Response, Service
from sidecar.observability.stats import HttpConnectionManagerStats
from sidecar.observability.stream_info import DownstreamConnection
from sidecar.timers import Timers
from tests.support.http1_client import exchange

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class OneHost:
    """A minimal pool, and the service that sends through it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.idle: list[Http1ClientConnection] = []
        self.opened: list[Http1ClientConnection] = []

    async def __call__(self, request: Request) -> Response:
        if self.idle:
            return await exchange(self.idle.pop(), request)
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                Http1ClientConnection, "127.0.0.1", self.port
            )
        except OSError as error:
            raise UpstreamConnectError(str(error)) from error
        connection.events = _Events(self, connection)
        self.opened.append(connection)
        return await exchange(connection, request)


class _Events:
    """The `ConnectionEvents` of one connection to a `OneHost`."""

    def __init__(self, host: OneHost, connection: Http1ClientConnection) -> None:
        self._host = host
        self._connection = connection

    def exchange_ended(self) -> None:
        self._host.idle.append(self._connection)

    def capacity_changed(self) -> None:
        pass

    def draining(self) -> None:
        pass

    def closed(self) -> None:
        if self._connection in self._host.idle:
            self._host.idle.remove(self._connection)


class Proxy:
    def __init__(self, manager: ConnectionManager, host: OneHost, port: int) -> None:
        self.manager = manager
        self.host = host
        self.port = port
        self.stats = manager.stats


@asynccontextmanager
async def upstream(handler: Handler) -> AsyncIterator[int]:
    """A server whose connections `handler` serves; gives its port."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handler(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the peer has left, or the test is over
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def proxy(
    upstream_port: int,
    tls: ssl.SSLContext | None = None,
    *,
    filtered: Callable[[HttpConnectionManager, Service], Service] | None = None,
    **options: Any,
) -> AsyncIterator[Proxy]:
    """`filtered` puts filters before the service."""
    loop = asyncio.get_running_loop()
    timers = Timers(loop)
    host = OneHost(upstream_port)
    config = HttpConnectionManager(stat_prefix="test", **options)
    manager = ConnectionManager(
        config,
        host if filtered is None else filtered(config, host),
        HttpConnectionManagerStats(),
        codec=server_codec,
        timers=timers,
    )
    ids = itertools.count()
    address = SocketAddress("127.0.0.1", 0)
    server = await loop.create_server(
        lambda: manager.protocol(
            DownstreamConnection(id=next(ids), remote_address=address, local_address=address)
        ),
        "127.0.0.1",
        0,
        ssl=tls,
    )
    try:
        yield Proxy(manager, host, server.sockets[0].getsockname()[1])
    finally:
        server.close()
        manager.close()
        await asyncio.wait_for(manager.wait_closed(), 10)
        for connection in host.opened:
            connection.close()
        timers.close()


async def read_head(reader: asyncio.StreamReader) -> tuple[bytes, dict[bytes, bytes]]:
    """Start line, and fields by lower-case name."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
    return first, {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
