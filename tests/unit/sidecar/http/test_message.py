from __future__ import annotations

import asyncio
import tracemalloc

import pytest

from sidecar.errors import UpstreamResetError
from sidecar.http.body import BodyStream
from sidecar.http.headers import get_header
from tests.support.bodies import received


class Source:
    def __init__(self) -> None:
        self.told: list[str] = []

    def pause_body(self) -> None:
        self.told.append("pause")

    def resume_body(self) -> None:
        self.told.append("resume")

    def abandon_body(self) -> None:
        self.told.append("abandon")


async def test_read_waits_for_bytes_and_for_the_end() -> None:
    body = BodyStream()
    reading = asyncio.ensure_future(body.read())
    await asyncio.sleep(0)
    body.feed(b"a")
    body.feed(b"b")
    assert await reading == b"ab"
    body.feed_end([(b"x", b"y")])
    assert await body.read() == b""
    assert body.trailers == [(b"x", b"y")]


async def test_producer_is_paused_above_the_high_water_and_resumed_when_all_was_read() -> None:
    source = Source()
    body = BodyStream(source, high_water=1000)
    body.feed(b"x" * 900)
    assert source.told == []
    body.feed(b"x" * 100)
    body.feed(b"x")
    assert source.told == ["pause"]
    assert len(await body.read()) == 1001
    assert source.told == ["pause", "resume"]


async def test_small_pieces_count_with_the_memory_that_they_take() -> None:
    source = Source()
    body = BodyStream(source, high_water=1000)
    for _ in range(100):
        body.feed(b"xy")
    assert source.told == ["pause"]


async def test_small_pieces_that_wait_for_a_slow_reader_are_joined() -> None:
    """A peer may send millions of them before it notices the pause; each would take 50 bytes of memory."""
    body = BodyStream(Source(), high_water=1000)
    body.feed(b"a" * 1000)
    tracemalloc.start()
    try:
        for _ in range(100_000):
            body.feed(bytes(bytearray(b"xy")))
        size = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert size < 400_000
    assert await body.read() == b"a" * 1000 + b"xy" * 100_000


async def test_many_bytes_are_read_in_parts_and_the_producer_is_paused_until_the_last() -> None:
    source = Source()
    body = BodyStream(source, high_water=1000)
    pieces = [bytes([number]) * 100_000 for number in range(5)]
    for piece in pieces:
        body.feed(piece)
    assert await body.read() == pieces[0] + pieces[1]
    assert await body.read() == pieces[2] + pieces[3]
    assert source.told == ["pause"]
    assert await body.read() == pieces[4]
    assert source.told == ["pause", "resume"]


async def test_a_piece_above_the_size_of_a_part_is_read_whole() -> None:
    body = BodyStream()
    body.feed(b"a" * 1_000_000)
    body.feed(b"b")
    body.feed_end()
    assert await body.read() == b"a" * 1_000_000
    assert await body.read() == b"b"
    assert await body.read() == b""


async def test_producer_of_an_ended_body_is_resumed_before_the_body_is_read() -> None:
    source = Source()
    body = BodyStream(source, high_water=10)
    body.feed(b"x" * 11)
    body.feed_end()
    assert source.told == ["pause", "resume"]
    assert len(await body.read()) == 11
    body.close()
    assert source.told == ["pause", "resume"]


async def test_failure_wakes_the_reader() -> None:
    body = BodyStream()
    reading = asyncio.ensure_future(body.read())
    await asyncio.sleep(0)
    body.fail(UpstreamResetError("gone"))
    with pytest.raises(UpstreamResetError):
        await reading


async def test_bytes_that_arrived_before_a_failure_are_read_before_it_is_raised() -> None:
    source = Source()
    body = BodyStream(source, high_water=10)
    body.feed(b"first piece")
    body.feed(b", second")
    body.fail(UpstreamResetError("gone"))
    assert await body.read() == b"first piece, second"
    with pytest.raises(UpstreamResetError, match="gone"):
        await body.read()
    body.close()
    assert source.told == ["pause"], "the source has ended: it is neither resumed nor abandoned"


async def test_bytes_that_arrive_after_a_paused_body_was_given_up_are_dropped() -> None:
    body = BodyStream(Source(), high_water=10)
    body.feed(b"x" * 20)
    body.give_up(UpstreamResetError("slow"))
    body.feed(b"late")
    with pytest.raises(UpstreamResetError):
        await body.read()


async def test_giving_up_drops_the_bytes_that_were_not_read() -> None:
    body = BodyStream(Source())
    body.feed(b"late")
    body.give_up(UpstreamResetError("enough"))
    with pytest.raises(UpstreamResetError, match="enough"):
        await body.read()


async def test_cancelled_read_loses_nothing() -> None:
    body = BodyStream()
    reading = asyncio.ensure_future(body.read())
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    body.feed(b"a")
    assert await body.read() == b"a"


async def test_consumer_that_leaves_says_so_once_and_nothing_is_kept() -> None:
    source = Source()
    body = BodyStream(source)
    body.feed(b"a")
    body.close()
    body.close()
    body.feed(b"b" * 1_000_000)
    assert source.told == ["abandon"]
    assert received(body) == b""


async def test_giving_up_wakes_the_reader_and_abandons_the_source() -> None:
    source = Source()
    body = BodyStream(source)
    reader = asyncio.create_task(body.read())
    await asyncio.sleep(0)
    body.give_up(UpstreamResetError("enough"))
    with pytest.raises(UpstreamResetError, match="enough"):
        await reader
    body.close()
    assert source.told == ["abandon"]


async def test_giving_up_a_complete_body_loses_no_bytes() -> None:
    source = Source()
    body = BodyStream(source)
    body.feed(b"ab")
    body.feed_end()
    body.give_up(UpstreamResetError("enough"))
    assert await body.read() == b"ab"
    assert source.told == []


async def test_leaving_after_the_end_abandons_nothing() -> None:
    source = Source()
    body = BodyStream(source)
    body.feed_end()
    body.close()
    assert source.told == []


def test_first_value_of_a_header() -> None:
    headers = [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]
    assert get_header(headers, b"a") == b"1"
    assert get_header(headers, b"c") is None
