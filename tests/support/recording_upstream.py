"""A small HTTP/1.1 server that records its requests, and answers as the request demands.

The header ``answer`` has one answer for each attempt, the last one for all that follow:
``answer: 503,reset,ok``. An answer is a status, or one of `_ANSWERS`, or ``silence``;
``early`` is 413, before the body.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial


def _grpc(content: bytes, trailers: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc+proto\r\ntransfer-encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n%b\r\n" % (len(content), content) if content else b""
    return head + chunk + b"0\r\n" + trailers + b"\r\n"


_ANSWERS = {
    "ok": b"HTTP/1.1 200 OK\r\nx-from-upstream: yes\r\ncontent-length: 2\r\n\r\nok",
    "chunked": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
    "padded chunks": (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        b"5  \r\nhello\r\n6 ; a = b\r\n world\r\n0 \r\n\r\n"
    ),
    "large chunks": (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        + (b"10000\r\n" + b"x" * 0x10000 + b"\r\n") * 8
        + b"0\r\n\r\n"
    ),
    "trailers": (
        b"HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n"
        b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nx-sum: 2\r\n\r\n"
    ),
    "empty": b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    "head": b"HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n",  # to HEAD: the length of what GET would give
    "head chunked": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "304": b'HTTP/1.1 304 Not Modified\r\netag: "1"\r\n\r\n',
    "304 with length": b"HTTP/1.1 304 Not Modified\r\ncontent-length: 1234\r\n\r\n",
    "hints": (
        b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n"
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    ),
    "continue": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    "hop-by-hop": (
        b"HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\n"
        b"Proxy-Connection: keep-alive\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nok"
    ),
    "own headers": (
        b"HTTP/1.1 200 Fine\r\nServer: theirs\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nSet-Cookie: a=1\r\n"
        b"Set-Cookie: b=2\r\nX-Request-Id: theirs\r\nX-Envoy-Upstream-Service-Time: 12345\r\n"
        b"Via: 1.1 them\r\nX-Mixed-Case: Kept \r\nX-Empty:\r\nContent-Length: 2\r\n\r\nok"
    ),
    "decorated": (
        b"HTTP/1.1 200 OK\r\nx-envoy-decorator-operation: of-upstream\r\ncontent-length: 2\r\n\r\nok"
    ),
    "decorated with nothing": (
        b"HTTP/1.1 200 OK\r\nx-envoy-decorator-operation:\r\ncontent-length: 2\r\n\r\nok"
    ),
    "no reason": b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok",
    "folded": b"HTTP/1.1 200 OK\r\nx-a: 1\r\n 2\r\ncontent-length: 2\r\n\r\nok",
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"x-a: 1\r\n" * 90 + b"content-length: 2\r\n\r\nok",
    "switch and speak": (
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nbye"
    ),
    "too many headers": b"HTTP/1.1 200 OK\r\n" + b"x-a: 1\r\n" * 100 + b"content-length: 2\r\n\r\nok",
    "large head": b"HTTP/1.1 200 OK\r\nx-a: " + b"1" * 70_000 + b"\r\ncontent-length: 2\r\n\r\nok",
    "too large head": b"HTTP/1.1 200 OK\r\nx-a: " + b"1" * 90_000 + b"\r\ncontent-length: 2\r\n\r\nok",
    "gzip and chunked": b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "more than said": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok, and more",
    "204 with length": b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n",
    "204 with body": b"HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\nok",
    "close in chunks": (
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    ),
    "equal lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok",
    "empty length": b"HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\nok",
    "bare line feeds": b"HTTP/1.1 200 OK\ncontent-length: 2\n\nok",
    "HTTP/1.1 and no more": b"HTTP/1.1\r\ncontent-length: 2\r\n\r\nok",
    "NUL": b"HTTP/1.1 200 OK\r\nx-a: 1\x002\r\ncontent-length: 2\r\n\r\nok",
    "carriage return": b"HTTP/1.1 200 OK\r\nx-a: 1\r2\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    "close": b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
    "until close": b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
    "http/1.0": b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
    "reset": b"",
    "cut short": b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
    "cut chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "garbage": b"I do not speak this\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc",
    "length and chunks": (
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    ),
    "bad header": b"HTTP/1.1 200 OK\r\nx bad: 1\r\ncontent-length: 2\r\n\r\nok",
    "bad chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n",
    "grpc": _grpc(b"\0\0\0\0\2hi", b"grpc-status: 0\r\ngrpc-message: fine\r\nX-Own: 1\r\n"),
    "grpc twice": _grpc(b"\0\0\0\0\2hi\0\0\0\0\1!", b"grpc-status: 0\r\n"),
    "grpc not found": _grpc(b"", b"grpc-status: 5\r\ngrpc-message: no%20such\r\n"),
    "grpc unavailable late": _grpc(b"\0\0\0\0\2hi", b"grpc-status: 14\r\n"),
    "grpc without status": _grpc(b"\0\0\0\0\2hi", b""),
    "grpc head only": (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: 3\r\ngrpc-message: bad\r\n"
        b"content-length: 0\r\n\r\n"
    ),
    "grpc unavailable": (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: 14\r\ncontent-length: 0\r\n\r\n"
    ),
    "html": (b"HTTP/1.1 404 Not Found\r\ncontent-type: text/html\r\ncontent-length: 12\r\n\r\n<b>100%</b>\n"),
    "switch": b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n",
}
_ENDS = frozenset((
    "close", "until close", "http/1.0", "reset", "cut short", "cut chunk", "garbage", "two lengths",
    "length and chunks", "bad header", "bad chunk", "switch and speak", "too many headers", "too large head",
    "gzip and chunked", "more than said", "204 with body", "close in chunks", "equal lengths", "empty length",
    "bare line feeds", "HTTP/1.1 and no more", "NUL", "carriage return", "HTTP/2.0",
))  # fmt: skip
GOODBYE = b"bye"
"""The end of a tunnel: after ``switch`` all bytes up to these come back, with them."""


@dataclass(slots=True)
class SeenRequest:
    """A request as it was received. ``upstream`` is the name of the server that got it."""

    upstream: str
    line: str
    fields: list[tuple[str, str]]
    framing: str = "none"
    body: str = ""
    trailers: list[tuple[str, str]] = field(default_factory=list)

    def value(self, name: str) -> str | None:
        return next((value for field_name, value in self.fields if field_name.lower() == name), None)


class RecordingUpstream:
    """``ports`` by the names given."""

    def __init__(self) -> None:
        self.ports: dict[str, int] = {}
        self._seen: list[SeenRequest] = []
        self._connections: set[asyncio.Task[None]] = set()

    def take_seen(self) -> list[SeenRequest]:
        """The requests since the last call, in the order in which they were complete."""
        seen, self._seen = self._seen, []
        return seen

    async def run(self, names: tuple[str, ...], ready: threading.Event, stop: asyncio.Event) -> None:
        servers = []
        for name in names:
            server = await asyncio.start_server(partial(self._serve, name), "127.0.0.1", 0)
            self.ports[name] = server.sockets[0].getsockname()[1]
            servers.append(server)
        ready.set()
        await stop.wait()
        for server in servers:
            server.close()
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while await self._answer(name, reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the proxy has left
        finally:
            self._connections.discard(task)
            writer.close()

    async def _answer(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection stays open."""
        request = await _read_head(name, reader)
        if request.value("answer") == "early":
            self._seen.append(request)
            writer.write(_status_answer("413"))
            await reader.read()
            return False
        await _read_body(request, reader)
        self._seen.append(request)
        answers = (request.value("answer") or "ok").split(",")
        answer = answers[min(len(self._seen), len(answers)) - 1]
        if answer == "silence":
            await reader.read()
            return False
        writer.write(_ANSWERS[answer] if answer in _ANSWERS else _status_answer(answer))
        await writer.drain()
        if answer == "switch":
            writer.write(await reader.readuntil(GOODBYE))
            return False
        return answer not in _ENDS and request.value("connection") != "close"


def _status_answer(status: str) -> bytes:
    """`status` is three digits."""
    head = f"HTTP/1.1 {int(status)} Said So\r\nx-from-upstream: yes\r\ncontent-length: 4\r\n\r\n"
    return head.encode() + b"said"


async def _read_head(name: str, reader: asyncio.StreamReader) -> SeenRequest:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *lines = head.split("\r\n")[:-2]
    return SeenRequest(name, line, [_field(text) for text in lines])


async def _read_body(request: SeenRequest, reader: asyncio.StreamReader) -> None:
    length = request.value("content-length")
    if request.value("transfer-encoding") == "chunked":
        request.framing = "chunked"
        while size := int(await reader.readuntil(b"\r\n"), 16):
            request.body += (await reader.readexactly(size)).decode("latin-1")
            await reader.readexactly(2)
        while trailer := (await reader.readuntil(b"\r\n"))[:-2]:
            request.trailers.append(_field(trailer.decode("latin-1")))
    elif length is not None:
        request.framing = "length"
        request.body = (await reader.readexactly(int(length))).decode("latin-1")


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name, value.strip(" \t")


@contextmanager
def recording_upstream(*names: str) -> Iterator[RecordingUpstream]:
    """Serves on a port for each name, in a separate thread, until the block ends."""
    upstream, ready = RecordingUpstream(), threading.Event()
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(
        target=loop.run_until_complete, args=(upstream.run(names, ready, stop),), name="upstream"
    )
    thread.start()
    ready.wait()
    try:
        yield upstream
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
