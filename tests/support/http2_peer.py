"""HTTP/2 peers over sockets, made of the `h2` library: a client and a server that a test tells what to do."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    InformationalResponseReceived,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.settings import Settings

from sidecar.config.endpoint import Endpoint
from tests.support.clusters import at_port

_GOAWAY = 7


@dataclass(slots=True)
class Message:
    """What one stream has brought. `reset` is the code of RST_STREAM."""

    headers: dict[bytes, bytes] = field(default_factory=dict)
    interim: list[dict[bytes, bytes]] = field(default_factory=list)
    received: bytearray = field(default_factory=bytearray)
    trailers: dict[bytes, bytes] = field(default_factory=dict)
    ended: bool = False
    reset: int | None = None

    @property
    def body(self) -> bytes:
        return bytes(self.received)

    @property
    def status(self) -> int:
        return int(self.headers.get(b":status", b"0"))


class Http2Peer:
    """One connection. It takes DATA, and opens its windows again, while `taking` is true."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        client: bool,
        settings: dict[int, int] | None = None,
    ) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=client, header_encoding=None))
        initial = {**dict(self.h2.local_settings), **(settings or {})}
        self.h2.local_settings = Settings(client=client, initial_values=initial)
        self.reader, self.writer = reader, writer
        self.messages: dict[int, Message] = {}
        self.taking = True
        self.goaways: list[tuple[int, int]] = []  # last stream id, code
        self.lost = False
        self._untaken: list[tuple[int, int]] = []
        self._unread = b""
        self._prefaced = False
        self._changed = asyncio.Event()
        self._on_request: Callable[[int], None] = lambda stream_id: None
        self._reading: asyncio.Task[None] | None = None

    def start(self, on_request: Callable[[int], None] = lambda stream_id: None) -> None:
        self._on_request = on_request
        self.h2.initiate_connection()
        self.flush()
        self._reading = asyncio.create_task(self._read(), name="upstream h2 peer")

    def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())

    # Sending.

    def request(
        self,
        method: str = "GET",
        path: str = "/",
        *fields: tuple[str, str],
        end: bool = True,
        body: bytes = b"",
    ) -> int:
        pseudo = [(":method", method), (":scheme", "http"), (":authority", "reviews"), (":path", path)]
        return self.open([*pseudo, *fields], end=end, body=body)

    def open(self, head: list[tuple[str, str]], *, end: bool = True, body: bytes = b"") -> int:
        stream_id = self.h2.get_next_available_stream_id()
        self.messages[stream_id] = Message()
        self.h2.send_headers(stream_id, head, end_stream=end and not body)
        if body:
            self.h2.send_data(stream_id, body, end_stream=end)
        self.flush()
        return stream_id

    async def send_body(self, stream_id: int, body: bytes, *, end: bool = True) -> None:
        """As fast as the windows allow."""
        view = memoryview(body)
        while view:
            size = min(
                self.h2.local_flow_control_window(stream_id), self.h2.max_outbound_frame_size, len(view)
            )
            if not size:
                await self._change()
                continue
            self.h2.send_data(stream_id, bytes(view[:size]))
            view = view[size:]
            self.flush()
            await self.writer.drain()
        if end:
            self.h2.end_stream(stream_id)
            self.flush()

    # Receiving.

    async def until(self, condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not condition():
                await self._change()

    async def answer(self, stream_id: int) -> Message:
        """The whole answer, also if it ended by a reset or with the connection."""
        message = self.messages[stream_id]
        await self.until(lambda: message.ended or message.reset is not None or self.lost)
        return message

    async def ask(self, *request: Any, **options: Any) -> Message:
        return await self.answer(self.request(*request, **options))

    def take(self) -> None:
        """Takes the DATA that has arrived, and what follows."""
        self.taking = True
        for stream_id, size in self._untaken:
            self._acknowledge(stream_id, size)
        self._untaken.clear()
        self.flush()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await self.reader.read(65536):
                for event in self.h2.receive_data(self._without_goaways(data)):
                    self._handle(event)
                self.flush()
                self._changed.set()
        self.lost = True
        self._changed.set()

    def _without_goaways(self, data: bytes) -> bytes:
        """The frames that are complete. The `h2` library accepts no frame after GOAWAY, not even those of
        streams that it allows."""
        self._unread += data
        frames = b""
        if not self.h2.config.client_side and not self._prefaced:
            frames, self._unread = self._unread[:24], self._unread[24:]
            self._prefaced = True
        while len(self._unread) >= 9:
            end = 9 + int.from_bytes(self._unread[:3], "big")
            if len(self._unread) < end:
                break
            frame, self._unread = self._unread[:end], self._unread[end:]
            if frame[3] == _GOAWAY:
                last_stream_id, code = int.from_bytes(frame[9:13], "big"), int.from_bytes(frame[13:17], "big")
                self.goaways.append((last_stream_id, code))
            else:
                frames += frame
        return frames

    def _handle(self, event: Any) -> None:
        message = self.messages.setdefault(getattr(event, "stream_id", 0) or 0, Message())
        match event:
            case RequestReceived():
                message.headers = dict(event.headers)
                self._on_request(event.stream_id)
            case ResponseReceived():
                message.headers = dict(event.headers)
            case InformationalResponseReceived():
                message.interim.append(dict(event.headers))
            case DataReceived():
                message.received += event.data
                if self.taking:
                    self._acknowledge(event.stream_id, event.flow_controlled_length)
                else:
                    self._untaken.append((event.stream_id, event.flow_controlled_length))
            case TrailersReceived():
                message.trailers = dict(event.headers)
            case StreamEnded():
                message.ended = True
            case StreamReset():
                message.reset = int(event.error_code)

    def _acknowledge(self, stream_id: int, size: int) -> None:
        self.h2.acknowledge_received_data(size, stream_id)

    # The end.

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def http2_client(
    port: int, tls: ssl.SSLContext | None = None, *, settings: dict[int, int] | None = None
) -> Http2Peer:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    peer = Http2Peer(reader, writer, client=True, settings=settings)
    peer.start()
    return peer


Serve = Callable[[Http2Peer, int], Awaitable[None]]


async def answer_with_ok(peer: Http2Peer, stream_id: int) -> None:
    peer.h2.send_headers(stream_id, [(":status", "200"), ("content-length", "2")])
    peer.h2.send_data(stream_id, b"ok", end_stream=True)
    peer.flush()


class Http2Upstream:
    """`serve` is called for the head of each request, in a task of its own."""

    def __init__(self, settings: dict[int, int] | None) -> None:
        self.serve: Serve = answer_with_ok
        self.peers: list[Http2Peer] = []
        self.port = 0
        self._settings = settings
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def endpoint(self) -> Endpoint:
        return at_port(self.port)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Http2Peer(reader, writer, client=False, settings=self._settings)
        self.peers.append(peer)
        peer.start(lambda stream_id: self._serve(peer, stream_id))

    def _serve(self, peer: Http2Peer, stream_id: int) -> None:
        async def serve() -> None:
            await self.serve(peer, stream_id)

        task = asyncio.create_task(serve(), name="upstream h2 exchange")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for peer in self.peers:
            await peer.close()


@asynccontextmanager
async def http2_upstream(
    settings: dict[int, int] | None = None, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Http2Upstream]:
    upstream = Http2Upstream(settings)
    server = await asyncio.start_server(upstream.accept, "127.0.0.1", 0, ssl=tls)
    upstream.port = server.sockets[0].getsockname()[1]
    async with server:
        try:
            yield upstream
        finally:
            await upstream.close()
