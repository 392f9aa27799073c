"""The client side of an HTTP/1.1 connection, on a transport without a socket."""

from __future__ import annotations

import asyncio

from sidecar.http.h1.client import Http1ClientConnection
from sidecar.http.message import Request, Response
from tests.support.http1 import FakeTransport, settle

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


class Pool:
    """The events of connections, as a pool notes them."""

    def __init__(self) -> None:
        self.idle: list[Http1ClientConnection] = []
        self.closed: list[Http1ClientConnection] = []


class Events:
    """The `ConnectionEvents` of one connection."""

    def __init__(self, pool: Pool, connection: Http1ClientConnection) -> None:
        self._pool = pool
        self._connection = connection

    def exchange_ended(self) -> None:
        self._pool.idle.append(self._connection)

    def capacity_changed(self) -> None:
        raise AssertionError("an HTTP/1.1 connection always carries one exchange at a time")

    def draining(self) -> None:
        raise AssertionError("HTTP/1.1 has no GOAWAY")

    def closed(self) -> None:
        self._pool.closed.append(self._connection)


async def exchange(connection: Http1ClientConnection, request: Request) -> Response:
    """Gives the exchange up when it is cancelled, as an attempt does."""
    response = connection.send(request)
    try:
        return await response
    except BaseException:
        connection.give_up(response)
        raise


class Client:
    def __init__(self, *, half_close: bool = True) -> None:
        self.pool = Pool()
        self.connection = Http1ClientConnection()
        self.connection.events = Events(self.pool, self.connection)
        self.transport = FakeTransport(self.connection, half_close=half_close)

    async def send(self, request: Request) -> asyncio.Task[Response]:
        task = asyncio.get_running_loop().create_task(exchange(self.connection, request))
        await settle()
        return task

    async def answer(self, data: bytes) -> None:
        self.connection.data_received(data)
        await settle()
