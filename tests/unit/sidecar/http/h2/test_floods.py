"""Attacks by frames that cost the peer little. Limits and counters are Envoy's."""

from __future__ import annotations

import tracemalloc

import pytest

from sidecar.config.http2 import Http2Options
from sidecar.http.h2.events import HeadReceived, Http2Event, StreamReset
from tests.support import http2_frames as frames
from tests.support.http2_codec import ServerUnderTest
from tests.support.http2_frames import GET, POST

CALM = 11


def _open(server: ServerUnderTest, stream_id: int = 1) -> HeadReceived:
    [head] = server.request(stream_id, POST, end=False)
    assert isinstance(head, HeadReceived)
    server.codec.data_to_send()
    return head


@pytest.mark.parametrize(
    ("frame", "most", "counter"),
    [
        (frames.data(1, b""), 1, "inbound_empty_frames_flood"),
        (frames.data(1, b"", padding=9), 1, "inbound_empty_frames_flood"),
        (frames.raw(2, 0, 1, b"\0\0\0\3\0"), 200, "inbound_priority_frames_flood"),
        (frames.window_update(0, 1), 3, "inbound_window_update_frames_flood"),
        (frames.window_update(1, 1), 3, "inbound_window_update_frames_flood"),
        (frames.ping(), 1000, "outbound_control_flood"),
        (frames.settings({4: 9}), 1000, "outbound_control_flood"),
    ],
    ids=[
        "empty DATA",
        "padded DATA",
        "PRIORITY",
        "WINDOW_UPDATE",
        "WINDOW_UPDATE of a stream",
        "PING",
        "SETTINGS",
    ],
)
def test_more_frames_than_allowed_end_the_connection(frame: bytes, most: int, counter: str) -> None:
    server = ServerUnderTest()
    _open(server)
    assert not any(isinstance(event, StreamReset) for event in server.receive(frame * most))
    code, counted, _ = (
        ServerUnderTest.fails(server, frame) if "outbound" not in counter else (CALM, counter, "")
    )
    assert (code, counted) == (CALM, counter)


@pytest.mark.parametrize("frame", [frames.ping(), frames.settings()], ids=["PING", "SETTINGS"])
def test_answers_that_are_not_read_end_the_connection(frame: bytes) -> None:
    server = ServerUnderTest()
    server.codec.pause_writing()
    server.receive(frame * 1000)
    assert server.codec.data_to_send() == b""
    failure = server.receive(frame)[-1]
    assert failure.error.counter == "outbound_control_flood"  # type: ignore[attr-defined]


def test_answers_that_are_read_do_not() -> None:
    server = ServerUnderTest()
    for _ in range(5):
        server.receive(frames.ping() * 900)
        assert len(server.sent()) == 900


def test_responses_that_are_not_read_end_the_connection() -> None:
    server = ServerUnderTest(Http2Options(max_outbound_frames=10))
    server.codec.pause_writing()
    for stream_id in range(1, 23, 2):
        [head] = server.request(stream_id)
        assert isinstance(head, HeadReceived)
        server.codec.send_head(head.stream, [(b":status", b"200")], True)
    failure = server.receive(frames.ping())[-1]
    assert failure.error.counter == "outbound_flood"  # type: ignore[attr-defined]


def test_data_allows_more_window_updates() -> None:
    server = ServerUnderTest()
    head = _open(server)
    server.codec.send_head(head.stream, [(b":status", b"200")], False)
    for _ in range(100):
        server.codec.send_data(head.stream, b"a", False)
    assert server.receive(frames.window_update(0, 1) * 2003) == []
    assert server.fails(frames.window_update(0, 1))[1] == "inbound_window_update_frames_flood"


def test_filled_frames_between_empty_ones_are_no_flood() -> None:
    server = ServerUnderTest()
    _open(server)
    assert len(server.receive((frames.data(1, b"") + frames.data(1, b"a")) * 20)) == 20


def test_empty_continuations_end_the_connection() -> None:
    server = ServerUnderTest()
    assert (
        server.fails(frames.raw(1, 1, 1, b"\x82"), frames.raw(9, 0, 1) * 2)[1] == "inbound_empty_frames_flood"
    )


@pytest.mark.parametrize("payload", [b"\x82", b"\x82" * 16_384], ids=["small", "large"])
def test_a_head_without_end_ends_the_connection(payload: bytes) -> None:
    server = ServerUnderTest()
    code, _, reason = server.fails(frames.raw(1, 1, 1, payload), frames.raw(9, 0, 1, payload) * 20)
    assert (code, reason) == (CALM, "a header block is too large, or in too many frames")


def test_a_decompression_bomb_is_not_stored() -> None:
    """16 KiB become 66 MB of headers."""
    server = ServerUnderTest()
    bomb = b"\x40\x01a\x7f\xa1\x1e" + b"b" * 4000 + b"\xbe" * 12_000
    tracemalloc.start()
    event = server.receive_one(StreamReset, frames.raw(1, 5, 1, bomb))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert event.counter == "header_list_size_too_large"
    assert peak < 200_000
    assert isinstance(server.request(3)[0], HeadReceived)


def test_rapid_resets_leave_nothing_behind() -> None:
    server = ServerUnderTest()

    def attack(first: int) -> list[Http2Event]:
        events: list[Http2Event] = []
        for stream_id in range(first, first + 2000, 2):
            events += server.request(stream_id, [*GET, (b"x", b"%d" % stream_id)])
            head = events[-1]
            assert isinstance(head, HeadReceived)
            server.codec.send_head(head.stream, [(b":status", b"200")], False)
            server.codec.send_data(head.stream, b"a" * 100_000, True)  # more than the window
            events = server.receive(frames.reset(stream_id))
        server.codec.data_to_send()
        return events

    attack(1)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    attack(2001)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert server.codec.streams == {}
    assert grown < 100_000
