from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from sidecar.errors import PayloadTooLargeError, UpstreamResetError
from sidecar.filters.bodies import buffer, map_body, on_end
from sidecar.http.body import EMPTY, Body, BodyStream
from tests.support.bodies import read_all

TRAILERS = [(b"x-sum", b"1")]


class Source:
    """A codec that records the calls of its body."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def pause_body(self) -> None:
        self.calls.append("pause")

    def resume_body(self) -> None:
        self.calls.append("resume")

    def abandon_body(self) -> None:
        self.calls.append("abandon")


def observed(body: Body) -> Body:
    return on_end(body, lambda: None)


def mapped(body: Body) -> Body:
    return map_body(body, bytes.upper)


class TestWrappers:
    """The properties that all wrappers keep."""

    @pytest.fixture(params=[observed, mapped])
    def wrap(self, request: pytest.FixtureRequest) -> Callable[[Body], Body]:
        wrap: Callable[[Body], Body] = request.param
        return wrap

    async def test_trailers_pass(self, wrap: Callable[[Body], Body]) -> None:
        stream = BodyStream()
        body = wrap(stream)
        stream.feed(b"a")
        stream.feed_end(list(TRAILERS))
        await read_all(body)
        assert body.trailers == TRAILERS
        body.trailers = []
        assert stream.trailers == []

    async def test_the_producer_waits_for_the_reader(self, wrap: Callable[[Body], Body]) -> None:
        source = Source()
        stream = BodyStream(source, high_water=10)
        body = wrap(stream)
        stream.feed(b"a" * 11)
        assert source.calls == ["pause"]
        await body.read()
        assert source.calls == ["pause", "resume"]

    async def test_closing_lets_the_producer_go(self, wrap: Callable[[Body], Body]) -> None:
        source = Source()
        body = wrap(BodyStream(source))
        body.close()
        body.close()
        assert source.calls == ["abandon"]

    async def test_a_failure_passes(self, wrap: Callable[[Body], Body]) -> None:
        stream = BodyStream()
        body = wrap(stream)
        stream.fail(UpstreamResetError("gone"))
        with pytest.raises(UpstreamResetError):
            await body.read()

    async def test_giving_up_reaches_the_producer(self, wrap: Callable[[Body], Body]) -> None:
        source = Source()
        body = wrap(BodyStream(source))
        body.give_up(UpstreamResetError("too slow"))
        assert source.calls == ["abandon"]
        with pytest.raises(UpstreamResetError):
            await body.read()

    async def test_the_end_of_the_producer_is_known(self, wrap: Callable[[Body], Body]) -> None:
        stream, ends = BodyStream(), list[bool]()
        body = wrap(stream)
        body.when_ended(lambda: ends.append(True))
        assert (body.ended, ends) == (False, [])
        stream.feed_end()
        assert (body.ended, ends) == (True, [True])


class TestMapBody:
    async def test_each_piece_is_mapped(self) -> None:
        stream = BodyStream()
        body = mapped(stream)
        stream.feed(b"ab")
        assert await body.read() == b"AB"
        stream.feed(b"c")
        stream.feed_end()
        assert await read_all(body) == b"C"

    async def test_a_piece_that_becomes_empty_is_not_the_end(self) -> None:
        stream = BodyStream()
        body = map_body(stream, lambda piece: piece.replace(b"a", b""))
        reading = asyncio.ensure_future(body.read())
        await asyncio.sleep(0)
        stream.feed(b"aa")
        await asyncio.sleep(0)
        assert not reading.done()
        stream.feed(b"ab")
        assert await reading == b"b"

    def test_a_complete_body_stays_complete(self) -> None:
        assert mapped(Body(b"ab")).whole == b"AB"
        assert map_body(EMPTY, lambda piece: b"never") is EMPTY


class TestBuffer:
    async def test_all_bytes_are_there_and_pass_on(self) -> None:
        stream = BodyStream()
        buffering = asyncio.ensure_future(buffer(stream, 5))
        for piece in (b"ab", b"cde"):
            await asyncio.sleep(0)
            stream.feed(piece)
        stream.feed_end()
        data, body = await buffering
        assert (data, body.whole) == (b"abcde", b"abcde")

    async def test_trailers_pass_on(self) -> None:
        stream = BodyStream()
        stream.feed(b"ab")
        stream.feed_end(list(TRAILERS))
        data, body = await buffer(stream, 5)
        assert (data, body.whole) == (b"ab", None)
        assert await read_all(body) == b"ab"
        assert body.trailers == TRAILERS

    async def test_more_than_the_limit_is_refused(self) -> None:
        stream = BodyStream()
        stream.feed(b"a" * 6)
        for body in (stream, Body(b"a" * 6)):
            with pytest.raises(PayloadTooLargeError, match="5 bytes") as raised:
                await buffer(body, 5)
            assert (raised.value.status, raised.value.details) == (413, "request_payload_too_large")


class TestOnEnd:
    async def observe(self, body: Body) -> tuple[Body, list[bool]]:
        ends: list[bool] = []
        return on_end(body, lambda: ends.append(True)), ends

    async def test_it_is_called_when_all_was_read_and_once(self) -> None:
        stream = BodyStream()
        body, ends = await self.observe(stream)
        stream.feed(b"a")
        stream.feed_end()
        await body.read()
        assert ends == []
        await body.read()
        body.close()
        assert ends == [True]

    async def test_it_is_called_when_the_body_is_closed_before(self) -> None:
        body, ends = await self.observe(BodyStream())
        body.close()
        assert ends == [True]

    async def test_it_is_called_when_the_body_fails(self) -> None:
        stream = BodyStream()
        body, ends = await self.observe(stream)
        stream.fail(UpstreamResetError("gone"))
        with pytest.raises(UpstreamResetError):
            await body.read()
        assert ends == [True]

    async def test_the_length_stays(self) -> None:
        stream, other = BodyStream(), BodyStream()
        assert observed(observed(stream)).as_long_as is stream
        assert observed(mapped(other)).as_long_as is not other

    async def test_it_is_called_at_once_for_a_complete_body(self) -> None:
        whole = Body(b"a")
        body, ends = await self.observe(whole)
        assert body is whole
        assert ends == [True]
