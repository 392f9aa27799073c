"""`kubectl port-forward`: SPDY in a WebSocket, with two streams for each connection to a port of the pod.

The streams of a connection have the same `requestid`: on one comes what the client sends, on the other (its
`streamtype` is `error`) goes the reason where the port cannot be reached.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from aiohttp import ClientConnectionError, WSMsgType, web

from tests.support.node_agent.kubelet_api.spdy import (
    DataReceived,
    Event,
    Pinged,
    SpdyReceiver,
    SpdySender,
    StreamOpened,
    StreamReset,
)
from tests.support.node_agent.netns import socket_in

PROTOCOL = "SPDY/3.1+portforward.k8s.io"
CHUNK_BYTES = 32768


async def forward_ports(network: Path, request: web.Request) -> web.WebSocketResponse:
    """Until the client closes the connection. `network` is the pod's network namespace."""
    socket = web.WebSocketResponse(protocols=(PROTOCOL,), max_msg_size=0)
    if PROTOCOL not in request.headers.get("Sec-WebSocket-Protocol", ""):
        raise web.HTTPBadRequest(text=f"port forwarding needs the WebSocket protocol {PROTOCOL}")
    await socket.prepare(request)
    receiver = SpdyReceiver()
    async with asyncio.TaskGroup() as tasks:
        forwarding = Forwarding(network, socket, tasks)
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                for event in receiver.receive(message.data):
                    await forwarding.handle(event)
        forwarding.end()
    return socket


class Connection:
    """One to a port of the pod; its data may come before it is established."""

    def __init__(self, stream: int, error_stream: int, port: int) -> None:
        self.stream = stream
        self.error_stream = error_stream
        self.port = port
        self.sent: asyncio.Queue[DataReceived] = asyncio.Queue()
        self.task: asyncio.Task[None]


class Forwarding:
    def __init__(self, network: Path, socket: web.WebSocketResponse, tasks: asyncio.TaskGroup) -> None:
        self._network = network
        self._socket = socket
        self._tasks = tasks
        self._spdy = SpdySender()
        self._error_streams: dict[str, int] = {}  # by requestid
        self._connections: dict[int, Connection] = {}

    async def handle(self, event: Event) -> None:
        match event:
            case StreamOpened():
                await self._open(event)
            case DataReceived():
                if connection := self._connections.get(event.stream):
                    connection.sent.put_nowait(event)
            case StreamReset():
                if connection := self._connections.pop(event.stream, None):
                    connection.task.cancel()
            case Pinged():
                await self._socket.send_bytes(event.answer)

    def end(self) -> None:
        for connection in self._connections.values():
            connection.task.cancel()

    async def _open(self, opened: StreamOpened) -> None:
        await self._socket.send_bytes(self._spdy.reply(opened.stream))
        request = opened.headers["requestid"]
        if opened.headers["streamtype"] == "error":
            self._error_streams[request] = opened.stream
            return
        port = int(opened.headers["port"])
        connection = Connection(opened.stream, self._error_streams.pop(request), port)
        self._connections[opened.stream] = connection
        connection.task = self._tasks.create_task(self._serve(connection), name=f"port {port}")

    async def _serve(self, connection: Connection) -> None:
        """The error stream ends in any case: the client waits for it."""
        reason = b""
        try:
            reader, writer = await connect(self._network, connection.port)
        except OSError as error:
            reason = f"failed to connect to localhost:{connection.port} inside the pod: {error}".encode()
            await self._send(connection.stream, b"", is_last=True)
        else:
            await self._relay(connection, reader, writer)
        finally:
            self._connections.pop(connection.stream, None)
            await self._send(connection.error_stream, reason, is_last=True)

    async def _relay(
        self, connection: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Until both sides have ended. The client may end it earlier: it resets the stream."""
        try:
            async with asyncio.TaskGroup() as both_ways:
                both_ways.create_task(self._answer(reader, connection.stream))
                both_ways.create_task(self._ask(connection, writer))
        finally:
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, stream: int) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await self._send(stream, data)
        await self._send(stream, b"", is_last=True)

    async def _ask(self, connection: Connection, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while not (received := await connection.sent.get()).is_last:
                writer.write(received.data)
                await writer.drain()
            writer.write(received.data)
            writer.write_eof()

    async def _send(self, stream: int, data: bytes, *, is_last: bool = False) -> None:
        with suppress(ClientConnectionError, ConnectionError):  # its messages end too
            await self._socket.send_bytes(self._spdy.data(stream, data, is_last=is_last))


async def connect(network: Path, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """To the pod's loopback address. Raises OSError."""
    within = await socket_in(network)
    try:
        await asyncio.get_running_loop().sock_connect(within, ("127.0.0.1", port))
    except BaseException:
        within.close()
        raise
    return await asyncio.open_connection(sock=within)
