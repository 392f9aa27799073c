"""The cheapest servers behind the proxies, which are measured, not these. Prints the port.

python -m tests.bench.upstream                               HTTP/1.1, and WebSocket messages of a fixed size
python -m tests.bench.upstream CERTIFICATE KEY TRUSTED_CA    the same over mutual TLS 1.3

The path /bytes/N is answered with N bytes, each other path with 512.
"""

from __future__ import annotations

import asyncio
import gc
import re
import ssl
import sys
from typing import cast

import uvloop

MESSAGE_BYTES = 64
CLIENT_FRAME = b"\x82" + bytes([0x80 | MESSAGE_BYTES]) + b"mask" + b"m" * MESSAGE_BYTES  # RFC 6455 5.2
SERVER_FRAME = b"\x82" + bytes([MESSAGE_BYTES]) + b"s" * MESSAGE_BYTES
_SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n"
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_PATH = re.compile(rb"[A-Z]+ /bytes/(\d+) ")
_answers: dict[int, bytes] = {}


def answer(body_bytes: int) -> bytes:
    if body_bytes not in _answers:
        _answers[body_bytes] = (
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncache-control: no-cache\r\n"
            b"vary: accept-encoding\r\netag: W/0123456789\r\ncontent-length: %d\r\n\r\n%b"
            % (body_bytes, b"x" * body_bytes)
        )
    return _answers[body_bytes]


class Upstream:
    """One connection. A request's body has a Content-Length."""

    def __init__(self) -> None:
        self._tail = b""
        self._unread = 0
        self._answer = b""
        self._websocket = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None: ...

    def eof_received(self) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...

    def data_received(self, data: bytes) -> None:
        data = self._tail + data
        data, answers = self._messages(data) if self._websocket else self._requests(data)
        self._tail = data
        if answers:
            self._transport.write(answers)

    def _messages(self, data: bytes) -> tuple[bytes, bytes]:
        count, rest = divmod(len(data), len(CLIENT_FRAME))
        return data[len(data) - rest :], SERVER_FRAME * count

    def _requests(self, data: bytes) -> tuple[bytes, bytes]:
        answers = b""
        while True:
            if self._unread:
                skipped = min(self._unread, len(data))
                self._unread -= skipped
                data = data[skipped:]
                if self._unread:
                    return b"", answers
                answers += self._answer
            end = data.find(b"\r\n\r\n")
            if end < 0:
                return data, answers
            answers += self._begin(data[: end + 2])
            data = data[end + 4 :]

    def _begin(self, head: bytes) -> bytes:
        """Returns the answer to a request without a body."""
        if b"websocket" in head:
            self._websocket = True
            return _SWITCHING
        path = _PATH.match(head)
        self._answer = answer(int(path[1]) if path else 512)
        length = None if head.startswith(b"GET") else _LENGTH.search(head)
        self._unread = int(length[1]) if length else 0
        return b"" if self._unread else self._answer


def mutual_tls(certificate: str, key: str, trusted_ca: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(trusted_ca)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


async def main(files: list[str]) -> None:
    gc.disable()  # its pauses would count as the proxies' latency
    loop = asyncio.get_running_loop()
    context = mutual_tls(*files) if files else None
    server = await loop.create_server(
        Upstream,
        "127.0.0.1",
        0,
        ssl=context,
        backlog=1024,  # type: ignore[arg-type]
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1:]))
