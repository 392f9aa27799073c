"""Responses, as the codec of a client reads them, and the requests that it sends."""

from __future__ import annotations

import pytest
from hyperframe.frame import DataFrame, HeadersFrame, RstStreamFrame, SettingsFrame

from sidecar.config.http2 import Http2Options
from sidecar.http.h2.error_codes import Http2UnavailableError
from sidecar.http.h2.events import (
    DataReceived,
    GoAwayReceived,
    HeadReceived,
    InterimReceived,
    StreamReset,
    TrailersReceived,
)
from sidecar.http.h2.stream import Http2Stream
from tests.support import http2_frames as frames
from tests.support.http2_codec import ClientUnderTest
from tests.support.http2_frames import GET, POST

HEAD: frames.Fields = [(b":method", b"HEAD"), *GET[1:]]


def _request(client: ClientUnderTest, fields: frames.Fields = GET, *, end: bool = True) -> Http2Stream:
    stream = client.codec.open_stream()
    client.codec.send_head(stream, fields, end)
    return stream


def test_what_a_client_begins_with() -> None:
    greeting = ClientUnderTest().greeting
    assert greeting.startswith(frames.PREFACE)
    first = frames.parse(greeting[len(frames.PREFACE) :])[0]
    assert isinstance(first, SettingsFrame)
    assert first.settings == {2: 0, 1: 4096, 3: 1024, 4: 16 * 1024 * 1024}


def test_requests_have_increasing_odd_ids_in_the_order_of_their_heads() -> None:
    client = ClientUnderTest()
    first, second = client.codec.open_stream(), client.codec.open_stream()
    client.codec.send_head(second, POST, False)
    client.codec.send_head(first, GET, True)
    client.codec.send_data(second, b"abc", True)
    sent = client.sent()
    assert [(type(frame), frame.stream_id) for frame in sent] == [
        (HeadersFrame, 1),
        (HeadersFrame, 3),
        (DataFrame, 1),
    ]
    assert [client.heads.read(frame.data) for frame in sent[:2]] == [POST, GET]


def test_a_response_with_interim_responses_body_and_trailers() -> None:
    client = ClientUnderTest()
    stream = _request(client)
    events = client.receive(
        client.heads.frames(1, [(b":status", b"100")]),
        client.heads.frames(1, [(b":status", b"103"), (b"link", b"a")]),
        client.heads.frames(1, [(b":status", b"200"), (b"set-cookie", b"a"), (b"set-cookie", b"b")]),
        frames.data(1, b"abc"),
        client.heads.frames(1, [(b"grpc-status", b"0")], end=True),
    )
    first, second, head, data, trailers = events
    assert isinstance(first, InterimReceived)
    assert first.status == 100
    assert isinstance(second, InterimReceived)
    assert second.headers == [(b"link", b"a")]
    assert isinstance(head, HeadReceived)
    assert (head.status, head.end_stream) == (200, False)
    assert head.headers == [(b"set-cookie", b"a"), (b"set-cookie", b"b")]
    assert isinstance(data, DataReceived)
    assert isinstance(trailers, TrailersReceived)
    assert trailers.trailers == [(b"grpc-status", b"0")]
    assert stream.closed


@pytest.mark.parametrize(
    ("request_head", "status"), [(HEAD, b"200"), (GET, b"304")], ids=["response to HEAD", "304"]
)
def test_the_length_of_a_response_without_body_is_not_that_of_a_body(
    request_head: frames.Fields, status: bytes
) -> None:
    client = ClientUnderTest()
    _request(client, request_head)
    fields = [(b":status", status), (b"content-length", b"5")]
    head = client.receive_one(HeadReceived, client.heads.frames(1, fields, end=True))
    assert head.headers == [(b"content-length", b"5")]


def test_a_204_has_no_length() -> None:
    client = ClientUnderTest()
    _request(client)
    fields = [(b":status", b"204"), (b"content-length", b"0"), (b"x", b"y")]
    assert client.receive_one(HeadReceived, client.heads.frames(1, fields, end=True)).headers == [
        (b"x", b"y")
    ]


INVALID: dict[str, list[tuple[frames.Fields, bool]]] = {
    "no status": [([(b"a", b"b")], True)],
    "a status of two digits": [([(b":status", b"20")], True)],
    "a status of letters": [([(b":status", b"abc")], True)],
    "two statuses": [([(b":status", b"200"), (b":status", b"200")], True)],
    "status behind a field": [([(b"a", b"b"), (b":status", b"200")], True)],
    "status behind a cookie": [([(b"cookie", b"b"), (b":status", b"200")], True)],
    "101": [([(b":status", b"101")], False)],
    "an interim response that ends": [([(b":status", b"103")], True)],
    "a path": [([(b":status", b"200"), (b":path", b"/")], True)],
    "line feed": [([(b":status", b"200"), (b"a", b"\n")], True)],
    "connection": [([(b":status", b"200"), (b"connection", b"close")], True)],
    "transfer-encoding": [([(b":status", b"200"), (b"transfer-encoding", b"chunked")], True)],
    "upper case": [([(b":status", b"200"), (b"A", b"b")], True)],
    "a length in 204": [([(b":status", b"204"), (b"content-length", b"1")], True)],
    "a body that is too short": [([(b":status", b"200"), (b"content-length", b"1")], True)],
    "two final heads": [([(b":status", b"200")], False), ([(b":status", b"200")], True)],
}


@pytest.mark.parametrize("fault", INVALID)
def test_an_invalid_response_resets_its_stream(fault: str) -> None:
    client = ClientUnderTest(Http2Options(stream_error_on_invalid_message=True))
    _request(client)
    client.codec.data_to_send()
    events = client.receive(*[client.heads.frames(1, fields, end=end) for fields, end in INVALID[fault]])
    assert isinstance(events[-1], StreamReset)
    assert (events[-1].code, events[-1].local, events[-1].counter) == (1, True, "rx_messaging_error")
    assert isinstance(client.sent()[0], RstStreamFrame)


@pytest.mark.parametrize("fault", INVALID)
def test_an_invalid_response_ends_the_connection_by_default(fault: str) -> None:
    client = ClientUnderTest()
    _request(client)
    messages = [client.heads.frames(1, fields, end=end) for fields, end in INVALID[fault]]
    assert client.fails(*messages)[:2] == (1, "rx_messaging_error")


def test_interim_responses_are_bounded_together_like_one_head() -> None:
    """The block of each has a few bytes, as HPACK has the field in its table."""
    client = ClientUnderTest(Http2Options(max_headers_bytes=10_000))
    _request(client)
    interim = [(b":status", b"103"), (b"link", b"a" * 500)]
    events = client.receive(*[client.heads.frames(1, interim) for _ in range(1000)])
    assert sum(isinstance(event, InterimReceived) for event in events) == 10_000 // 514
    assert isinstance(events[-1], StreamReset)
    assert (events[-1].code, events[-1].local) == (11, True)
    other = _request(client)
    head = client.receive_one(HeadReceived, client.heads.frames(3, [(b":status", b"200")], end=True))
    assert head.stream is other


def test_data_before_the_head_is_refused() -> None:
    client = ClientUnderTest()
    _request(client)
    event = client.receive_one(StreamReset, frames.data(1, b"a"))
    assert (event.code, event.local) == (1, True)


def test_a_body_in_a_response_to_head_is_refused() -> None:
    client = ClientUnderTest()
    _request(client, HEAD)
    head = client.heads.frames(1, [(b":status", b"200")])
    events = client.receive(head, frames.data(1, b"a", end=True))
    assert isinstance(events[-1], StreamReset)
    assert (events[-1].code, events[-1].local) == (1, True)


def test_a_reset_by_the_server() -> None:
    client = ClientUnderTest()
    stream = _request(client)
    event = client.receive_one(StreamReset, frames.reset(1, 7))
    assert (event.stream, event.code, event.local, event.counter) == (stream, 7, False, "rx_reset")
    assert stream.closed
    assert client.receive(frames.reset(1, 7)) == []


def test_an_early_response_then_a_reset_without_error() -> None:
    client = ClientUnderTest()
    _request(client, POST, end=False)
    head = client.heads.frames(1, [(b":status", b"413")], end=True)
    events = client.receive(head, frames.reset(1, 0))
    assert [type(event) for event in events] == [HeadReceived, StreamReset]


def test_streams_that_goaway_excludes_were_not_processed() -> None:
    client = ClientUnderTest()
    streams = [_request(client) for _ in range(3)]
    events = client.receive(frames.goaway(3, 0))
    assert isinstance(events[0], GoAwayReceived)
    assert (events[0].last_stream_id, events[0].code) == (3, 0)
    assert isinstance(events[1], StreamReset)
    assert (events[1].stream, events[1].code, events[1].local) == (streams[2], 7, False)
    assert len(events) == 2
    head = client.heads.frames(1, [(b":status", b"200")], end=True)
    assert isinstance(client.receive(head)[0], HeadReceived)
    assert client.codec.available_streams == 0
    with pytest.raises(Http2UnavailableError):
        client.codec.open_stream()


def test_a_later_goaway_excludes_more_streams() -> None:
    client = ClientUnderTest()
    _request(client)
    assert len(client.receive(frames.goaway(2**31 - 1))) == 1
    assert [type(event) for event in client.receive(frames.goaway(0))] == [GoAwayReceived, StreamReset]


def test_the_servers_limit_of_streams() -> None:
    client = ClientUnderTest(peer_settings={3: 2})
    assert client.codec.available_streams == 2
    _request(client)
    assert client.codec.available_streams == 1
    client.receive(frames.reset(1))
    assert client.codec.available_streams == 2
    client.receive(frames.settings({3: 0}))
    assert client.codec.available_streams == 0


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (frames.Heads().frames(2, [(b":status", b"200")]), 1),
        (frames.Heads().frames(5, [(b":status", b"200")]), 1),
        (frames.data(5, b"a"), 1),
        (frames.reset(5), 1),
        (frames.window_update(5, 1), 1),
        (frames.raw(5, 4, 1, b"\0\0\0\2"), 1),
        (frames.settings({2: 1}), 1),
    ],
    ids=["even id", "unopened id", "DATA", "RST_STREAM", "WINDOW_UPDATE", "PUSH_PROMISE", "ENABLE_PUSH"],
)
def test_what_a_server_must_not_send(frame: bytes, code: int) -> None:
    client = ClientUnderTest()
    _request(client)
    assert client.fails(frame)[0] == code


def test_a_stream_that_was_never_sent_can_be_given_up() -> None:
    client = ClientUnderTest()
    stream = client.codec.open_stream()
    client.codec.reset(stream, 8)
    client.codec.send_head(stream, GET, True)
    assert not client.codec.wants_write
    assert client.codec.streams == {}
