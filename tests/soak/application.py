"""An application with a port for HTTP/1.1 and WebSocket, one for HTTP/2 and gRPC, and one for TCP.

Each answer and each greeting has its name, so that a client knows who failed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial

from tests.soak.modes import Mode
from tests.support.http2_frames import goaway
from tests.support.http2_peer import Http2Peer, Message

SLOW_S = 0.05
HANG_S = 6.0
_ALL_STREAMS = 2**31 - 1
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Application:
    def __init__(self, name: str) -> None:
        self.name = name
        self.mode = Mode.SOUND
        self.ports: dict[str, int] = {}
        self._changed = asyncio.Event()
        self._servers: dict[str, asyncio.Server] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: dict[str, Serve] = {
            "http": self._serve_http,
            "grpc": self._serve_http2,
            "tcp": self._serve_tcp,
        }

    @property
    def flaky(self) -> bool:
        return self.name.startswith("flaky")

    async def start(self) -> None:
        """On the ports that it had before."""
        for kind in self._serving:
            if kind not in self._servers:
                server = await asyncio.start_server(
                    self._accepting(kind), "127.0.0.1", self.ports.get(kind, 0)
                )
                self._servers[kind] = server
                self.ports[kind] = server.sockets[0].getsockname()[1]

    async def change(self, mode: Mode) -> None:
        """Exchanges that hang are cut off."""
        self.mode = mode
        self._changed.set()
        self._changed = asyncio.Event()
        if mode is Mode.DOWN:
            # A TCP proxy cannot try another host once it has accepted: that port stays open.
            for kind in ("http", "grpc"):
                if kind in self._servers:
                    self._servers.pop(kind).close()
            self._abort()
        else:
            await self.start()

    async def stop(self) -> None:
        for server in self._servers.values():
            server.close()
        self._servers.clear()
        self._abort()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def _accepting(self, kind: str) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
        serve = self._serving[kind]

        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await serve(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, RuntimeError):
                pass  # a RuntimeError is uvloop's answer to a write after the end
            finally:
                self._writers.discard(writer)
                writer.close()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if kind != "tcp":
                self._writers.add(writer)
            task = asyncio.create_task(run(reader, writer), name=f"{self.name} {kind}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return accept

    async def _hang(self) -> None:
        """For longer than a try may take; the timeout of a try begins only when its request is complete."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), HANG_S)

    # HTTP/1.1 and WebSocket.

    async def _serve_http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            body = await _read_body(reader, head)
            await self._answer(reader, writer, head, body)
            await writer.drain()
            if self.mode is Mode.DRAIN or b"\r\nupgrade:" in head:
                return

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes, body: bytes
    ) -> None:
        mode = self.mode
        host = b"x-host: %b\r\n" % self.name.encode()
        if mode is Mode.HANG:
            await self._hang()
            raise ConnectionAbortedError
        if mode is Mode.SLOW:
            await asyncio.sleep(SLOW_S)
        if mode is Mode.RESET:
            writer.transport.abort()
        elif mode is Mode.ERROR:
            writer.write(b"HTTP/1.1 503 Unavailable\r\n%bcontent-length: 0\r\n\r\n" % host)
        elif b"\r\nupgrade:" in head:
            switching = b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
            writer.write(switching + host + b"\r\n")
            await _echo(reader, writer, cut=mode is Mode.CUT)
        else:
            closing = b"connection: close\r\n" if mode is Mode.DRAIN else b""
            writer.write(b"HTTP/1.1 200 OK\r\n%b%bcontent-length: %d\r\n\r\n" % (host, closing, len(body)))
            writer.write(body[: len(body) // 2] if mode is Mode.CUT else body)
            if mode is Mode.CUT:
                await writer.drain()
                await asyncio.sleep(SLOW_S)
                writer.transport.abort()

    # HTTP/2 and gRPC.

    async def _serve_http2(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Http2Peer(reader, writer, client=False)
        exchanges: set[asyncio.Task[None]] = set()
        begun = last = 0

        def on_request(stream_id: int) -> None:
            nonlocal begun
            if last and stream_id > last:
                return  # GOAWAY has said that it is not processed
            exchange = asyncio.create_task(self._serve_stream(peer, stream_id), name=f"{self.name} stream")
            exchanges.add(exchange)
            exchange.add_done_callback(exchanges.discard)
            begun = stream_id
            if self.mode is Mode.DRAIN and not draining:
                draining.append(asyncio.create_task(drain(), name=f"{self.name} drain"))

        async def drain() -> None:
            """A graceful end in two steps (RFC 9113 6.8): no stream that is under way is refused."""
            nonlocal last
            writer.write(goaway(_ALL_STREAMS))
            await asyncio.sleep(SLOW_S)
            last = begun
            writer.write(goaway(last))
            if not exchanges:
                writer.close()

        draining: list[asyncio.Task[None]] = []
        peer.start(on_request)
        try:
            await peer.until(
                lambda: peer.lost or (bool(last) and all(task.done() for task in exchanges)), 10_000.0
            )
        finally:
            for exchange in [*exchanges, *draining]:
                exchange.cancel()
            await asyncio.gather(*exchanges, *draining, return_exceptions=True)
            await peer.close()

    async def _serve_stream(self, peer: Http2Peer, stream_id: int) -> None:
        with contextlib.suppress(Exception):  # the stream or the connection is over
            await self._answer_stream(peer, stream_id)

    async def _answer_stream(self, peer: Http2Peer, stream_id: int) -> None:
        mode, message = self.mode, peer.messages[stream_id]
        if mode is Mode.HANG:
            await self._hang()
            mode = Mode.RESET
        if mode is Mode.SLOW:
            await asyncio.sleep(SLOW_S)
        head = [(":status", "200"), ("content-type", "application/grpc"), ("x-host", self.name)]
        if mode is Mode.RESET:
            peer.h2.reset_stream(stream_id, 2)
        elif mode is Mode.ERROR:
            peer.h2.send_headers(stream_id, [*head, ("grpc-status", "14")], end_stream=True)
        else:
            peer.h2.send_headers(stream_id, head)
            peer.flush()
            sent = 0
            while not (message.ended and sent == len(message.received)):
                await peer.until(partial(_has_more, peer, message, sent), 600.0)
                if message.reset is not None or peer.lost:
                    return
                piece, sent = bytes(message.received[sent:]), len(message.received)
                if mode is Mode.CUT:
                    peer.h2.reset_stream(stream_id, 2)
                    peer.flush()
                    return
                await peer.send_body(stream_id, piece, end=False)
            peer.h2.send_headers(stream_id, [("grpc-status", "0")], end_stream=True)
        peer.flush()

    # TCP.

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A crash resets the connection only after the client's first bytes: a client could not tell one that
        was reset before its greeting from one that no host got."""
        writer.write(self.name.encode() + b"\n")
        first = await reader.read(65536)
        self._writers.add(writer)
        await _echo(reader, writer, cut=self.mode in (Mode.CUT, Mode.RESET), first=first)


def _has_more(peer: Http2Peer, message: Message, sent: int) -> bool:
    return len(message.received) > sent or message.ended or message.reset is not None or peer.lost


async def _echo(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, cut: bool, first: bytes = b""
) -> None:
    """Until the client's end; then its own."""
    data = first or await reader.read(65536)
    while data:
        if cut:
            writer.transport.abort()
            return
        writer.write(data)
        await writer.drain()
        data = await reader.read(65536)


async def _read_body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    if b"transfer-encoding: chunked" in head:
        body = b""
        while size := int((await reader.readuntil(b"\n")).strip(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\n")
        return body
    _, found, rest = head.partition(b"content-length:")
    return await reader.readexactly(int(rest.partition(b"\r\n")[0])) if found else b""
