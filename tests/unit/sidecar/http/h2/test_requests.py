"""Requests, as the codec of a server reads them."""

from __future__ import annotations

import pytest
from hyperframe.frame import DataFrame, HeadersFrame, RstStreamFrame

from sidecar.config.http2 import Http2Options
from sidecar.http.h2.events import DataReceived, HeadReceived, StreamReset, TrailersReceived
from tests.support import http2_frames as frames
from tests.support.http2_codec import ServerUnderTest
from tests.support.http2_frames import GET, POST

LENIENT = Http2Options(stream_error_on_invalid_message=True)


def test_a_request_in_its_parts() -> None:
    server = ServerUnderTest()
    [head] = server.request(1, [*GET, (b"accept", b"a"), (b"x-b", b"")])
    assert isinstance(head, HeadReceived)
    assert (head.method, head.scheme, head.authority, head.path) == (b"GET", b"http", b"a", b"/")
    assert (head.headers, head.end_stream, head.status) == ([(b"accept", b"a"), (b"x-b", b"")], True, 0)
    assert head.size == sum(len(name) + len(value) for name, value in GET) + 10
    assert head.stream.id == 1
    assert head.stream.received_end


def test_a_request_with_body_and_trailers() -> None:
    server = ServerUnderTest()
    [head] = server.request(1, POST, end=False)
    assert isinstance(head, HeadReceived)
    events = server.receive(
        frames.data(1, b"abc"),
        frames.data(1, b"def", padding=5),
        server.heads.frames(1, [(b"x-checksum", b"1")], end=True),
    )
    assert [event.data for event in events if isinstance(event, DataReceived)] == [b"abc", b"def"]
    assert isinstance(events[-1], TrailersReceived)
    assert events[-1].trailers == [(b"x-checksum", b"1")]
    assert events[-1].stream is head.stream


def test_the_same_block_again_gives_a_list_of_its_own() -> None:
    server = ServerUnderTest()
    fields = [*GET, (b"x-a", b"b")]
    heads = [server.request(stream_id, fields)[0] for stream_id in (1, 3, 5, 7)]
    for head in heads:
        assert isinstance(head, HeadReceived)
        assert head.headers == [(b"x-a", b"b")]
        head.headers.append((b"x-forwarded-for", b"c"))


def test_blocks_that_look_alike_mean_what_the_table_says() -> None:
    """The index of the newest entry is 62, whatever it is."""
    server = ServerUnderTest()
    for stream_id, value in ((1, b"b"), (5, b"c"), (9, b"d")):
        for later in (0, 2):
            [head] = server.request(stream_id + later, [*GET, (b"x-a", value)])
            assert isinstance(head, HeadReceived)
            assert head.headers == [(b"x-a", value)]


def test_a_head_in_continuations_with_padding_and_priority() -> None:
    server = ServerUnderTest()
    fields = [*GET, (b"x-long", b"a" * 40_000)]
    block = server.heads.block(fields)
    events = server.receive(
        frames.raw(1, 0x8 | 0x20 | 0x1, 1, b"\x03" + b"\0\0\0\x00\x10" + block[:1000] + b"\0\0\0"),
        frames.raw(9, 0, 1, block[1000:17_000]),
        frames.raw(9, 4, 1, block[17_000:]),
    )
    [head] = events
    assert isinstance(head, HeadReceived)
    assert head.headers == fields[4:]
    assert head.end_stream


def test_cookie_crumbs_are_joined() -> None:
    [head] = ServerUnderTest().request(1, [*GET, (b"cookie", b"a=1"), (b"x", b"y"), (b"cookie", b"b=2")])
    assert isinstance(head, HeadReceived)
    assert head.headers == [(b"x", b"y"), (b"cookie", b"a=1; b=2")]


def test_expect_and_te_are_apart() -> None:
    fields = [*POST, (b"te", b"Trailers"), (b"expect", b"100-continue"), (b"http2-settings", b"x")]
    [head] = ServerUnderTest().request(1, fields, end=False)
    assert isinstance(head, HeadReceived)
    assert head.headers == [(b"te", b"trailers")]
    assert head.expect == b"100-continue"


@pytest.mark.parametrize(
    ("fields", "authority"),
    [
        ([(b":authority", b"a"), (b"host", b"a")], b"a"),
        ([(b":authority", b"a"), (b"host", b"b")], b"a"),
        ([(b"host", b"b:1")], b"b:1"),
    ],
)
def test_authority_has_precedence_over_host(fields: frames.Fields, authority: bytes) -> None:
    rest = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/")]
    [head] = ServerUnderTest().request(1, rest + fields)
    assert isinstance(head, HeadReceived)
    assert head.authority == authority
    assert head.headers == []


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({b":method": b"OPTIONS", b":path": b"*"}, b"*"),
        ({b":method": b"PURGE", b":path": b"//a?b=%20"}, b"//a?b=%20"),
        ({b":scheme": b"custom+x"}, b"/"),
        ({b":path": b"/\xe4"}, b"/\xe4"),
    ],
)
def test_unusual_requests(fields: dict[bytes, bytes], expected: bytes) -> None:
    [head] = ServerUnderTest().request(1, list({**dict(GET), **fields}.items()))
    assert isinstance(head, HeadReceived)
    assert head.path == expected


def test_connect() -> None:
    server = ServerUnderTest()
    [head] = server.request(1, [(b":method", b"CONNECT"), (b":authority", b"a:443")], end=False)
    assert isinstance(head, HeadReceived)
    assert (head.method, head.authority, head.scheme, head.path, head.protocol) == (
        b"CONNECT",
        b"a:443",
        b"",
        b"",
        b"",
    )


def test_extended_connect() -> None:
    server = ServerUnderTest(Http2Options(allow_connect=True))
    assert b"\x00\x08\x00\x00\x00\x01" in server.greeting  # RFC 8441 3
    fields = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:]]
    [head] = server.request(1, fields, end=False)
    assert isinstance(head, HeadReceived)
    assert (head.method, head.path, head.protocol) == (b"CONNECT", b"/", b"websocket")


def _changed(fields: frames.Fields, **values: bytes | None) -> frames.Fields:
    """With these pseudo-headers; None removes one."""
    new = {b":" + name.encode(): value for name, value in values.items()}
    kept = [(name, new.get(name, value)) for name, value in fields]
    added = [(name, value) for name, value in new.items() if name not in dict(fields)]
    return [(name, value) for name, value in kept + added if value is not None]


# RFC 9113 8.1.1 to 8.3.1, 8.5, 10.3: what could become another message in HTTP/1.
ATTACKS = {
    "upper-case name": [*GET, (b"X-A", b"b")],
    "line feed in a name": [*GET, (b"x\nhost", b"b")],
    "colon in a name": [*GET, (b"x: a\r\nhost", b"b")],
    "space in a name": [*GET, (b"content-length ", b"5")],
    "empty name": [*GET, (b"", b"b")],
    "line feed in a value": [*GET, (b"x", b"a\nb: c")],
    "carriage return in a value": [*GET, (b"x", b"a\rb")],
    "NUL in a value": [*GET, (b"x", b"a\0")],
    "request in a value": [*GET, (b"x", b"a\r\n\r\nGET /admin HTTP/1.1\r\nhost: b\r\n\r\n")],
    "transfer-encoding": [*POST, (b"transfer-encoding", b"chunked")],
    "connection": [*GET, (b"connection", b"close")],
    "keep-alive": [*GET, (b"keep-alive", b"timeout=5")],
    "proxy-connection": [*GET, (b"proxy-connection", b"keep-alive")],
    "upgrade": [*GET, (b"upgrade", b"websocket")],
    "te other than trailers": [*GET, (b"te", b"gzip")],
    "two lengths": [*POST, (b"content-length", b"1"), (b"content-length", b"1")],
    "a signed length": [*POST, (b"content-length", b"+1")],
    "two lengths in one": [*POST, (b"content-length", b"1, 1")],
    "a length with spaces": [*POST, (b"content-length", b" 1")],
    "an immense length": [*POST, (b"content-length", b"9" * 30)],
    "two hosts": [*_changed(GET, authority=None), (b"host", b"a"), (b"host", b"b")],
    "no authority": _changed(GET, authority=None),
    "empty authority": _changed(GET, authority=b""),
    "user in the authority": _changed(GET, authority=b"user@a"),
    "line feed in the authority": _changed(GET, authority=b"a\r\nx: y"),
    "path in the authority": _changed(GET, authority=b"a/b"),
    "invalid host": [*_changed(GET, authority=None), (b"host", b"a b")],
    "no method": _changed(GET, method=None),
    "empty method": _changed(GET, method=b""),
    "request line in the method": _changed(GET, method=b"GET /admin HTTP/1.1\r\nx: y\r\n"),
    "space in the method": _changed(GET, method=b"GET /admin"),
    "no scheme": _changed(GET, scheme=None),
    "a URL in the scheme": _changed(GET, scheme=b"http://b/?"),
    "no path": _changed(GET, path=None),
    "empty path": _changed(GET, path=b""),
    "absolute path": _changed(GET, path=b"http://b/"),
    "relative path": _changed(GET, path=b"b"),
    "asterisk without OPTIONS": _changed(GET, path=b"*"),
    "space in the path": _changed(GET, path=b"/a HTTP/1.1"),
    "line feed in the path": _changed(GET, path=b"/\r\nhost: b"),
    "tab in the path": _changed(GET, path=b"/\t"),
    "fragment without a path": _changed(GET, path=b"#b"),
    "fragment and a space": _changed(GET, path=b"/ #b"),
    "invalid host next to :authority": [*GET, (b"host", b"user@a")],
    "empty host next to :authority": [*GET, (b"host", b"")],
    "two hosts next to :authority": [*GET, (b"host", b"a"), (b"host", b"a")],
    "status in a request": _changed(GET, status=b"200"),
    "unknown pseudo-header": _changed(GET, other=b"a"),
    "path twice": [*GET, (b":path", b"/")],
    "method twice": [(b":method", b"GET"), *GET],
    "pseudo-header behind a field": [(b"accept", b"a"), *GET],
    "pseudo-header behind a cookie": [GET[0], (b"cookie", b"a"), *GET[1:]],
    "protocol without extended CONNECT": [(b":method", b"CONNECT"), (b":protocol", b"x"), *GET[1:]],
    "protocol without CONNECT": _changed(GET, protocol=b"websocket"),
    "CONNECT with a path": [(b":method", b"CONNECT"), (b":authority", b"a:1"), (b":path", b"/")],
    "CONNECT with a scheme": [(b":method", b"CONNECT"), (b":authority", b"a:1"), (b":scheme", b"http")],
    "CONNECT without authority": [(b":method", b"CONNECT")],
    "a length without a body": [*POST, (b"content-length", b"1")],
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_invalid_request_ends_the_connection(attack: str) -> None:
    server = ServerUnderTest()
    code, counter, _ = server.fails(server.heads.frames(1, ATTACKS[attack], end=True))
    assert (code, counter) == (1, "rx_messaging_error")


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_invalid_request_ends_its_stream_where_that_is_configured(attack: str) -> None:
    server = ServerUnderTest(
        Http2Options(stream_error_on_invalid_message=True, allow_connect="CONNECT" not in attack)
    )
    event = server.receive_one(StreamReset, server.heads.frames(1, ATTACKS[attack], end=True))
    assert (event.code, event.local, event.counter) == (1, True, "rx_messaging_error")
    [reset] = server.sent()
    assert isinstance(reset, RstStreamFrame)
    assert (reset.stream_id, reset.error_code) == (1, 1)
    assert isinstance(server.request(3)[0], HeadReceived)


_LENGTH_OF_3 = [*POST, (b"content-length", b"3")]


@pytest.mark.parametrize(
    "bodies",
    [
        [frames.data(1, b"abcd")],
        [frames.data(1, b"ab"), frames.data(1, b"cd", end=True)],
        [frames.data(1, b"ab", end=True)],
        [frames.data(1, b"", end=True)],
    ],
    ids=["longer", "longer in two", "shorter", "empty"],
)
def test_a_body_of_another_length_than_announced_resets_its_stream(bodies: list[bytes]) -> None:
    server = ServerUnderTest()
    server.request(1, _LENGTH_OF_3, end=False)
    events = server.receive(*bodies)
    assert isinstance(events[-1], StreamReset)
    assert (events[-1].code, events[-1].local, events[-1].counter) == (1, True, "")
    assert not any(isinstance(event, DataReceived) and event.end_stream for event in events)


def test_a_body_of_the_announced_length() -> None:
    server = ServerUnderTest()
    server.request(1, _LENGTH_OF_3, end=False)
    events = server.receive(
        frames.data(1, b"ab"), frames.data(1, b"c", padding=3), frames.data(1, b"", end=True)
    )
    assert [type(event) for event in events] == [DataReceived, DataReceived, DataReceived]


@pytest.mark.parametrize(
    ("trailers", "end"),
    [
        ([(b":path", b"/")], True),
        ([(b"connection", b"close")], True),
        ([(b"A", b"b")], True),
        ([(b"a", b"b")], False),
        ([(b"content-length", b"2")], True),
        ([(b"content-length", b"4")], True),
        ([(b"content-length", b"+3")], True),
        ([(b"content-length", b"3"), (b"content-length", b"3")], True),
        ([(b"te", b"gzip")], True),
        ([(b"host", b"user@a")], True),
    ],
)
def test_invalid_trailers(trailers: frames.Fields, end: bool) -> None:
    server = ServerUnderTest(LENIENT)
    server.request(1, POST, end=False)
    server.receive(frames.data(1, b"a"), frames.data(1, b"bc"))
    event = server.receive_one(StreamReset, server.heads.frames(1, trailers, end=end))
    assert event.counter == "rx_messaging_error"


def test_a_length_in_both_the_head_and_the_trailers_is_refused() -> None:
    server = ServerUnderTest(LENIENT)
    server.request(1, _LENGTH_OF_3, end=False)
    server.receive(frames.data(1, b"abc"))
    trailers = server.heads.frames(1, [(b"content-length", b"3")], end=True)
    assert server.receive_one(StreamReset, trailers).counter == "rx_messaging_error"


def test_a_path_with_a_fragment_is_reported_with_the_request() -> None:
    server = ServerUnderTest()
    [head] = server.request(1, _changed(GET, path=b"/a?b#c"))
    assert isinstance(head, HeadReceived)
    assert (head.path, head.path_error) == (b"/a?b#c", "a fragment in the path")
    [valid] = server.request(3)
    assert isinstance(valid, HeadReceived)
    assert valid.path_error == ""


def test_a_path_with_a_fragment_does_not_hide_another_error() -> None:
    server = ServerUnderTest(LENIENT)
    fields = [*_changed(POST, path=b"/#"), (b"content-length", b"1")]
    event = server.receive_one(StreamReset, server.heads.frames(1, fields, end=True))
    assert event.counter == "rx_messaging_error"


def test_trailers_cannot_bypass_the_checks_of_heads() -> None:
    server = ServerUnderTest()
    server.request(1, POST, end=False)
    names = [b"x-forwarded-for", b"x-envoy-original-path", b"host", b"expect", b"http2-settings"]
    fields = [*((name, b"1") for name in names), (b"content-length", b"0"), (b"te", b"trailers")]
    event = server.receive_one(TrailersReceived, server.heads.frames(1, [*fields, (b"a", b"b")], end=True))
    assert event.trailers == [(b"a", b"b")]


@pytest.mark.parametrize(
    ("fields", "counter"),
    [([(b"x", b"a" * 1000)], "header_list_size_too_large"), ([(b"a", b"")] * 20, "header_overflow")],
    ids=["size", "count"],
)
def test_headers_beyond_the_limits_reset_the_stream(fields: frames.Fields, counter: str) -> None:
    server = ServerUnderTest(Http2Options(max_headers_bytes=500, max_headers_count=20))
    event = server.receive_one(StreamReset, server.heads.frames(1, [*GET, *fields], end=True))
    assert (event.local, event.counter) == (True, counter)
    assert isinstance(server.request(3)[0], HeadReceived)  # the table of HPACK is right


# What a server sends.


def test_a_response() -> None:
    server = ServerUnderTest()
    [head] = server.request(1)
    assert isinstance(head, HeadReceived)
    stream = head.stream
    server.codec.send_head(stream, [(b":status", b"103"), (b"link", b"a")], False)
    server.codec.send_head(
        stream, [(b":status", b"200"), (b"server", b"x"), (b"connection", b"close")], False
    )
    server.codec.send_data(stream, b"abc", False)
    server.codec.send_trailers(stream, [(b"grpc-status", b"0")])
    sent = server.sent()
    assert [type(frame) for frame in sent] == [HeadersFrame, HeadersFrame, DataFrame, HeadersFrame]
    blocks = [server.heads.read(frame.data) for frame in sent if isinstance(frame, HeadersFrame)]
    assert blocks == [
        [(b":status", b"103"), (b"link", b"a")],
        [(b":status", b"200"), (b"server", b"x")],
        [(b"grpc-status", b"0")],
    ]
    assert ["END_STREAM" in frame.flags for frame in sent] == [False, False, False, True]
    assert stream.closed
    assert server.codec.streams == {}


def test_nothing_is_sent_on_a_closed_stream() -> None:
    server = ServerUnderTest()
    [head] = server.request(1)
    assert isinstance(head, HeadReceived)
    server.receive(frames.reset(1))
    server.codec.send_head(head.stream, [(b":status", b"200")], False)
    server.codec.send_data(head.stream, b"a", True)
    server.codec.send_trailers(head.stream, [(b"a", b"b")])
    server.codec.reset(head.stream, 8)
    assert not server.codec.wants_write


def test_empty_trailers_end_the_stream() -> None:
    server = ServerUnderTest()
    [head] = server.request(1)
    assert isinstance(head, HeadReceived)
    server.codec.send_head(head.stream, [(b":status", b"200")], False)
    server.codec.send_trailers(head.stream, [])
    assert "END_STREAM" in server.sent()[-1].flags
    assert head.stream.closed


def test_a_large_head_is_sent_in_continuations() -> None:
    server = ServerUnderTest()
    [head] = server.request(1)
    assert isinstance(head, HeadReceived)
    fields = [(b":status", b"200"), (b"x", b"a" * 40_000)]
    server.codec.send_head(head.stream, fields, True)
    sent = server.sent()
    assert [len(frame.data) for frame in sent][:2] == [16_384, 16_384]
    assert [sorted(frame.flags) for frame in sent] == [["END_STREAM"], [], ["END_HEADERS"]]
    assert server.heads.read(b"".join(frame.data for frame in sent)) == fields
