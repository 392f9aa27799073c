from __future__ import annotations

from sidecar.http.h2.events import DataReceived, HeadReceived, Http2Event, StreamReset, TrailersReceived
from sidecar.http.h2.stream import Http2Stream
from sidecar.http.h2.whole_bodies import whole_bodies

FIRST, SECOND = Http2Stream(1, 0, 0), Http2Stream(3, 0, 0)


def head(stream: Http2Stream, *, end: bool = False) -> HeadReceived:
    return HeadReceived(stream, [], end)


def data(stream: Http2Stream, content: bytes, *, end: bool = False) -> DataReceived:
    return DataReceived(stream, content, end)


def test_a_body_whose_pieces_are_among_those_of_others_is_whole() -> None:
    events: list[Http2Event] = [
        head(FIRST),
        head(SECOND),
        data(FIRST, b"a"),
        data(SECOND, b"x", end=True),
        data(FIRST, b"b", end=True),
    ]
    assert whole_bodies(events) == {FIRST: b"ab", SECOND: b"x"}


def test_a_body_that_has_begun_before_or_ends_later_is_not_whole() -> None:
    assert whole_bodies([data(FIRST, b"a", end=True), head(SECOND), data(SECOND, b"x")]) == {}


def test_a_message_with_trailers_or_a_reset_is_not_whole() -> None:
    ended: list[Http2Event] = [head(FIRST), data(FIRST, b"a"), TrailersReceived(FIRST, [])]
    reset = [head(SECOND), data(SECOND, b"x", end=True), StreamReset(SECOND, 8, False, "", "")]
    assert whole_bodies([*ended, *reset]) == {}


def test_a_message_without_a_body_is_not_among_them() -> None:
    assert whole_bodies([head(FIRST, end=True)]) == {}
