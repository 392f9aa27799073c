"""An HTTP/1.1 upstream that a test tells, request by request, how to misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from sidecar.config.endpoint import Endpoint
from tests.support.clusters import at_port


class Exchange:
    """A complete request, and the means to answer it in any way."""

    def __init__(self, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> None:
        request_line, _, fields = head.partition(b"\r\n")
        self.method, self.path, _ = request_line.split(b" ")
        self.headers = [
            (name.lower(), value.strip())
            for name, _, value in (line.partition(b":") for line in fields.split(b"\r\n") if line)
        ]
        self.body = body
        self.writer = writer

    def answer(self, status: int = 200, body: bytes = b"", *headers: tuple[bytes, bytes]) -> None:
        fields = b"".join(b"%b: %b\r\n" % pair for pair in headers)
        self.writer.write(
            b"HTTP/1.1 %d X\r\n%bcontent-length: %d\r\n\r\n%b" % (status, fields, len(body), body)
        )


Behaviour = Callable[[Exchange], Awaitable[None]]


class FlakyUpstream:
    """`behave` is called for each request; by default it answers 200 with the upstream's name. `exchanges`
    has all requests that have arrived completely."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.behave: Behaviour = self.answer_with_name
        self.exchanges: list[Exchange] = []
        self.connections: set[asyncio.StreamWriter] = set()
        self.connections_total = 0
        self.port = 0

    async def answer_with_name(self, exchange: Exchange) -> None:
        exchange.answer(200, self.name.encode())

    def hold(self) -> asyncio.Event:
        """Holds back the answers to the next requests until the returned event is set."""
        release = asyncio.Event()

        async def wait(exchange: Exchange) -> None:
            await release.wait()
            await self.answer_with_name(exchange)

        self.behave = wait
        return release

    @property
    def endpoint(self) -> Endpoint:
        return at_port(self.port, hostname=self.name)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.add(writer)
        self.connections_total += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = await _read_body(reader, head.lower())
                exchange = Exchange(head[:-4], body, writer)
                self.exchanges.append(exchange)
                await self.behave(exchange)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.connections.discard(writer)
            writer.close()

    def close_connections(self) -> None:
        for writer in self.connections:
            writer.close()


async def _read_body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    if b"transfer-encoding: chunked" in head:
        body = b""
        while size := int((await reader.readuntil(b"\n")).strip(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        while (await reader.readuntil(b"\n")).strip():
            pass  # trailers
        return body
    _, found, rest = head.partition(b"content-length:")
    return await reader.readexactly(int(rest.partition(b"\r\n")[0])) if found else b""


@asynccontextmanager
async def flaky_upstream(
    name: str = "a", *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[FlakyUpstream]:
    upstream = FlakyUpstream(name)
    serving: set[asyncio.Task[None]] = set()
    accepted: list[asyncio.StreamWriter] = []

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer)
        task = asyncio.get_running_loop().create_task(upstream.serve(reader, writer), name=f"upstream {name}")
        serving.add(task)
        task.add_done_callback(serving.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        server.close()
        tasks = list(serving)
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for writer in accepted:
            writer.transport.abort()  # a client may not have read all
            with contextlib.suppress(OSError):
                await writer.wait_closed()
