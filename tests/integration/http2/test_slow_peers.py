"""A peer that stops reading stops the other side, and takes a bounded amount of memory: measured of a sidecar
in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support import http2_frames as frames
from tests.support.envoy_config import (
    bootstrap,
    changed,
    http_connection_manager,
    listener,
    route_configuration,
    static_cluster,
)
from tests.support.http2_frames import GET, POST, Heads
from tests.support.http2_peer import http2_client
from tests.support.running_sidecar import RunningSidecar, running

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])

MIB = 1024 * 1024
STREAMS = 1000  # the default limit is 1024
HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n"


class Upstream:
    """It sends much, or reads little. `moved` counts the bytes of the bodies that it could send, or has
    read."""

    def __init__(self) -> None:
        self.moved = 0
        self._writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET /large"):
                    writer.write(HEAD % (8 * MIB))
                    for _ in range(128):
                        writer.write(b"a" * 65_536)
                        await writer.drain()
                        self.moved += 65_536
                elif head.startswith(b"POST"):
                    return  # its body is not read
                else:
                    writer.write(HEAD % 2 + b"ok")

    async def close(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        for writer in self._writers:
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@asynccontextmanager
async def proxied(folder: Path) -> AsyncIterator[tuple[RunningSidecar, int, Upstream]]:
    """A sidecar, the port of its listener, and the upstream."""
    upstream = Upstream()
    listening = socket.create_server(("127.0.0.1", 0), backlog=2 * STREAMS)
    # Else the kernel takes 2.5 MB for each connection, and this process, which also has the other client, is
    # busy for seconds.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
    async with await asyncio.start_server(upstream.serve, sock=listening, backlog=2 * STREAMS):
        port = listening.getsockname()[1]
        breakers = {
            "thresholds": [{"max_connections": 5000, "max_requests": 5000, "max_pending_requests": 5000}]
        }
        manager = http_connection_manager(codec_type="HTTP2", route_config=route_configuration())
        document = changed(bootstrap(), "static_resources.listeners", [listener("l", manager)])
        cluster = {**static_cluster("a", port), "circuit_breakers": breakers}
        document = changed(document, "static_resources.clusters", [cluster])
        with running(folder, document) as sidecar:
            await asyncio.to_thread(sidecar.wait_for_state, "LIVE")
            page = await asyncio.to_thread(sidecar.ask, "/listeners")
            try:
                yield sidecar, int(page.body.strip().rpartition(":")[2]), upstream
            finally:
                await upstream.close()


async def _stands_still(moved: Callable[[], int]) -> None:
    """Returns when no more bytes move: `moved` is the number of those that have."""
    async with asyncio.timeout(60):
        before = -1
        while before != (before := await asyncio.to_thread(moved)):
            await asyncio.sleep(0.5)


@pytest.mark.parametrize("window", [0, 2**31 - 1], ids=["no window", "a window"])
async def test_a_client_that_does_not_read_stops_the_upstreams(tmp_path: Path, window: int) -> None:
    async with proxied(tmp_path) as (sidecar, port, upstream), await http2_client(port) as other:
        assert (await other.ask()).body == b"ok"
        before = sidecar.process.resident_bytes()
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        heads = Heads()
        large = [field for field in GET if field[0] != b":path"] + [(b":path", b"/large")]
        requests = [heads.frames(2 * number + 1, large, end=True) for number in range(STREAMS)]
        writer.write(frames.PREFACE + frames.settings({4: window}) + b"".join(requests))
        if window:
            writer.write(frames.window_update(0, 2**31 - 1 - 65_535))
        await _stands_still(lambda: upstream.moved)
        grown = sidecar.process.resident_bytes(peak=True) - before
        assert upstream.moved < STREAMS * 8 * MIB
        assert grown < STREAMS * MIB  # Envoy's per_connection_buffer_limit_bytes
        assert (await other.ask()).body == b"ok"
        writer.transport.abort()


# What the sidecar keeps of requests whose upstreams do not read: what the window of the client's connection
# lets the client send, and for each stream the part that was read of it last, twice: recorded for a retry,
# and in the buffer of the upstream's connection.
WINDOW = 24 * MIB
UPLOADS = 8
PART = 256 * 1024
UPLOADED = WINDOW + UPLOADS * 2 * PART
# The reads of sockets, and memory that the allocator has not given back.
OVERHEAD = 12 * MIB


async def test_an_upstream_that_does_not_read_stops_the_client(tmp_path: Path) -> None:
    async with proxied(tmp_path) as (sidecar, port, _), await http2_client(port) as other:
        assert (await other.ask()).body == b"ok"
        before = sidecar.process.resident_bytes()
        async with await http2_client(port) as client:
            head = [(name.decode(), value.decode()) for name, value in POST]
            bodies = [client.send_body(client.open(head, end=False), b"a" * 64 * MIB) for _ in range(UPLOADS)]
            sending = [asyncio.create_task(body) for body in bodies]
            await _stands_still(lambda: _received_bytes(sidecar))
            grown = sidecar.process.resident_bytes(peak=True) - before
            assert grown < UPLOADED + OVERHEAD
            assert (await other.ask()).body == b"ok"
            assert not any(task.done() for task in sending)
            for task in sending:
                task.cancel()
            await asyncio.gather(*sending, return_exceptions=True)


def _received_bytes(sidecar: RunningSidecar) -> int:
    """From all clients."""
    page = sidecar.ask("/stats?filter=downstream_cx_rx_bytes_total")
    return sum(int(line.rpartition(":")[2]) for line in page.body.splitlines())
