"""A closed loop over many connections: each sends the next message when the last is answered.

python -m tests.bench.load.closed_loop PARAMETERS      prints a `Load`; see `Parameters`
"""

from __future__ import annotations

import asyncio
import gc
import json
import re
import ssl
import sys
import time
from dataclasses import dataclass
from typing import cast

import uvloop

from tests.bench.load.latencies import load_of
from tests.bench.load.request import PATH, encoded
from tests.bench.upstream import CLIENT_FRAME, SERVER_FRAME

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_UPGRADE = encoded().replace(
    b"\r\n\r\n",
    b"\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """`protocol` is ``http`` or ``websocket``. `close`: each request has a connection of its own."""

    port: int
    seconds: float
    connections: int
    protocol: str
    path: str = PATH
    tls: bool = False
    close: bool = False


class Client:
    """One connection. `latencies_s` is shared by all."""

    def __init__(self, loop: ClosedLoop) -> None:
        self._loop = loop
        self._buffer = b""
        self._open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send(_UPGRADE if self._loop.websocket else self._loop.request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._loop.websocket and self._open:
            answered = len(self._buffer) >= len(SERVER_FRAME)
        else:
            answered = self._is_answered()
        if not answered:
            return
        self._buffer = b""
        if not self._loop.websocket or self._open:
            self._loop.latencies_s.append(time.perf_counter() - self._sent_s)
        self._open = True
        if not self._loop.parameters.close:
            self._send(CLIENT_FRAME if self._loop.websocket else self._loop.request)

    def _send(self, message: bytes) -> None:
        self._sent_s = time.perf_counter()
        self._transport.write(message)

    def _is_answered(self) -> bool:
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return False
        expected = b"HTTP/1.1 101" if self._loop.websocket else b"HTTP/1.1 200"
        if not head.startswith(expected):
            self._loop.fail(f"answered {head[:100]!r}")
        length = _LENGTH.search(head)
        return len(body) >= (int(length[1]) if length else 0)

    def connection_lost(self, error: Exception | None) -> None:
        self._loop.lost(error)

    def eof_received(self) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


class ClosedLoop:
    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.request = encoded(parameters.path, close=parameters.close)
        self.websocket = parameters.protocol == "websocket"
        self.latencies_s: list[float] = []
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._connecting: set[asyncio.Task[None]] = set()
        self._ended = False
        self._tls = _trusting_tls() if parameters.tls else None

    def fail(self, reason: str) -> None:
        if not self._failed.done() and not self._ended:
            self._failed.set_exception(RuntimeError(reason))

    def lost(self, error: Exception | None) -> None:
        if not self.parameters.close or error is not None:
            self.fail(f"a connection ended: {error}")
        elif not self._ended:
            self._connect()

    def _connect(self) -> None:
        task = asyncio.create_task(self._open(), name="connection")
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _open(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: Client(self),  # type: ignore[arg-type, return-value]
                "127.0.0.1",
                self.parameters.port,
                ssl=self._tls,
            )
        except OSError as error:
            self.fail(str(error))

    async def run(self) -> float:
        """Returns the seconds that it took."""
        start_s = time.perf_counter()
        for _ in range(self.parameters.connections):
            self._connect()
        await asyncio.wait([self._failed], timeout=self.parameters.seconds)
        self._ended = True
        if self._failed.done():
            self._failed.result()
        return time.perf_counter() - start_s


def _trusting_tls() -> ssl.SSLContext:
    """As in wrk: the proxies' certificates are not checked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def main(parameters: Parameters) -> None:
    gc.disable()
    loop = ClosedLoop(parameters)
    seconds = await loop.run()
    print(load_of(loop.latencies_s, seconds).to_json())


if __name__ == "__main__":
    uvloop.run(main(Parameters(**json.loads(sys.argv[1]))))
