from __future__ import annotations

from hyperframe.frame import DataFrame, HeadersFrame, WindowUpdateFrame

from sidecar.config.http2 import Http2Options
from sidecar.http.h2.events import DataReceived, HeadReceived, StreamReset, StreamWritable
from sidecar.http.h2.stream import Http2Stream
from tests.support import http2_frames as frames
from tests.support.http2_codec import ServerUnderTest
from tests.support.http2_frames import POST

KIB = 1024


def _responding(server: ServerUnderTest, stream_id: int = 1) -> Http2Stream:
    [head] = server.request(stream_id, POST, end=False)
    assert isinstance(head, HeadReceived)
    server.codec.send_head(head.stream, [(b":status", b"200")], False)
    server.codec.data_to_send()
    return head.stream


def _sizes(server: ServerUnderTest) -> list[tuple[int, int]]:
    """Stream and size of the DATA frames that are sent."""
    return [(frame.stream_id, len(frame.data)) for frame in server.sent() if isinstance(frame, DataFrame)]


# Sending.


def test_data_is_framed_in_pieces_of_16_kib() -> None:
    server = ServerUnderTest()
    stream = _responding(server)
    server.codec.send_data(stream, b"a" * 40_000, True)
    sent = server.sent()
    assert [len(frame.data) for frame in sent] == [16_384, 16_384, 7232]
    assert [set(frame.flags) for frame in sent] == [set(), set(), {"END_STREAM"}]
    assert stream.writable


def test_the_window_of_a_stream_holds_its_data_back() -> None:
    server = ServerUnderTest(peer_settings={4: 10})
    stream = _responding(server)
    server.codec.send_data(stream, b"a" * 6, False)
    assert stream.writable
    server.codec.send_data(stream, b"b" * 6, False)
    assert (stream.writable, stream.unsent_size) == (False, 2)
    assert _sizes(server) == [(1, 6), (1, 4)]
    assert server.receive(frames.window_update(1, 1)) == []
    assert server.receive_one(StreamWritable, frames.window_update(1, 5)).stream is stream
    assert _sizes(server) == [(1, 1), (1, 1)]
    server.codec.send_data(stream, b"c" * 4, True)
    assert _sizes(server) == [(1, 4)]


def test_the_end_and_trailers_come_behind_what_is_held_back() -> None:
    server = ServerUnderTest(peer_settings={4: 10})
    first, second = _responding(server), _responding(server, 3)
    server.codec.send_data(first, b"a" * 12, True)
    server.codec.send_data(second, b"a" * 12, False)
    server.codec.send_trailers(second, [(b"x", b"y")])
    server.codec.data_to_send()
    server.receive(frames.window_update(1, 9), frames.window_update(3, 9))
    data, other, trailers = server.sent()
    assert (data.stream_id, set(data.flags)) == (1, {"END_STREAM"})
    assert (other.stream_id, set(other.flags)) == (3, set())
    assert isinstance(trailers, HeadersFrame)
    assert "END_STREAM" in trailers.flags


def test_an_end_without_data_needs_no_window() -> None:
    server = ServerUnderTest(peer_settings={4: 0})
    stream = _responding(server)
    server.codec.send_data(stream, b"", True)
    assert _sizes(server) == [(1, 0)]


def test_streams_take_turns_in_a_short_window_of_the_connection() -> None:
    server = ServerUnderTest(peer_settings={4: 1 << 20})
    streams = [_responding(server, stream_id) for stream_id in (1, 3, 5)]
    server.codec.send_data(streams[0], b"a" * 65_535, False)  # fills the window
    for stream in streams:
        server.codec.send_data(stream, b"a" * 50_000, False)
    server.codec.data_to_send()
    server.receive(frames.window_update(0, 5 * 16_384))
    assert _sizes(server) == [(1, 16_384), (3, 16_384), (5, 16_384), (1, 16_384), (3, 16_384)]
    events = server.receive(frames.window_update(0, 1 << 20))
    assert [event.stream.id for event in events if isinstance(event, StreamWritable)] == [1, 3, 5]
    assert {stream_id for stream_id, _ in _sizes(server)} == {1, 3, 5}


def test_settings_change_the_windows_of_open_streams() -> None:
    """RFC 9113 6.9.2: a window may become negative."""
    server = ServerUnderTest(peer_settings={4: 100})
    stream = _responding(server)
    server.codec.send_data(stream, b"a" * 150, False)
    assert _sizes(server) == [(1, 100)]
    server.receive(frames.settings({4: 40}))
    assert stream.send_window == -60
    assert server.receive(frames.window_update(1, 60)) == []
    assert _sizes(server) == []
    events = server.receive(frames.settings({4: 90}))
    assert isinstance(events[-1], StreamWritable)
    assert _sizes(server) == [(1, 50)]


def test_a_setting_that_makes_a_window_too_large_ends_the_connection() -> None:
    server = ServerUnderTest()
    _responding(server)
    server.receive(frames.window_update(1, 2**31 - 1 - 65_535))
    assert server.fails(frames.settings({4: 65_536}))[0] == 3


def test_while_writing_is_paused_data_stays_in_the_streams() -> None:
    server = ServerUnderTest()
    streams = [_responding(server), _responding(server, 3)]
    server.codec.pause_writing()
    for stream in streams:
        server.codec.send_data(stream, b"a" * 20_000, True)
        assert not stream.writable
    assert not server.codec.wants_write
    assert server.codec.data_to_send() == b""
    events = server.codec.resume_writing()
    assert [event.stream.id for event in events if isinstance(event, StreamWritable)] == [1, 3]
    assert _sizes(server) == [(1, 16_384), (3, 16_384), (1, 3616), (3, 3616)]


def test_a_reset_stream_sends_nothing_any_longer() -> None:
    server = ServerUnderTest(peer_settings={4: 10})
    stream = _responding(server)
    server.codec.send_data(stream, b"a" * 100, True)
    server.codec.data_to_send()
    server.receive(frames.reset(1))
    assert server.receive(frames.window_update(1, 100), frames.window_update(0, 100)) == []
    assert not server.codec.wants_write


# Receiving.

SMALL = Http2Options(initial_stream_window_size=65_535, initial_connection_window_size=100_000)


def _updates(server: ServerUnderTest) -> list[tuple[int, int]]:
    return [
        (frame.stream_id, frame.window_increment)
        for frame in server.sent()
        if isinstance(frame, WindowUpdateFrame)
    ]


def test_the_window_of_the_connection_is_announced() -> None:
    server = ServerUnderTest(SMALL)
    updates = [frame for frame in frames.parse(server.greeting) if isinstance(frame, WindowUpdateFrame)]
    assert [(frame.stream_id, frame.window_increment) for frame in updates] == [(0, 100_000 - 65_535)]


def test_windows_open_again_when_half_of_them_is_consumed() -> None:
    server = ServerUnderTest(SMALL)
    stream = _responding(server)
    for _ in range(4):
        server.receive(frames.data(1, b"a" * 16_000))
    assert _updates(server) == []
    server.codec.consumed(stream, 32_000)
    assert _updates(server) == []
    server.codec.consumed(stream, 16_000)
    assert _updates(server) == [(1, 48_000)]
    server.codec.consumed(stream, 16_000)
    assert _updates(server) == [(0, 64_000)]


def test_no_more_than_was_received_can_be_consumed() -> None:
    server = ServerUnderTest(SMALL)
    stream = _responding(server)
    server.receive(frames.data(1, b"a"))
    server.codec.consumed(stream, 10_000_000)
    assert _updates(server) == []


def test_padding_is_consumed_at_once() -> None:
    server = ServerUnderTest(SMALL)
    _responding(server)
    for _ in range(250):
        server.receive(frames.data(1, b"a", padding=255))
    assert _updates(server) == [(1, 128 * 256), (0, 196 * 256)]


def test_the_window_of_an_ended_stream_is_not_opened() -> None:
    server = ServerUnderTest(SMALL)
    stream = _responding(server)
    server.receive(*[frames.data(1, b"a" * 16_000, end=number == 3) for number in range(4)])
    server.codec.consumed(stream, 64_000)
    assert _updates(server) == [(0, 64_000)]


def test_data_beyond_the_window_of_a_stream_ends_the_connection() -> None:
    server = ServerUnderTest(SMALL)
    _responding(server)
    full = frames.data(1, b"a" * 16_383) * 4
    assert server.fails(full, frames.data(1, b"abc"), frames.data(1, b"a"))[0] == 3


def test_data_beyond_the_window_of_the_connection_ends_it() -> None:
    server = ServerUnderTest(SMALL)
    for stream_id in (1, 3):
        _responding(server, stream_id)
        server.receive(frames.data(stream_id, b"a" * 16_000) * 3)
    assert server.fails(frames.data(1, b"a" * 4001))[0] == 3


def test_what_a_reset_stream_had_received_opens_the_window_of_the_connection() -> None:
    server = ServerUnderTest(SMALL)
    first, second = _responding(server), _responding(server, 3)
    server.receive(frames.data(1, b"a" * 16_000) * 2, frames.data(3, b"a" * 16_000) * 2)
    server.codec.reset(first, 8)
    assert _updates(server) == []
    assert isinstance(server.receive(frames.reset(3))[0], StreamReset)
    assert _updates(server) == [(0, 64_000)]
    server.codec.consumed(first, 32_000)
    server.codec.consumed(second, 32_000)
    assert _updates(server) == []


def test_data_that_is_ignored_opens_the_window_of_the_connection() -> None:
    server = ServerUnderTest(SMALL)
    stream = _responding(server)
    server.codec.reset(stream, 8)
    server.sent()
    for _ in range(20):
        assert server.receive(frames.data(1, b"a" * 8000), frames.data(1, b"a", padding=99)) == []
    assert len(_updates(server)) == 2


def test_data_in_pieces_counts_once() -> None:
    server = ServerUnderTest(SMALL)
    _responding(server)
    for _ in range(4):
        frame = frames.data(1, b"a" * 16_000)
        pieces = [
            event
            for start in range(0, len(frame), 100)
            for event in server.receive(frame[start : start + 100])
        ]
        assert b"".join(event.data for event in pieces if isinstance(event, DataReceived)) == b"a" * 16_000
    server.receive(frames.data(1, b"a" * 1535))
    assert server.fails(frames.data(1, b"a"))[0] == 3
