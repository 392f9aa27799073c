"""A command in a container over a WebSocket: the protocol v5.channel.k8s.io of `kubectl exec`.

Each message begins with the number of its channel. Our last message is the command's result, a `Status` in
JSON.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import struct
import termios
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from aiohttp import ClientConnectionError, WSMsgType, web
from multidict import MultiMapping

from tests.support.node_agent.container import Container, Streams, exit_code, kill

PROTOCOL = "v5.channel.k8s.io"
CHUNK_BYTES = 32768


class Channel(IntEnum):
    STDIN = 0
    STDOUT = 1
    STDERR = 2
    RESULT = 3
    RESIZE = 4
    CLOSE = 255


Send = Callable[[Channel, bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecOptions:
    command: list[str]
    stdin: bool
    tty: bool

    @classmethod
    def of(cls, query: MultiMapping[str]) -> Self:
        return cls(
            command=query.getall("command", []), stdin=query.get("input") == "1", tty=query.get("tty") == "1"
        )


async def execute(container: Container, options: ExecOptions, request: web.Request) -> web.WebSocketResponse:
    """Returns when the command has ended, or the client is gone: then the command is killed."""
    socket = web.WebSocketResponse(protocols=(PROTOCOL,), max_msg_size=0)
    if PROTOCOL not in request.headers.get("Sec-WebSocket-Protocol", ""):
        raise web.HTTPBadRequest(text=f"exec needs the WebSocket protocol {PROTOCOL}")
    await socket.prepare(request)

    async def send(channel: Channel, data: bytes) -> None:
        with suppress(ClientConnectionError, ConnectionError):  # its messages end too
            await socket.send_bytes(bytes([channel]) + data)

    code = await (in_a_terminal if options.tty else with_pipes)(container, options, socket, send)
    if code is not None:
        await send(Channel.RESULT, result(code))
    await socket.close()
    return socket


async def messages(socket: web.WebSocketResponse) -> AsyncIterator[tuple[int, bytes]]:
    """The client's, with their channels, until it is gone."""
    async for message in socket:
        if message.type is WSMsgType.BINARY and message.data:
            yield message.data[0], message.data[1:]


def result(code: int) -> bytes:
    """A `Status` of meta/v1: as the kubelet writes it."""
    if code == 0:
        return json.dumps({"metadata": {}, "status": "Success"}).encode()
    status = {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }
    return json.dumps(status).encode()


async def with_pipes(
    container: Container, options: ExecOptions, socket: web.WebSocketResponse, send: Send
) -> int | None:
    """The exit code; None where the client is gone."""
    streams = Streams(stdin=PIPE if options.stdin else None, stdout=PIPE, stderr=PIPE)
    process = await container.start(options.command, streams)
    stdin = process.stdin

    async def write(data: bytes) -> None:
        if stdin is not None:
            with suppress(ConnectionError):  # it has closed its input
                stdin.write(data)
                await stdin.drain()

    async def receive() -> None:
        async for channel, data in messages(socket):
            if channel == Channel.STDIN:
                await write(data)
            elif channel == Channel.CLOSE and data == bytes([Channel.STDIN]) and stdin is not None:
                stdin.close()

    async def relay() -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        async with asyncio.TaskGroup() as outputs:
            outputs.create_task(pump(process.stdout, Channel.STDOUT, send))
            outputs.create_task(pump(process.stderr, Channel.STDERR, send))

    return await attended(process, receive(), relay())


async def pump(reader: asyncio.StreamReader, channel: Channel, send: Send) -> None:
    while data := await reader.read(CHUNK_BYTES):
        await send(channel, data)


async def in_a_terminal(
    container: Container, options: ExecOptions, socket: web.WebSocketResponse, send: Send
) -> int | None:
    """As `with_pipes`. Both outputs are one; an interrupt is a character of the input."""
    with terminal() as (ours, theirs):
        streams = Streams(stdin=theirs, stdout=theirs, stderr=theirs, terminal=True)
        try:
            process = await container.start(options.command, streams)
        finally:
            os.close(theirs)

        async def receive() -> None:
            async for channel, data in messages(socket):
                if channel == Channel.STDIN:
                    os.write(ours, data)
                elif channel == Channel.RESIZE:
                    resize(ours, data)

        async def relay() -> None:
            output = await reader_of(ours)
            with suppress(OSError):  # a terminal reports the end of its other side as an error
                await pump(output, Channel.STDOUT, send)

        return await attended(process, receive(), relay())


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """Our side, which is closed at the end, and the command's."""
    ours, theirs = os.openpty()
    try:
        yield ours, theirs
    finally:
        os.close(ours)


async def reader_of(descriptor: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    file = os.fdopen(os.dup(descriptor), "rb", buffering=0)  # the transport closes it
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
    return reader


def resize(descriptor: int, data: bytes) -> None:
    size = json.loads(data)
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", size["Height"], size["Width"], 0, 0))


async def attended(process: Process, receiving: Awaitable[None], relaying: Awaitable[None]) -> int | None:
    """Until all output is sent, or the client is gone. The process does not outlive it."""
    receiver, relay = asyncio.ensure_future(receiving), asyncio.ensure_future(relaying)
    try:
        await asyncio.wait([receiver, relay], return_when=asyncio.FIRST_COMPLETED)
        if not relay.done():
            return None
        relay.result()
        return exit_code(await process.wait())
    finally:
        kill(process)
        for task in (receiver, relay):
            task.cancel()
        await asyncio.gather(receiver, relay, return_exceptions=True)
        await process.wait()
