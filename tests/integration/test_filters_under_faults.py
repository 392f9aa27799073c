"""Filters that wrap bodies, wait, or answer by themselves: with retries, in tunnels, when a client leaves.

The whole data path, over sockets. Afterwards every body that a filter has wrapped is closed, nothing is
counted as under way, and no task is left.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

import pytest

from tests.support.flaky_upstream import Exchange, FlakyUpstream, flaky_upstream
from tests.support.http1_proxy import Handler, read_head, upstream
from tests.support.listening import eventually
from tests.support.running_stack import NAME
from tests.support.shouting_filters import ANSWERS_ITSELF, KINDS, RETRY, Proxy, proxy

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])

DEADLINE_S = 10.0
UPGRADE = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
CONNECT = b"CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n"

every_kind = pytest.mark.parametrize("kind", KINDS)


def post(body: bytes, *, length: int | None = None) -> bytes:
    return b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%b" % (length or len(body), body)


async def answer_of(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Status and body, of a response with a content-length or in one chunk."""
    async with asyncio.timeout(DEADLINE_S):
        line, fields = await read_head(reader)
        if b"content-length" in fields:
            return line.split()[1], await reader.readexactly(int(fields[b"content-length"]))
        body = b""
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
        return line.split()[1], body


@every_kind
async def test_a_request_that_is_tried_again_is_filtered_once(kind: str) -> None:
    async def fail_twice(exchange: Exchange) -> None:
        status = 503 if len(host.exchanges) < 3 else 200
        exchange.answer(status, b"%d" % status + b" from a host")

    async with flaky_upstream() as host, proxy(kind, host.port) as made:
        host.behave = fail_twice
        reader, writer = await made.connect(post(b"some ", length=10))
        await made.seen.reached.wait()
        writer.write(b"words")
        answer = await answer_of(reader)
    expected = {"answering": 0, "replacing": 3}.get(kind, 3)
    assert [exchange.body for exchange in host.exchanges] == [b"SOME WORDS"] * expected
    if kind in ANSWERS_ITSELF:
        assert answer == (b"403", b"NO")
    else:
        assert answer == (b"200", b"200 FROM A HOST")
        assert len(made.seen.bodies) == 2


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with the request's body, in lower case and in brackets."""
    while data := await reader.read(65536):
        writer.write(b"[" + data.lower() + b"]")


async def switch_and_echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
    await echo(reader, writer)


TUNNELS: dict[str, tuple[bytes, Handler, bytes]] = {
    "websocket": (UPGRADE, switch_and_echo, b"101"),
    "CONNECT": (CONNECT, echo, b"200"),
}
every_tunnel = pytest.mark.parametrize("tunnel", TUNNELS)


@every_tunnel
@every_kind
async def test_a_tunnel_passes_its_filter(kind: str, tunnel: str) -> None:
    opening, serve, status = TUNNELS[tunnel]
    async with upstream(serve) as port, proxy(kind, port) as made:
        reader, writer = await made.connect(opening)
        if kind in ANSWERS_ITSELF:
            assert await answer_of(reader) == (b"403", b"NO")
            return
        line, _ = await read_head(reader)
        assert line.split()[1] == status
        for words in (b"one", b"two"):
            writer.write(words)
            expected = b"[" + words.upper() + b"]"
            assert await asyncio.wait_for(reader.readexactly(len(expected)), DEADLINE_S) == expected
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), DEADLINE_S) == b""


@every_tunnel
@pytest.mark.parametrize("kind", ["wrapping", "waiting"])
@pytest.mark.parametrize("resets", [False, True])
async def test_a_client_that_leaves_its_tunnel_takes_the_host_with_it(
    kind: str, tunnel: str, resets: bool
) -> None:
    opening, serve, _ = TUNNELS[tunnel]
    gone = asyncio.Event()

    async def serve_until_gone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            gone.set()

    async with upstream(serve_until_gone) as port, proxy(kind, port) as made:
        reader, writer = await made.connect(opening)
        await read_head(reader)
        writer.write(b"x")
        await reader.readexactly(3)
        writer.transport.abort() if resets else writer.close()
        await asyncio.wait_for(gone.wait(), DEADLINE_S)
        await made.end()


@every_tunnel
@pytest.mark.parametrize("kind", ["wrapping", "waiting"])
async def test_a_host_that_breaks_its_tunnel_leaves_nothing(kind: str, tunnel: str) -> None:
    opening, serve, _ = TUNNELS[tunnel]

    async def serve_and_break(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.create_task(serve(reader, writer), name="serving")
        await broken.wait()
        serving.cancel()
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        writer.transport.abort()

    broken = asyncio.Event()
    async with upstream(serve_and_break) as port, proxy(kind, port) as made:
        reader, writer = await made.connect(opening)
        await read_head(reader)
        writer.write(b"x")
        await reader.readexactly(3)
        broken.set()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), DEADLINE_S)
        await made.running.settle()


async def leaves_while_it_sends(made: Proxy, host: FlakyUpstream) -> asyncio.StreamWriter:
    _, writer = await made.connect(post(b"some words", length=1000))
    await made.seen.reached.wait()
    return writer


async def leaves_before_the_answer(made: Proxy, host: FlakyUpstream) -> asyncio.StreamWriter:
    async def silence(exchange: Exchange) -> None:
        await asyncio.Event().wait()

    host.behave = silence
    _, writer = await made.connect(post(b"some words"))
    await eventually(lambda: len(host.exchanges) == 1)
    return writer


async def leaves_within_the_answer(made: Proxy, host: FlakyUpstream) -> asyncio.StreamWriter:
    async def half(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhalf")
        await asyncio.Event().wait()

    host.behave = half
    reader, writer = await made.connect(post(b"some words"))
    await reader.readuntil(b"HALF")
    return writer


async def leaves_between_two_attempts(made: Proxy, host: FlakyUpstream) -> asyncio.StreamWriter:
    async def fail(exchange: Exchange) -> None:
        exchange.answer(503)

    host.behave = fail
    _, writer = await made.connect(post(b"some words"))
    stats = made.running.stats.cluster("up")
    await eventually(lambda: stats.upstream_rq_5xx == 1)
    return writer


Leaves = Callable[[Proxy, FlakyUpstream], Awaitable[asyncio.StreamWriter]]
LEAVING = (
    leaves_while_it_sends,
    leaves_before_the_answer,
    leaves_within_the_answer,
    leaves_between_two_attempts,
)


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("leaves", LEAVING)
@pytest.mark.parametrize("kind", ["wrapping", "waiting"])
async def test_a_client_that_leaves_ends_its_request(kind: str, leaves: Leaves, resets: bool) -> None:
    retry = replace(RETRY, back_off_base_interval_s=60.0, back_off_max_interval_s=60.0)
    async with flaky_upstream() as host, proxy(kind, host.port, retry=retry) as made:
        writer = await leaves(made, host)
        writer.transport.abort() if resets else writer.close()
        await made.running.settle()
        stats = made.running.stats.http(NAME)
        assert stats.downstream_rq_rx_reset == 1
        await eventually(lambda: all(body.closed for body in made.seen.bodies))


@pytest.mark.parametrize("kind", ["answering", "replacing"])
async def test_a_request_that_a_filter_answers_before_its_end_leaves_nothing(kind: str) -> None:
    async def answer_early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"SOME WORDS")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhalf")
        await reader.read()

    async with upstream(answer_early) as port, proxy(kind, port) as made:
        reader, _ = await made.connect(post(b"some words", length=1000))
        assert await answer_of(reader) == (b"403", b"NO")


@pytest.mark.parametrize("resets", [False, True])
async def test_a_client_that_leaves_while_a_filter_waits_ends_the_wait(resets: bool) -> None:
    async with flaky_upstream() as host, proxy("waiting", host.port, waits=True) as made:
        _, writer = await made.connect(post(b"some words"))
        await made.seen.reached.wait()
        writer.transport.abort() if resets else writer.close()
        await eventually(lambda: made.seen.waits_that_ended == 1)
        await made.running.settle()
        assert not host.exchanges


async def test_a_listener_that_closes_ends_the_waits_of_its_filters() -> None:
    async with flaky_upstream() as host, proxy("waiting", host.port, waits=True) as made:
        reader, _ = await made.connect(post(b"some words"))
        await made.seen.reached.wait()
        await made.running.stack.listeners.close()
        with suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), DEADLINE_S) == b""
        assert made.seen.waits_that_ended == 1
        await eventually(lambda: made.seen.closed == 1)
