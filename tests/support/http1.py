"""HTTP/1.1 connections without sockets: a fake transport, virtual time, and small services."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any, cast

from sidecar.config.endpoint import SocketAddress
from sidecar.config.listener import HttpConnectionManager
from sidecar.http.body import Body
from sidecar.http.codec import server_codec
from sidecar.http.connection_manager import ConnectionManager
from sidecar.http.headers import Headers
from sidecar.http.message import Request, Response, Service
from sidecar.observability.stats import HttpConnectionManagerStats
from sidecar.observability.stream_info import DownstreamConnection, StreamInfo
from sidecar.timers import Timers
from tests.support.bodies import read_all
from tests.support.virtual_time import VirtualTime


def client_with(**facts: Any) -> DownstreamConnection:
    return DownstreamConnection(
        id=1,
        remote_address=SocketAddress("10.0.0.9", 40000),
        local_address=SocketAddress("10.0.0.1", 15006),
        **facts,
    )


CLIENT = client_with()


class FakeTransport(asyncio.Transport):
    """Remembers what was written; closes as a real one does: in the next turn of the loop."""

    def __init__(self, protocol: asyncio.Protocol, *, half_close: bool = True) -> None:
        super().__init__()
        self.protocol = protocol
        self.written = b""
        self.writes = 0
        self.reading = True
        self.eof_written = False
        self.closed = False
        self.aborted = False
        self.was_reset = False
        self.unflushed_bytes = 0  # what a slow peer has not taken: set by a test, it keeps `close` waiting
        self._half_close = half_close
        self._lost = False  # its protocol is notified once
        protocol.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.eof_written, "a write after the end"
        if not self.closed:
            self.written += bytes(data)
            self.writes += 1

    def take(self) -> bytes:
        written, self.written = self.written, b""
        return written

    def write_eof(self) -> None:
        self.eof_written = True

    def can_write_eof(self) -> bool:
        return self._half_close

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = cast("asyncio.Protocol", protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.protocol

    def get_write_buffer_size(self) -> int:
        return self.unflushed_bytes

    def close(self) -> None:
        if self.unflushed_bytes:
            self.closed = True
        else:
            self.lose(None)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self if name == "socket" else default

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER)
        assert value == struct.pack("ii", 1, 0)
        self.was_reset = True

    def abort(self) -> None:
        self.aborted = True
        self.closed = True
        self._report_lost(None)

    def lose(self, error: Exception | None) -> None:
        if not self.closed:
            self.closed = True
            self._report_lost(error)

    def _report_lost(self, error: Exception | None) -> None:
        if not self._lost:
            self._lost = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, error)

    def receive_eof(self) -> None:
        if not self.protocol.eof_received():
            self.close()


async def settle() -> None:
    """Lets everything happen that can without time passing or bytes arriving."""
    for _ in range(30):
        await asyncio.sleep(0)


class Server:
    """A server connection over a fake transport, its manager, and the ends that it reported."""

    def __init__(self, service: Service, connection: DownstreamConnection = CLIENT, **config: Any) -> None:
        self.time = VirtualTime()
        self.stats = HttpConnectionManagerStats()
        self.ended: list[tuple[Request, Response | None]] = []
        self.closed = 0  # how often the manager reported that its last connection is closed
        self.manager = ConnectionManager(
            HttpConnectionManager(stat_prefix="test", **config),
            service,
            self.stats,
            codec=server_codec,
            timers=Timers(self.time),
            clock=self.time.time,
            on_complete=(lambda request, response: self.ended.append((request, response)),),
            on_closed=self._note_closed,
        )
        self.protocol = self.manager.protocol(connection)
        self.transport = FakeTransport(self.protocol)

    async def exchange(self, data: bytes) -> bytes:
        """Feeds bytes, and returns the bytes written until the loop is idle."""
        self.transport.protocol.data_received(data)
        await settle()
        return self.transport.take()

    def _note_closed(self) -> None:
        self.closed += 1

    @property
    def info(self) -> StreamInfo:
        """Of the request that ended last."""
        return self.ended[-1][0].info


def response(body: bytes = b"hello", status: int = 200, headers: Headers | None = None) -> Response:
    return Response(status, list(headers or []), Body(body))


async def echo(request: Request) -> Response:
    """Answers with the request's body, whole."""
    return response(await read_all(request.body))


def new_request(
    method: bytes = b"GET", path: bytes = b"/", headers: Headers | None = None, body: bytes | Body = b""
) -> Request:
    content = Body(body) if isinstance(body, bytes) else body
    info = StreamInfo(CLIENT, 0, 0)
    return Request(method, b"http", b"reviews:9080", path, list(headers or []), content, info)
