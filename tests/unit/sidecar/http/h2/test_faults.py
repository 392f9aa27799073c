"""Frames that break the protocol, and those that only look like it, on the side of a server."""

from __future__ import annotations

import pytest
from hyperframe.frame import GoAwayFrame, PingFrame, RstStreamFrame, SettingsFrame

from sidecar.config.http2 import Http2Options
from sidecar.http.h2.connection import Http2Connection
from sidecar.http.h2.events import (
    ConnectionFailed,
    DataReceived,
    GoAwayReceived,
    HeadReceived,
    PongReceived,
    SettingsChanged,
    StreamReset,
)
from tests.support import http2_frames as frames
from tests.support.http2_codec import ServerUnderTest
from tests.support.http2_frames import GET, POST

PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR, COMPRESSION_ERROR, CALM = (
    1,
    3,
    5,
    6,
    9,
    11,
)

# Stream 1 is open, 3 was ended by the client, 5 is closed by both; those above are idle.
FAULTS = {
    "DATA on stream 0": (frames.raw(0, 0, 0, b"a"), PROTOCOL_ERROR),
    "DATA on an idle stream": (frames.data(7, b"a"), PROTOCOL_ERROR),
    "DATA on an ended stream": (frames.data(3, b"a"), STREAM_CLOSED),
    "DATA on a closed stream": (frames.data(5, b"a"), STREAM_CLOSED),
    "DATA with too much padding": (frames.raw(0, 8, 1, b"\x05abc"), PROTOCOL_ERROR),
    "padded DATA without payload": (frames.raw(0, 8, 1), FRAME_SIZE_ERROR),
    "HEADERS on stream 0": (frames.raw(1, 5, 0, b"\x82"), PROTOCOL_ERROR),
    "HEADERS on an even stream": (frames.raw(1, 5, 2, b"\x82"), PROTOCOL_ERROR),
    "HEADERS on an ended stream": (frames.raw(1, 5, 3, b"\x82"), STREAM_CLOSED),
    "HEADERS on a closed stream": (frames.raw(1, 5, 5, b"\x82"), STREAM_CLOSED),
    "HEADERS with too much padding": (frames.raw(1, 0xD, 7, b"\x05\x82"), PROTOCOL_ERROR),
    "HEADERS that depend on themselves": (frames.raw(1, 0x25, 7, b"\0\0\0\x07\0\x82"), PROTOCOL_ERROR),
    "HEADERS that end in their priority": (frames.raw(1, 0x25, 7, b"\0\0\0"), FRAME_SIZE_ERROR),
    "an invalid block": (frames.raw(1, 5, 7, b"\x80"), COMPRESSION_ERROR),
    "an invalid block on an open stream": (frames.raw(1, 5, 1, b"\xff"), COMPRESSION_ERROR),
    "a frame within a block": (frames.raw(1, 1, 7, b"\x82") + frames.ping(), PROTOCOL_ERROR),
    "DATA within a block": (frames.raw(1, 1, 7, b"\x82") + frames.data(1, b"a"), PROTOCOL_ERROR),
    "a second block within a block": (frames.raw(1, 1, 7, b"\x82") * 2, PROTOCOL_ERROR),
    "CONTINUATION of another stream": (frames.raw(1, 1, 7, b"\x82") + frames.raw(9, 4, 9), PROTOCOL_ERROR),
    "CONTINUATION without a block": (frames.raw(9, 4, 1, b"\x82"), PROTOCOL_ERROR),
    "CONTINUATION on stream 0": (frames.raw(9, 4, 0, b"\x82"), PROTOCOL_ERROR),
    "PRIORITY on stream 0": (frames.raw(2, 0, 0, b"\0\0\0\1\0"), PROTOCOL_ERROR),
    "PRIORITY of another size": (frames.raw(2, 0, 1, b"\0\0\0\1"), FRAME_SIZE_ERROR),
    "PRIORITY that depends on itself": (frames.raw(2, 0, 9, b"\x80\0\0\x09\0"), PROTOCOL_ERROR),
    "RST_STREAM on stream 0": (frames.raw(3, 0, 0, b"\0\0\0\0"), PROTOCOL_ERROR),
    "RST_STREAM on an idle stream": (frames.reset(7), PROTOCOL_ERROR),
    "RST_STREAM of another size": (frames.raw(3, 0, 1, b"\0\0\0"), FRAME_SIZE_ERROR),
    "SETTINGS on a stream": (frames.raw(4, 0, 1), PROTOCOL_ERROR),
    "SETTINGS of another size": (frames.raw(4, 0, 0, b"\0\0\0\0\0"), FRAME_SIZE_ERROR),
    "an acknowledgement with settings": (frames.raw(4, 1, 0, b"\0" * 6), FRAME_SIZE_ERROR),
    "ENABLE_PUSH is 2": (frames.raw(4, 0, 0, b"\0\2\0\0\0\2"), PROTOCOL_ERROR),
    "INITIAL_WINDOW_SIZE is 2^31": (frames.raw(4, 0, 0, b"\0\4\x80\0\0\0"), FLOW_CONTROL_ERROR),
    "MAX_FRAME_SIZE is 2^14 - 1": (frames.raw(4, 0, 0, b"\0\5\0\0\x3f\xff"), PROTOCOL_ERROR),
    "MAX_FRAME_SIZE is 2^24": (frames.raw(4, 0, 0, b"\0\5\1\0\0\0"), PROTOCOL_ERROR),
    "ENABLE_CONNECT_PROTOCOL is 2": (frames.raw(4, 0, 0, b"\0\x08\0\0\0\2"), PROTOCOL_ERROR),
    "more settings than anybody needs": (frames.raw(4, 0, 0, b"\0\x99\0\0\0\0" * 33), CALM),
    "PUSH_PROMISE": (frames.raw(5, 4, 1, b"\0\0\0\2\x82"), PROTOCOL_ERROR),
    "PING on a stream": (frames.raw(6, 0, 1, b"\0" * 8), PROTOCOL_ERROR),
    "PING of another size": (frames.raw(6, 0, 0, b"\0" * 7), FRAME_SIZE_ERROR),
    "GOAWAY on a stream": (frames.raw(7, 0, 1, b"\0" * 8), PROTOCOL_ERROR),
    "GOAWAY of another size": (frames.raw(7, 0, 0, b"\0" * 7), FRAME_SIZE_ERROR),
    "WINDOW_UPDATE of another size": (frames.raw(8, 0, 0, b"\0\0\0"), FRAME_SIZE_ERROR),
    "WINDOW_UPDATE by 0": (frames.raw(8, 0, 0, b"\0\0\0\0"), PROTOCOL_ERROR),
    "WINDOW_UPDATE on an idle stream": (frames.window_update(7, 1), PROTOCOL_ERROR),
    "too large a window": (frames.window_update(0, 2**31 - 1), FLOW_CONTROL_ERROR),
    "too large a frame": (frames.raw(0x99, 0, 1, b"a" * 16_385), FRAME_SIZE_ERROR),
}


def _server(options: Http2Options | None = None) -> ServerUnderTest:
    server = ServerUnderTest(options)
    server.request(1, POST, end=False)
    server.request(3)
    [head] = server.request(5)
    assert isinstance(head, HeadReceived)
    server.codec.send_head(head.stream, [(b":status", b"200")], True)
    server.codec.data_to_send()
    return server


@pytest.mark.parametrize("fault", FAULTS)
def test_a_frame_that_breaks_the_protocol_ends_the_connection(fault: str) -> None:
    frame, code = FAULTS[fault]
    assert _server().fails(frame)[0] == code


TOLERATED = {
    "unknown frame": frames.raw(0x99, 0xFF, 0, b"abc"),
    "unknown frame on an idle stream": frames.raw(0x99, 0xFF, 99, b"abc"),
    "unknown setting": b"",
    "PRIORITY on an idle stream": frames.raw(2, 0, 99, b"\0\0\0\1\0"),
    "PRIORITY on a closed stream": frames.raw(2, 0, 5, b"\0\0\0\1\0"),
    "RST_STREAM on a closed stream": frames.reset(5),
    "WINDOW_UPDATE on a closed stream": frames.window_update(5, 1),
    "WINDOW_UPDATE by 0 on a closed stream": frames.raw(8, 0, 5, b"\0\0\0\0"),
    "undefined flags": frames.raw(6, 0xFE, 0, b"\0" * 8),
    "the reserved bit": frames.raw(8, 0, 0x80000000, b"\x80\0\0\1"),
}


@pytest.mark.parametrize("frame", TOLERATED)
def test_frames_that_are_ignored(frame: str) -> None:
    server = _server()
    assert server.receive(TOLERATED[frame]) == []
    assert isinstance(server.request(7)[0], HeadReceived)


@pytest.mark.parametrize(
    "first", [frames.ping(), frames.settings(ack=True), frames.window_update(0, 1), frames.raw(0x99, 0, 0)]
)
def test_the_first_frame_is_settings(first: bytes) -> None:
    codec = Http2Connection(Http2Options(), client=False)
    [failure] = codec.receive(frames.PREFACE + first)
    assert isinstance(failure, ConnectionFailed)
    assert failure.error.code == PROTOCOL_ERROR


def test_a_request_of_http1_ends_the_connection() -> None:
    codec = Http2Connection(Http2Options(), client=False)
    [failure] = codec.receive(b"GET / HTTP/1.1\r\n\r\n")
    assert isinstance(failure, ConnectionFailed)


def test_the_farewell_names_the_last_stream_and_the_reason() -> None:
    server = _server()
    server.receive(frames.raw(6, 0, 1, b"\0" * 8))
    [farewell] = server.sent()
    assert isinstance(farewell, GoAwayFrame)
    assert (farewell.last_stream_id, farewell.additional_data) == (5, b"PING on stream 1")


def test_events_before_a_fault_are_returned() -> None:
    server = _server()
    events = server.receive(frames.data(1, b"a"), frames.raw(6, 0, 1, b"\0" * 8))
    assert [type(event) for event in events] == [DataReceived, ConnectionFailed]


def test_a_window_update_by_0_resets_its_stream() -> None:
    server = _server()
    event = server.receive_one(StreamReset, frames.raw(8, 0, 1, b"\0\0\0\0"))
    assert (event.code, event.local) == (PROTOCOL_ERROR, True)
    assert isinstance(server.sent()[0], RstStreamFrame)


def test_too_large_a_window_resets_its_stream() -> None:
    event = _server().receive_one(StreamReset, frames.window_update(1, 2**31 - 1))
    assert (event.code, event.local) == (FLOW_CONTROL_ERROR, True)


# Streams.


def test_frames_on_a_stream_that_this_side_has_reset_are_ignored() -> None:
    server = ServerUnderTest()
    [head] = server.request(1, POST, end=False)
    assert isinstance(head, HeadReceived)
    server.codec.reset(head.stream, 0)
    assert server.receive(frames.data(1, b"abc"), frames.window_update(1, 5), frames.reset(1)) == []
    trailers = [(b"x-new", b"value")]
    assert server.receive(server.heads.frames(1, trailers, end=True)) == []
    [head] = server.request(3, [*GET, *trailers])  # its block refers to the entry of the ignored one
    assert isinstance(head, HeadReceived)
    assert head.headers == trailers


def test_the_rest_of_a_frame_on_a_reset_stream_is_ignored() -> None:
    server = ServerUnderTest()
    [head] = server.request(1, POST, end=False)
    assert isinstance(head, HeadReceived)
    frame = frames.data(1, b"abcdef", end=True)
    assert len(server.receive(frame[:11])) == 1
    server.codec.reset(head.stream, 8)
    assert server.receive(frame[11:]) == []
    assert isinstance(server.request(3)[0], HeadReceived)


def test_only_so_many_resets_are_remembered() -> None:
    server = ServerUnderTest()
    for stream_id in range(1, 6001, 2):
        [head] = server.request(stream_id, POST, end=False)
        assert isinstance(head, HeadReceived)
        server.codec.reset(head.stream, 8)
        server.codec.data_to_send()
    assert server.receive(frames.data(5999, b"a")) == []
    assert server.fails(frames.data(1, b"a"))[0] == STREAM_CLOSED


def test_streams_beyond_the_limit_are_refused() -> None:
    server = ServerUnderTest(Http2Options(max_concurrent_streams=2))
    server.request(1)
    server.request(3)
    [refused] = server.request(5, [*GET, (b"x-new", b"value")])
    assert isinstance(refused, StreamReset)
    assert (refused.code, refused.local, refused.counter) == (7, True, "stream_refused_errors")
    assert server.sent()[-1].error_code == 7
    server.receive(frames.reset(1))
    [head] = server.request(7, [*GET, (b"x-new", b"value")])
    assert isinstance(head, HeadReceived)


# Frames of the connection.


def test_ping() -> None:
    server = ServerUnderTest()
    assert server.receive(frames.ping(b"abcdefgh")) == []
    [answer] = server.sent()
    assert isinstance(answer, PingFrame)
    assert (answer.opaque_data, answer.flags) == (b"abcdefgh", {"ACK"})
    server.codec.ping(b"12345678")
    [question] = server.sent()
    assert isinstance(question, PingFrame)
    assert (question.opaque_data, set(question.flags)) == (b"12345678", set())
    assert server.receive_one(PongReceived, frames.ping(b"12345678", ack=True)).payload == b"12345678"


def test_settings_are_acknowledged_and_the_last_value_counts() -> None:
    server = ServerUnderTest()
    values = b"\0\4\0\0\0\1" + b"\0\x99\0\0\0\1" + b"\0\4\0\0\0\2" + b"\0\6\0\0\1\0" + b"\0\1\0\0\0\0"
    server.receive_one(SettingsChanged, frames.raw(4, 0, 0, values))
    assert server.codec.remote.initial_window_size == 2
    assert server.codec.remote.max_header_list_size == 256
    [answer] = server.sent()
    assert isinstance(answer, SettingsFrame)
    assert set(answer.flags) == {"ACK"}


def test_extended_connect_cannot_be_withdrawn() -> None:
    server = ServerUnderTest()
    server.receive(frames.settings({8: 1}))
    assert server.codec.remote.enable_connect_protocol
    assert server.fails(frames.settings({8: 0}))[0] == PROTOCOL_ERROR


def test_the_peers_table_size_limits_the_encoder() -> None:
    server = ServerUnderTest(peer_settings={1: 0})
    for stream_id in (1, 3, 5):
        [head] = server.request(stream_id)
        assert isinstance(head, HeadReceived)
        server.codec.send_head(head.stream, [(b":status", b"200"), (b"x-a", b"b")], True)
        assert server.sent()[-1].data.endswith(b"\x88\x00\x03x-a\x01b")


def test_goaway_by_the_client() -> None:
    event = ServerUnderTest().receive_one(GoAwayReceived, frames.goaway(0, 2))
    assert (event.last_stream_id, event.code) == (0, 2)


def test_a_graceful_end() -> None:
    """RFC 9113 6.8: first a warning, under which streams are accepted; then the last stream."""
    server = ServerUnderTest()
    server.request(1)
    server.codec.go_away(final=False)
    [warning] = server.sent()
    assert isinstance(warning, GoAwayFrame)
    assert (warning.last_stream_id, warning.error_code) == (2**31 - 1, 0)
    [under_way] = server.request(3)
    assert isinstance(under_way, HeadReceived)
    server.codec.go_away(final=True)
    server.codec.go_away(final=True)
    [farewell] = server.sent()
    assert isinstance(farewell, GoAwayFrame)
    assert farewell.last_stream_id == 3
    assert (
        server.request(5, [*POST, (b"x-new", b"value")], end=False) == []
    )  # the client will try it elsewhere
    assert server.receive(frames.data(5, b"a"), frames.window_update(5, 1), frames.reset(5)) == []
    server.codec.send_head(under_way.stream, [(b":status", b"200")], True)
    assert server.sent()[-1].stream_id == 3
