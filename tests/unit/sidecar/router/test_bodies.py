from __future__ import annotations

import asyncio
import tracemalloc

import pytest

from sidecar.errors import UpstreamResetError, UpstreamTimeoutError
from sidecar.http.body import Body, BodyStream
from sidecar.router.bodies import CallBody, CountedBody, ReplayableBody
from sidecar.timers import Timers
from tests.support.bodies import read_all
from tests.support.held import let_go
from tests.support.virtual_time import VirtualTime


class Codec:
    def __init__(self) -> None:
        self.abandoned = 0

    def pause_body(self) -> None: ...

    def resume_body(self) -> None: ...

    def abandon_body(self) -> None:
        self.abandoned += 1


def ended(*chunks: bytes) -> Body:
    body = BodyStream()
    for chunk in chunks:
        body.feed(chunk)
    body.feed_end([(b"t", b"1")])
    return body


class TestReplayableBody:
    async def test_a_second_attempt_reads_the_same_bytes(self) -> None:
        body = ReplayableBody(ended(b"ab", b"cd"), lambda: None)
        assert await read_all(body.attempt()) == b"abcd"
        again = body.attempt()
        assert await read_all(again) == b"abcd"
        assert again.trailers == [(b"t", b"1")]

    async def test_an_attempt_goes_on_where_the_record_ends(self) -> None:
        source = BodyStream()
        body = ReplayableBody(source, lambda: None)
        source.feed(b"ab")
        assert await body.attempt().read() == b"ab"
        second = body.attempt()
        source.feed(b"cd")
        source.feed_end()
        assert await read_all(second) == b"abcd"

    async def test_a_body_that_outgrows_the_limit_passes_but_cannot_be_sent_again(self) -> None:
        source = BodyStream()
        body = ReplayableBody(source, lambda: None, limit_bytes=4)
        attempt = body.attempt()
        received = []
        for chunk in (b"abc", b"def", b"ghi"):
            source.feed(chunk)
            received.append(await attempt.read())
        source.feed_end()
        assert received == [b"abc", b"def", b"ghi"]
        assert await attempt.read() == b""
        assert not body.replayable

    async def test_attempts_read_pieces_of_any_size_from_where_they_are(self) -> None:
        source = BodyStream()
        body = ReplayableBody(source, lambda: None)
        first, second = body.attempt(), body.attempt()
        sent = b""
        for size in (1, 2, 3000, 1, 1, 2047, 2048, 1, 5000, 5000, 2):
            piece = bytes([len(sent) % 251]) * size
            sent += piece
            source.feed(piece)
            assert await first.read() == piece
            if size == 2048:
                assert await second.read() == sent[:3]
        source.feed_end()
        assert await first.read() == b""
        assert sent[:3] + await read_all(second) == sent
        assert await read_all(body.attempt()) == sent

    async def test_small_pieces_cost_little_more_memory_than_their_bytes(self) -> None:
        source = BodyStream()
        body = ReplayableBody(source, lambda: None, limit_bytes=1 << 20)
        attempt = body.attempt()
        tracemalloc.start()
        try:
            for _ in range(30_000):
                source.feed(b"x")
                await attempt.read()
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert held < 100_000
        assert body.replayable
        source.feed_end()
        assert len(await read_all(body.attempt())) == 30_000

    async def test_an_attempt_given_up_in_the_middle_of_a_read_loses_nothing(self) -> None:
        source = BodyStream()
        body = ReplayableBody(source, lambda: None)
        given_up = asyncio.create_task(body.attempt().read())
        await asyncio.sleep(0)
        next_one = asyncio.create_task(read_all(body.attempt()))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.sleep(0)
        source.feed(b"abc")
        source.feed_end()
        assert await next_one == b"abc"

    async def test_a_stale_attempt_that_still_reads_steals_nothing(self) -> None:
        source = BodyStream()
        body = ReplayableBody(source, lambda: None, limit_bytes=1)
        stale = asyncio.create_task(body.attempt().read())
        await asyncio.sleep(0)
        current = body.attempt()
        source.feed(b"abc")
        assert await stale == b"abc"
        source.feed(b"def")
        source.feed_end()
        assert await read_all(current) == b"abcdef"

    async def test_the_end_is_reported_once(self) -> None:
        ends: list[int] = []
        body = ReplayableBody(ended(b"ab"), lambda: ends.append(1))
        await read_all(body.attempt())
        await read_all(body.attempt())
        assert ends == [1]

    async def test_an_error_of_the_client_passes(self) -> None:
        source = BodyStream()
        source.fail(UpstreamResetError("gone"))
        with pytest.raises(UpstreamResetError):
            await ReplayableBody(source, lambda: None).attempt().read()


class TestCountedBody:
    async def test_the_end_is_reported_once_after_the_last_byte_was_read(self) -> None:
        ends: list[int] = []
        body = CountedBody(ended(b"ab"), lambda: ends.append(1), Timers(asyncio.get_running_loop()), None)
        assert await body.read() == b"ab"
        assert ends == []
        assert await body.read() == b""
        body.close()
        assert ends == [1]

    async def test_a_body_that_is_left_or_broken_has_ended_too(self) -> None:
        ends: list[str] = []
        timers = Timers(asyncio.get_running_loop())
        left = CountedBody(BodyStream(), lambda: ends.append("left"), timers, None)
        left.close()
        broken_source = BodyStream()
        broken_source.fail(UpstreamResetError("gone"))
        broken = CountedBody(broken_source, lambda: ends.append("broken"), timers, None)
        with pytest.raises(UpstreamResetError):
            await broken.read()
        assert ends == ["left", "broken"]

    async def test_a_reader_that_is_cancelled_gives_the_exchange_up(self) -> None:
        ends: list[int] = []
        body = CountedBody(BodyStream(), lambda: ends.append(1), Timers(asyncio.get_running_loop()), None)
        reader = asyncio.create_task(body.read())
        await asyncio.sleep(0)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert ends == [1]

    async def test_the_routes_timeout_covers_the_whole_body(self) -> None:
        ends: list[int] = []
        timers = Timers(asyncio.get_running_loop())
        body = CountedBody(BodyStream(), lambda: ends.append(1), timers, timers.now_s() + 0.02)
        with pytest.raises(UpstreamTimeoutError):
            await body.read()
        assert ends == [1]
        timers.close()

    async def test_a_body_that_has_all_come_in_time_may_be_read_later(self) -> None:
        time = VirtualTime()
        timers = Timers(time)
        source = BodyStream()
        body = CountedBody(source, lambda: None, timers, timers.now_s() + 1)
        source.feed(b"ab")
        source.feed_end()
        time.advance(2)
        assert await read_all(body) == b"ab"

    async def test_the_timeout_is_set_once_and_ends_with_the_body(self) -> None:
        time = VirtualTime()
        timers = Timers(time)
        source = BodyStream()
        body = CountedBody(source, lambda: None, timers, timers.now_s() + 1)
        for _ in range(3):
            source.feed(b"a")
            await body.read()
            assert timers.pending == 1
        source.feed_end()
        await read_all(body)
        assert timers.pending == 0

    async def test_a_slow_body_is_aborted_even_if_it_is_not_read(self) -> None:
        time, codec = VirtualTime(), Codec()
        timers = Timers(time)
        source = BodyStream(codec)
        body = CountedBody(source, lambda: None, timers, timers.now_s() + 1)
        source.feed(b"ab")
        time.advance(1)
        assert codec.abandoned == 1
        with pytest.raises(UpstreamTimeoutError):
            await body.read()


async def test_record_is_freed_with_the_request() -> None:
    class Exchange:
        def __init__(self, source: Body) -> None:
            self.body = ReplayableBody(source, self.note_end)

        def note_end(self) -> None: ...

    piece = b"x" * 1000
    with let_go(piece):
        source = BodyStream()
        source.feed(piece)
        source.feed_end()
        exchange = Exchange(source)
        attempt = exchange.body.attempt()
        assert await read_all(attempt) == piece
        del attempt, exchange


class TestCallBody:
    @pytest.fixture
    def timers(self) -> Timers:
        return Timers(VirtualTime())

    def call_body(self, source: BodyStream, timers: Timers, seen: list[object]) -> CallBody:
        return CallBody(source, lambda: seen.append("end"), timers, None, seen.append)

    async def test_the_trailers_tell_the_status_before_the_end(self, timers: Timers) -> None:
        source = BodyStream()
        seen: list[object] = []
        body = self.call_body(source, timers, seen)
        source.feed(b"ab")
        assert await body.read() == b"ab"
        assert seen == []
        source.feed_end([(b"grpc-status", b"14")])
        assert await body.read() == b""
        body.close()
        assert seen == [14, "end"]

    async def test_a_response_that_is_closed_early_tells_nothing(self, timers: Timers) -> None:
        seen: list[object] = []
        self.call_body(BodyStream(), timers, seen).close()
        assert seen == ["end"]
