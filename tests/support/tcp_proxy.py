"""A TCP proxy that cuts connections: at once, or after some bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_CHUNK_BYTES = 65536


class CuttingProxy:
    """Passes bytes between its clients and one server. ``port`` is where it listens."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._connections: set[asyncio.Task[None]] = set()
        self._cut_after: int | None = None
        self.port = 0
        self.cuts = 0

    def cut_after(self, length: int) -> None:
        """Every connection is cut after that many more bytes from the server: in mid-event, most likely."""
        self._cut_after = length

    def stop_cutting(self) -> None:
        self._cut_after = None

    def cut_all(self) -> None:
        for connection in self._connections:
            connection.cancel()
        self.cuts += len(self._connections)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection is not None
        self._connections.add(connection)
        upstream_writer: asyncio.StreamWriter | None = None
        try:
            upstream, upstream_writer = await asyncio.open_connection(*self._target)
            async with asyncio.TaskGroup() as both:
                both.create_task(_pass_on(reader, upstream_writer))
                both.create_task(self._answer(upstream, writer, connection))
        except (OSError, ExceptionGroup, asyncio.CancelledError):
            pass  # a cut is the purpose of this proxy
        finally:
            self._connections.discard(connection)
            for each in (writer, upstream_writer):
                if each is not None:
                    each.transport.abort()

    async def _answer(
        self, upstream: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: asyncio.Task[None]
    ) -> None:
        passed = 0
        while data := await upstream.read(_CHUNK_BYTES):
            if self._cut_after is not None and passed + len(data) > self._cut_after:
                writer.write(data[: self._cut_after - passed])
                with suppress(OSError):
                    await writer.drain()
                self.cuts += 1
                connection.cancel()
                return
            if self._cut_after is not None:
                passed += len(data)
            writer.write(data)
            await writer.drain()
        connection.cancel()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


@asynccontextmanager
async def cutting_proxy(host: str, port: int) -> AsyncIterator[CuttingProxy]:
    proxy = CuttingProxy(host, port)
    async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as server:
        proxy.port = server.sockets[0].getsockname()[1]
        yield proxy
        proxy.cut_all()
