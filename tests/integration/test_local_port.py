"""A port of the sidecar itself, with clients that open too many connections or are too slow."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from sidecar.admin.answers import text
from sidecar.admin.local_port import MAX_CONNECTIONS, LocalPort
from sidecar.config.endpoint import SocketAddress
from sidecar.http.message import Request, Response
from sidecar.timers import Timers
from tests.support.virtual_time import VirtualTime

REQUEST = b"GET /ready HTTP/1.1\r\nHost: a\r\n\r\n"
Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def ready(request: Request) -> Response:
    while await request.body.read():
        pass
    return text("ready\n")


@asynccontextmanager
async def opened(time: VirtualTime) -> AsyncIterator[tuple[LocalPort, SocketAddress]]:
    port = LocalPort("status", ready, Timers(time))
    try:
        yield port, await port.open(SocketAddress("127.0.0.1", 0))
    finally:
        await port.close()


@asynccontextmanager
async def client(address: SocketAddress) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def status(client: Client) -> bytes:
    """Of the answer to a request."""
    reader, writer = client
    writer.write(REQUEST)
    head = await reader.readuntil(b"\r\n\r\n")
    assert (await reader.readexactly(6)) == b"ready\n"
    return head.split()[1]


async def test_more_connections_than_the_limit_close_the_oldest_and_not_the_newest(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with opened(VirtualTime()) as (port, address), AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(client(address)) for _ in range(MAX_CONNECTIONS)]
        for each in clients:
            assert await status(each) == b"200"
        assert port.overflow == 0
        more = [await stack.enter_async_context(client(address)) for _ in range(3)]
        for each in more:
            assert await status(each) == b"200"
        for reader, _ in clients[:3]:
            assert await reader.read() == b""
        assert await status(clients[3]) == b"200"
        assert port.overflow == 3
    (line,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert line.getMessage() == "status: more than 100 connections: the oldest is closed (1 so far)"


async def test_closed_connections_do_not_count(caplog: pytest.LogCaptureFixture) -> None:
    async with opened(VirtualTime()) as (port, address):
        for _ in range(MAX_CONNECTIONS + 1):
            async with client(address) as (reader, writer):
                writer.write(REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
                assert (await reader.read()).endswith(b"ready\n")
        assert port.overflow == 0
    assert not caplog.records


@pytest.mark.parametrize(
    "beginning", [REQUEST[:-3], REQUEST.replace(b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\na")]
)
async def test_a_request_that_does_not_arrive_in_ten_seconds_is_refused(beginning: bytes) -> None:
    time = VirtualTime()
    async with opened(time) as (_, address), client(address) as (reader, writer), client(address) as other:
        writer.write(beginning)
        assert await status(other) == b"200"  # so that the beginning has arrived
        time.advance(9)
        assert await status(other) == b"200"
        time.advance(2)
        assert (await reader.readuntil(b"\r\n")).split()[1] == b"408"
