"""Attacks of HTTP/2 on a listener, through sockets. Each ends as in Envoy, with its code and its counter; the
memory that it takes is bounded, nothing of it is left, and other clients are served meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
from hyperframe.frame import Frame, GoAwayFrame, RstStreamFrame

from sidecar.config.codec_type import CodecType
from sidecar.config.http2 import Http2Options
from sidecar.config.listener import HttpConnectionManager
from tests.support import http2_frames as frames
from tests.support.clusters import static_cluster
from tests.support.filter_chains import ROUTER
from tests.support.flaky_upstream import Exchange, flaky_upstream
from tests.support.http2_frames import GET, POST, Heads
from tests.support.http2_peer import Http2Peer, http2_client
from tests.support.routes import configuration, prefix, route, to, virtual_host
from tests.support.running_stack import NAME, RunningStack, running_stack

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])

MIB = 1024 * 1024
CALM, INTERNAL_ERROR, REFUSED_STREAM = 11, 2, 7
MANAGER = HttpConnectionManager(
    stat_prefix=NAME,
    codec_type=CodecType.HTTP2,
    http_filters=(ROUTER,),
    route_config=configuration(virtual_host(route(prefix(), to("up")))),
)
LARGE = b"a" * (2 * MIB)


class Attacker:
    """A raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.heads = Heads()
        self._unparsed = b""

    async def send(self, *sent: bytes) -> None:
        with contextlib.suppress(ConnectionError, RuntimeError):  # uvloop's, of a closed transport
            self.writer.write(b"".join(sent))
            await self.writer.drain()

    async def frames_until_the_end(self) -> list[Frame]:
        """The answer: all frames until the connection ends."""
        with contextlib.suppress(ConnectionError):
            while received := await self.reader.read(65536):
                self._unparsed += received
        return frames.parse(self._unparsed)

    async def frames_until(self, kind: type[Frame]) -> list[Frame]:
        while True:
            with contextlib.suppress(AssertionError, ValueError):
                found = frames.parse(self._unparsed)
                if any(isinstance(frame, kind) for frame in found):
                    return found
            received = await self.reader.read(65536)
            assert received, "the connection has ended"
            self._unparsed += received


@asynccontextmanager
async def attacking(stack: RunningStack, settings: dict[int, int] | None = None) -> AsyncIterator[Attacker]:
    reader, writer = await asyncio.open_connection("127.0.0.1", stack.port)
    attacker = Attacker(reader, writer)
    await attacker.send(frames.PREFACE, frames.settings(settings))
    try:
        async with asyncio.timeout(60):
            yield attacker
    finally:
        writer.close()


@asynccontextmanager
async def serving(options: Http2Options | None = None) -> AsyncIterator[tuple[RunningStack, Http2Peer]]:
    """A listener, and another client of it, which must be served all the time."""
    manager = dataclasses.replace(MANAGER, http2=options or Http2Options())
    async with flaky_upstream("a") as upstream:
        upstream.behave = _answer
        async with running_stack(manager, static_cluster(upstream.endpoint)) as stack:
            async with await http2_client(stack.port) as client:
                assert (await client.ask()).body == b"small"
                yield stack, client
                assert (await client.ask()).body == b"small"
            await stack.settle()


async def _answer(exchange: Exchange) -> None:
    body = LARGE if exchange.path == b"/large" else b"small"
    exchange.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    await exchange.writer.drain()


@contextmanager
def memory_below(limit: int) -> Iterator[None]:
    """Of everything in this process, the attacker included."""
    gc.collect()
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < limit


def _end_of(found: list[Frame]) -> tuple[int, bytes]:
    """Code and reason of the GOAWAY."""
    farewell = found[-1]
    assert isinstance(farewell, GoAwayFrame), found[-3:]
    return farewell.error_code, farewell.additional_data


FLOODS = {
    "PING": (frames.ping() * 5000, "outbound_control_flood"),
    "SETTINGS": (frames.settings({4: 65_535}) * 5000, "outbound_control_flood"),
    "empty DATA": (Heads().frames(1, POST) + frames.data(1, b"") * 1000, "inbound_empty_frames_flood"),
    "padded DATA": (
        Heads().frames(1, POST) + frames.data(1, b"", padding=200) * 1000,
        "inbound_empty_frames_flood",
    ),
    "PRIORITY": (frames.raw(2, 0, 99, b"\0\0\0\1\0") * 5000, "inbound_priority_frames_flood"),
    "WINDOW_UPDATE": (frames.window_update(0, 1) * 1000, "inbound_window_update_frames_flood"),
    "empty CONTINUATION": (
        frames.raw(1, 0, 1, b"\x82") + frames.raw(9, 0, 1) * 1000,
        "inbound_empty_frames_flood",
    ),
    "CONTINUATION": (frames.raw(1, 0, 1, b"\x82") + frames.raw(9, 0, 1, b"\x82") * 50_000, ""),
    "large CONTINUATION": (frames.raw(1, 0, 1, b"\x82") + frames.raw(9, 0, 1, b"\x82" * 16_384) * 300, ""),
}


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_ends_its_connection(flood: str) -> None:
    sent, counter = FLOODS[flood]
    async with serving() as (stack, client), attacking(stack) as attacker:
        with memory_below(3 * len(sent) + 2 * MIB):
            await asyncio.gather(attacker.send(sent), client.ask())
            assert _end_of(await attacker.frames_until_the_end())[0] == CALM
        counts = stack.stats.http2()
        assert stack.stats.http(NAME).downstream_cx_protocol_error == 1
        if counter:
            assert getattr(counts, counter) == 1


async def test_rapid_resets_end_the_connection() -> None:
    """CVE-2023-44487: the streams cost the client nothing, and no limit of concurrent ones is reached."""
    async with serving() as (stack, client), attacking(stack) as attacker:
        with memory_below(6 * MIB):
            for stream_id in range(1, 4001, 2):
                await attacker.send(attacker.heads.frames(stream_id, GET, end=True), frames.reset(stream_id))
                if stream_id % 200 == 1:
                    assert (await client.ask()).status == 200
            await attacker.frames_until_the_end()
        stats = stack.stats.http(NAME)
        assert stats.downstream_rq_too_many_premature_resets == 1
        assert stats.downstream_rq_total < 1500


PROVOCATIONS: dict[str, tuple[frames.Fields, Callable[[int], bytes]]] = {
    "WINDOW_UPDATE by 0": (POST, lambda stream_id: frames.raw(8, 0, stream_id, bytes(4))),
    "a window beyond its maximum": (POST, lambda stream_id: frames.window_update(stream_id, 2**31 - 1)),
    "a body that is longer than announced": (
        [*POST, (b"content-length", b"1")],
        lambda stream_id: frames.data(stream_id, b"ab"),
    ),
    "too many headers": ([*POST, *[(b"a", b"")] * 101], lambda stream_id: b""),
}


@pytest.mark.parametrize("provocation", PROVOCATIONS)
async def test_resets_that_a_client_provokes_end_the_connection(provocation: str) -> None:
    """CVE-2025-8671: as above, except that the server sends RST_STREAM."""
    fields, offence = PROVOCATIONS[provocation]
    async with serving() as (stack, client), attacking(stack) as attacker:
        for stream_id in range(1, 2001, 2):
            await attacker.send(attacker.heads.frames(stream_id, fields), offence(stream_id))
            if stream_id % 200 == 1:
                assert (await client.ask()).status == 200
        await attacker.frames_until_the_end()
        stats = stack.stats.http(NAME)
        assert stats.downstream_rq_too_many_premature_resets == 1
        assert stats.downstream_rq_total < 1000
        assert stats.downstream_rq_active == 0


async def test_a_decompression_bomb_resets_its_stream() -> None:
    bomb = b"\x40\x01a\x7f\xa1\x1e" + b"b" * 4000 + b"\xbe" * 12_000
    async with serving() as (stack, client), attacking(stack) as attacker:
        with memory_below(2 * MIB):
            for stream_id in (1, 3, 5, 7):
                await attacker.send(frames.raw(1, 5, stream_id, bomb))
            assert (await client.ask()).status == 200
            await attacker.send(frames.raw(6, 0, 1, b"\0" * 8))  # an error, so that the connection ends
            found = await attacker.frames_until_the_end()
        resets = [frame.error_code for frame in found if isinstance(frame, RstStreamFrame)]
        assert resets == [INTERNAL_ERROR] * 4
        assert stack.stats.http2().header_list_size_too_large == 4


async def test_too_large_headers_reset_their_stream() -> None:
    async with serving(Http2Options(max_headers_bytes=2000)) as (stack, _), attacking(stack) as attacker:
        fields = [*GET, (b"x-large", b"a" * 2000)]
        await attacker.send(attacker.heads.frames(1, fields, end=True))
        found = await attacker.frames_until(RstStreamFrame)
        assert [frame.stream_id for frame in found if isinstance(frame, RstStreamFrame)] == [1]
        assert stack.stats.http2().header_list_size_too_large == 1


async def test_streams_beyond_the_limit_are_refused() -> None:
    async with (
        serving(Http2Options(max_concurrent_streams=10)) as (stack, client),
        attacking(stack) as attacker,
    ):
        opened = [attacker.heads.frames(stream_id, POST) for stream_id in range(1, 201, 2)]
        await attacker.send(*opened)
        assert (await client.ask()).status == 200
        found = await attacker.frames_until(RstStreamFrame)
        assert {frame.error_code for frame in found if isinstance(frame, RstStreamFrame)} == {REFUSED_STREAM}
        assert stack.stats.http2().stream_refused_errors == 90


async def test_a_client_that_does_not_read_holds_little_memory() -> None:
    """1000 streams whose responses have 2 MiB each, without a window, and then with one, but without
    reading."""
    async with serving() as (stack, client), attacking(stack, {4: 0}) as attacker:
        large = [field for field in GET if field[0] != b":path"] + [(b":path", b"/large")]
        with memory_below(200 * MIB):
            for stream_id in range(1, 401, 2):
                await attacker.send(attacker.heads.frames(stream_id, large, end=True))
            assert (await client.ask()).status == 200
            await asyncio.sleep(0.5)
            await attacker.send(frames.settings({4: 2**20}), frames.window_update(0, 2**30))
            assert (await client.ask()).status == 200
        attacker.writer.transport.abort()


async def test_a_long_series_of_requests_leaves_nothing_behind() -> None:
    async with serving() as (_, client):
        for _ in range(300):
            assert (await client.ask()).status == 200
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(300):
            stream = client.request()
            await client.answer(stream)
            del client.messages[stream]
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        assert grown < 600_000
