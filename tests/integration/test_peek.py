"""How often a listener looks at the first bytes of a connection, counted at a real socket."""

from __future__ import annotations

import asyncio
import socket

import pytest

from sidecar.listener.detect import HTTP11, Detection
from sidecar.listener.peek import first_byte, sniff

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop", "asyncio"])


class Counted(socket.socket):
    looks = 0

    def recv(self, size: int, flags: int = 0) -> bytes:
        self.looks += 1
        return super().recv(size, flags)


@pytest.fixture
def ends() -> tuple[Counted, socket.socket]:
    """The listener's end of a TCP connection, and the client's."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        accepted, _ = server.accept()
    counted = Counted(fileno=accepted.detach())
    counted.setblocking(False)
    return counted, client


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_bytes_that_say_too_little_are_looked_at_once_each(ends: tuple[Counted, socket.socket]) -> None:
    """They stay in the kernel, and so the socket stays readable."""
    accepted, client = ends
    with accepted, client:
        sniffing = asyncio.create_task(sniff(accepted, tls=True, http=True))
        line = b"GET /reviews HTTP/1.1\r\n"
        for byte in line[:10]:
            client.send(bytes([byte]))
            await turns(50)
        assert accepted.looks <= 11
        client.send(line[10:])
        assert await sniffing == Detection(application_protocols=(HTTP11,))
        assert accepted.recv(100) == line


async def test_a_client_that_says_nothing_is_looked_at_once(ends: tuple[Counted, socket.socket]) -> None:
    accepted, client = ends
    with accepted, client:
        waiting = asyncio.create_task(first_byte(accepted))
        await turns(50)
        assert accepted.looks == 1
        client.send(b"x")
        await waiting
