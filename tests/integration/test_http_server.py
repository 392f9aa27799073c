"""The control plane's HTTP server under clients that open connections without end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from controlplane.api.connections import ConnectionLimits
from controlplane.api.http_server import HttpServer

REQUEST = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def server(
    *, request_timeout_s: float = 60.0, most: int = 100, waiting: asyncio.Semaphore | None = None
) -> AsyncIterator[HttpServer]:
    """``waiting`` is released for each request of `/wait`, which is not answered."""

    async def answer(request: Request) -> Response:
        if waiting is not None and request.url.path == "/wait":
            waiting.release()
            await proceed.wait()
        return PlainTextResponse("answer")

    proceed = asyncio.Event()
    app = Starlette(routes=[Route("/{path:path}", answer)])
    limits = ConnectionLimits(request_timeout_s=request_timeout_s, most=most)
    running = HttpServer("test", app, "127.0.0.1", 0, limits=limits)
    running.start()
    try:
        yield running
    finally:
        proceed.set()
        await running.close()


async def opened(running: HttpServer, data: bytes = b"") -> Stream:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(data)
    return reader, writer


async def answered(stream: Stream) -> bool:
    """Sends a request. False if the connection is closed."""
    reader, writer = stream
    try:
        writer.write(REQUEST)
        return (await reader.readuntil(b"answer")).startswith(b"HTTP/1.1 200")
    except (ConnectionError, asyncio.IncompleteReadError):
        return False


async def ended(stream: Stream) -> bool:
    try:
        return await stream[0].read() == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nhost: a\r\n"])
async def test_a_connection_without_a_request_is_closed(sent: bytes) -> None:
    async with server(request_timeout_s=0.05) as running:
        stream = await opened(running, sent)
        assert await ended(stream)
        stream[1].close()


async def test_a_later_request_must_arrive_in_time_too() -> None:
    async with server(request_timeout_s=0.05) as running:
        stream = await opened(running)
        assert await answered(stream)
        stream[1].write(REQUEST[:10])
        assert await ended(stream)
        stream[1].close()


async def test_an_idle_connection_is_kept_between_two_requests() -> None:
    async with server(request_timeout_s=0.02) as running:
        stream = await opened(running)
        assert await answered(stream)
        other = await opened(running)  # several checks pass until this one is closed
        assert await ended(other)
        assert await answered(stream)
        for _, writer in (stream, other):
            writer.close()


async def test_a_new_connection_replaces_the_oldest_idle_one() -> None:
    async with server(most=3) as running:
        streams = [await opened(running) for _ in range(3)]
        assert [await answered(each) for each in streams] == [True] * 3
        newest = await opened(running)
        assert await answered(newest)
        assert await ended(streams[0])
        assert [await answered(each) for each in (*streams[1:], newest)] == [True] * 3
        for _, writer in (*streams, newest):
            writer.close()


async def test_connections_with_a_request_are_not_replaced() -> None:
    waiting = asyncio.Semaphore(0)
    async with server(most=2, waiting=waiting) as running:
        busy = [await opened(running, REQUEST.replace(b"/ ", b"/wait ", 1)) for _ in range(2)]
        for _ in busy:
            await waiting.acquire()
        refused = await opened(running)
        assert not await answered(refused)
        for _, writer in (*busy, refused):
            writer.close()
