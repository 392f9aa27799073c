from __future__ import annotations

import itertools
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import (
    DownstreamError,
    DownstreamProtocolError,
    ExpectationFailedError,
    HeadersTooLargeError,
    UnsupportedTransferCodingError,
)
from sidecar.http.h1.request_reader import MAX_REQUESTS_AT_ONCE, IncomingRequest, RequestReader
from tests.support.bodies import received

HOST = b"Host: reviews:9080\r\n"


class Source:
    def __init__(self) -> None:
        self.pauses = 0

    def pause_body(self) -> None:
        self.pauses += 1

    def resume_body(self) -> None: ...

    def abandon_body(self) -> None: ...


def new_reader(**limits: int) -> RequestReader:
    return RequestReader(Source(), **limits)


def feed_pieces(pieces: list[bytes], **limits: int) -> tuple[list[IncomingRequest], RequestReader]:
    reader = new_reader(**limits)
    requests = []
    for piece in pieces:
        at = 0
        while at < len(piece):
            requests += reader.feed(piece, at)
            at = reader.stopped_at
    return requests, reader


def outline(request: IncomingRequest) -> tuple[object, ...]:
    return (
        request.method,
        request.authority,
        request.path,
        request.headers,
        received(request.body),
        request.body.trailers,
        request.keep_alive,
        request.complete,
        request.upgrade,
        request.received_bytes,
    )


def read_one(head: bytes, **limits: int) -> IncomingRequest:
    requests, reader = feed_pieces([head], **limits)
    assert reader.error is None, reader.error
    assert len(requests) == 1
    return requests[0]


def test_whole_request_has_all_of_its_body() -> None:
    request = read_one(b"POST /a?b HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nX-A:  b \t\r\n\r\nhello")
    assert (request.method, request.authority, request.path) == (b"POST", b"reviews:9080", b"/a?b")
    assert request.headers == [(b"content-length", b"5"), (b"x-a", b"b")]
    assert request.body.whole == b"hello"
    assert request.complete
    assert request.keep_alive


def test_body_that_comes_later_streams() -> None:
    reader = new_reader()
    (request,) = reader.feed(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 10\r\n\r\nhello")
    assert not request.complete
    assert reader.feed(b"world") == []
    assert request.complete
    assert received(request.body) == b"helloworld"


def test_chunked_body_and_trailers() -> None:
    request = read_one(
        b"POST / HTTP/1.1\r\n"
        + HOST
        + b"Transfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1 \r\n\r\n"
    )
    assert request.body.ended
    assert received(request.body) == b"abc"
    assert request.body.trailers == [(b"x-sum", b"1")]
    assert request.headers == []


TRAILERS = st.sampled_from([b"", b"X-Sum: 1\r\n", b"X-Sum: 1\r\nY: 2\r\n"])
FRAMED = st.one_of(
    st.just((b"", b"", b"")),
    st.binary(max_size=30).map(lambda body: (b"Content-Length: %d\r\n" % len(body), body, body)),
    st.builds(
        lambda offer, piece, padding, trailers: (
            b"Transfer-Encoding: chunked\r\n" + offer,
            b"%x%b\r\n%b\r\n0\r\n%b\r\n" % (len(piece), padding, piece, trailers),
            piece,
        ),
        st.sampled_from([b"", b"Connection: upgrade\r\nUpgrade: h2c\r\n"]),
        st.binary(min_size=1, max_size=30),
        st.sampled_from([b"", b"  ", b" ; a = b"]),
        TRAILERS,
    ),
)


@given(
    st.lists(st.tuples(st.sampled_from([b"", b"\r\n", b"\r\n\r\n"]), FRAMED), min_size=1, max_size=5),
    st.lists(st.integers(0, 600), max_size=8),
    st.sampled_from([1, 2, MAX_REQUESTS_AT_ONCE]),
)
def test_pipelined_requests_are_told_apart_however_they_are_framed_and_cut(
    messages: list[tuple[bytes, tuple[bytes, bytes, bytes]]], cuts: list[int], at_once: int
) -> None:
    data = b"".join(
        b"%bPOST /%d HTTP/1.1\r\n%b%b\r\n%b" % (empty_lines, number, HOST, framing, encoded)
        for number, (empty_lines, (framing, encoded, _)) in enumerate(messages)
    )
    bounds = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    pieces = [data[start:end] for start, end in itertools.pairwise(bounds)]
    requests, reader = feed_pieces(pieces, max_at_once=at_once)
    assert reader.error is None
    assert [(request.path, received(request.body)) for request in requests] == [
        (b"/%d" % number, body) for number, (_, (_, _, body)) in enumerate(messages)
    ]
    assert all(request.complete for request in requests)


def test_small_requests_that_come_together_are_read_few_at_a_time() -> None:
    reader = new_reader()
    data = b"".join(b"GET /%d HTTP/1.1\r\n%b\r\n" % (number, HOST) for number in range(100))
    counts: list[int] = []
    paths: list[bytes] = []
    at = 0
    while at < len(data):
        requests = reader.feed(data, at)
        counts.append(len(requests))
        paths += [request.path for request in requests]
        at = reader.stopped_at
    assert max(counts) == MAX_REQUESTS_AT_ONCE
    assert paths == [b"/%d" % number for number in range(100)]
    assert reader.error is None


CHUNKED_HEAD = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("trailers", [b"", b"X-Sum: 1\r\n"])
def test_chunks_begin_behind_their_own_head_wherever_the_body_before_was_cut(trailers: bytes) -> None:
    before = CHUNKED_HEAD + b"0\r\n" + trailers + b"\r\n"
    body = b"\r\n\r\n0\r\n\r\n"  # which also ends a head, and a body
    following = CHUNKED_HEAD + b"9 \r\n" + body + b"\r\n0\r\n\r\n"  # which llhttp refuses
    places = range(len(CHUNKED_HEAD), len(before) + 1)
    for cuts in itertools.combinations_with_replacement(places, 3):
        edges = [0, *cuts, len(before)]
        pieces = [before[start:end] for start, end in itertools.pairwise(edges) if start != end]
        requests, reader = feed_pieces([*pieces[:-1], pieces[-1] + following])
        assert reader.error is None, pieces
        assert [(received(request.body), request.complete) for request in requests] == [
            (b"", True),
            (body, True),
        ], pieces


@pytest.mark.parametrize("trailers", [b"", b"X-Sum: 1\r\n"])
def test_nothing_is_read_behind_the_last_chunk_of_a_request_that_is_the_last(trailers: bytes) -> None:
    head = b"POST / HTTP/1.1\r\n" + HOST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    requests, reader = feed_pieces([head + b"2\r\nab\r\n0\r\n" + trailers + b"\r\nGET / HTTP/1.1\r\n\r\n"])
    assert [received(request.body) for request in requests] == [b"ab"]
    assert reader.error is None


def test_pipelined_requests_come_in_order() -> None:
    one = b"GET /1 HTTP/1.1\r\n" + HOST + b"\r\n"
    two = b"POST /2 HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n\r\nok"
    requests, reader = feed_pieces([one + two + one])
    assert [request.path for request in requests] == [b"/1", b"/2", b"/1"]
    assert reader.error is None


def test_requests_before_a_fault_are_not_lost() -> None:
    requests, reader = feed_pieces([b"GET /1 HTTP/1.1\r\n" + HOST + b"\r\nrubbish\r\n\r\n"])
    assert [request.path for request in requests] == [b"/1"]
    assert isinstance(reader.error, DownstreamProtocolError)


def test_nothing_is_read_after_connection_close() -> None:
    requests, reader = feed_pieces(
        [
            b"GET /1 HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n",
            b"GET /2 HTTP/1.1\r\n" + HOST + b"\r\n",
        ]
    )
    assert [request.path for request in requests] == [b"/1"]
    assert not requests[0].keep_alive
    assert reader.error is None


def test_hop_by_hop_fields_stay_here() -> None:
    request = read_one(
        b"GET / HTTP/1.1\r\n" + HOST + b"Connection: keep-alive, X-Mine\r\nKeep-Alive: 5\r\nX-Mine: 1\r\n"
        b"Proxy-Connection: keep-alive\r\nTE: gzip\r\nX-Yours: 2\r\n\r\n"
    )
    assert request.headers == [(b"x-yours", b"2")]


def test_te_trailers_is_passed_on() -> None:
    request = read_one(b"GET / HTTP/1.1\r\n" + HOST + b"TE: gzip, Trailers\r\nConnection: TE\r\n\r\n")
    assert request.headers == [(b"te", b"trailers")]


def test_http10_keeps_alive_only_if_asked_to() -> None:
    assert not read_one(b"GET / HTTP/1.0\r\n" + HOST + b"\r\n").keep_alive
    request = read_one(b"GET / HTTP/1.0\r\n" + HOST + b"Connection: keep-alive\r\n\r\n")
    assert request.keep_alive
    assert request.http10


def test_declined_upgrade_is_an_ordinary_request_with_its_body() -> None:
    head = (
        b"POST / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: 5\r\n\r\n"
    )
    next_one = b"GET /2 HTTP/1.1\r\n" + HOST + b"\r\n"
    requests, reader = feed_pieces([head + b"hello" + next_one])
    assert reader.error is None
    assert [received(request.body) for request in requests] == [b"hello", b""]
    assert [request.upgrade for request in requests] == [None, None]
    assert requests[0].headers == [(b"content-length", b"5")]


def test_declined_upgrade_with_a_chunked_body_that_comes_later() -> None:
    head = (
        b"POST / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    requests, reader = feed_pieces([head, b"3\r\nabc\r\n", b"0\r\n\r\n"])
    assert reader.error is None
    assert [received(request.body) for request in requests] == [b"abc"]
    assert requests[0].complete


def test_declined_upgrade_with_trailers_is_followed_by_the_next_request() -> None:
    head = (
        b"POST / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    data = head + b"3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\nGET /2 HTTP/1.1\r\n" + HOST + b"\r\n"
    for cut in range(1, len(data)):
        requests, reader = feed_pieces([data[:cut], data[cut:]])
        assert reader.error is None
        assert [received(request.body) for request in requests] == [b"abc", b""]
        assert requests[0].body.trailers == [(b"x-sum", b"1")]
        assert requests[1].path == b"/2"


def test_websocket_is_a_tunnel_of_the_bytes_that_follow() -> None:
    reader = new_reader()
    head = b"GET /ws HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n"
    (request,) = reader.feed(head + b"\x81\x01a")
    assert request.upgrade == b"websocket"
    reader.feed(b"GET / HTTP/1.1\r\n\r\n")
    assert received(request.body) == b"\x81\x01aGET / HTTP/1.1\r\n\r\n"
    assert not request.complete
    reader.feed_eof()
    assert request.complete


def test_connect_is_a_tunnel_to_its_target() -> None:
    request = read_one(b"CONNECT ratings:9080 HTTP/1.1\r\n" + HOST + b"\r\n\x16\x03")
    assert (request.upgrade, request.authority, request.path) == (b"connect", b"ratings:9080", b"")
    assert received(request.body) == b"\x16\x03"


def test_absolute_target_wins_over_host() -> None:
    request = read_one(b"GET http://ratings:9080/r?q HTTP/1.1\r\n" + HOST + b"\r\n")
    assert (request.authority, request.path) == (b"ratings:9080", b"/r?q")


SMUGGLING = {
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "no Host in HTTP/1.0": b"GET / HTTP/1.0\r\n\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "empty Host": b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "Host with a path": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "Host with userinfo": b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
    "Host with a space": b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    "long Host": b"GET / HTTP/1.1\r\nHost: " + b"a" * 2000 + b"\r\n\r\n",
    "TE in HTTP/1.0": b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "CL and TE": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE and CL": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
    b"Content-Length: 3\r\n\r\n0\r\n\r\n",
    "two CLs": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "list of CLs": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc",
    "signed CL": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
    "hexadecimal CL": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\nabc",
    "huge CL": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\nabc",
    "two TEs": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "obs-fold": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
    "space before the colon": b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    "NUL in a value": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
    "bare CR in a value": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
    "bare LF": b"GET / HTTP/1.1\nHost: a\n\n",
    "no name": b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
    "invalid name": b"GET / HTTP/1.1\r\nHost: a\r\nX(y): b\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/2 in a request line": b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
    "lower-case method": b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
    "unknown method": b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n",
    "control character in the target": b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
    "obs-text in the target": b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
    "relative target": b"GET foo HTTP/1.1\r\nHost: a\r\n\r\n",
    "fragment": b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    "* with GET": b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
    "another scheme": b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "userinfo in the target": b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT to a path": b"CONNECT /a HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT without a port": b"CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT with a body": b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    "upgrade with a body": b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Content-Length: 3\r\n\r\nabc",
    "chunk size that is no number": b"POST / HTTP/1.1\r\nHost: a\r\n"
    b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "length in a trailer": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    b"Content-Length: 3\r\n\r\n",
}


@pytest.mark.parametrize("data", SMUGGLING.values(), ids=SMUGGLING.keys())
def test_what_two_parsers_could_read_differently_is_refused(data: bytes) -> None:
    requests, reader = feed_pieces([data])
    assert isinstance(reader.error, DownstreamProtocolError)
    assert requests == []
    assert reader.feed(b"GET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n") == []


@pytest.mark.parametrize(
    ("field", "error", "status"),
    [
        (b"Transfer-Encoding: gzip, chunked", UnsupportedTransferCodingError, 501),
        (b"Transfer-Encoding: identity", UnsupportedTransferCodingError, 501),
        (b"Transfer-Encoding: \x0bchunked", DownstreamError, 400),
        (b"Expect: the-unexpected", ExpectationFailedError, 417),
    ],
)
def test_what_is_not_supported_is_said(field: bytes, error: type[DownstreamError], status: int) -> None:
    requests, reader = feed_pieces([b"POST / HTTP/1.1\r\n" + HOST + field + b"\r\n\r\n0\r\n\r\n"])
    assert isinstance(reader.error, error)
    assert reader.error.status == status
    assert requests == []


def test_fault_in_a_body_cuts_it_short() -> None:
    reader = new_reader()
    (request,) = reader.feed(
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    )
    reader.feed(b"rubbish\r\n")
    with pytest.raises(DownstreamProtocolError) as raised:
        received(request.body)
    assert raised.value is reader.error


@pytest.mark.parametrize("fault", [b"rubbish\r\n", b"0\r\nno field\r\n"])
def test_chunk_before_a_fault_is_part_of_the_body_even_if_both_come_together(fault: bytes) -> None:
    reader = new_reader()
    (request,) = reader.feed(b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n")
    reader.feed(b"3\r\nabc\r\n" + fault)
    assert isinstance(reader.error, DownstreamProtocolError)
    assert request.received_bytes == 3


def test_too_many_headers() -> None:
    fields = b"".join(b"x%d: y\r\n" % number for number in range(20))
    head = b"GET / HTTP/1.1\r\n" + HOST + fields + b"\r\n"
    assert feed_pieces([head], max_headers_count=21)[1].error is None
    assert isinstance(feed_pieces([head], max_headers_count=20)[1].error, HeadersTooLargeError)


CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"


@pytest.mark.parametrize("field", [b"T: x\r\n", b"TE: x\r\n"])
@pytest.mark.parametrize("before", [b"GET / HTTP/1.1\r\n", CHUNKED + b"0\r\n"], ids=["head", "trailers"])
@pytest.mark.parametrize("size", [6, 1000])
def test_fields_are_counted_as_they_arrive(before: bytes, field: bytes, size: int) -> None:
    data = before + field * 105  # and no end: the first line and the last two fields are not counted yet
    reader = new_reader()
    requests = [
        request for start in range(0, len(data), size) for request in reader.feed(data[start : start + size])
    ]
    assert isinstance(reader.error, HeadersTooLargeError)
    for request in requests:
        with pytest.raises(HeadersTooLargeError):
            received(request.body)


@pytest.mark.parametrize("before", [b"GET / HTTP/1.1\r\n", CHUNKED + b"0\r\n"], ids=["head", "trailers"])
def test_small_fields_cost_no_more_memory_than_their_number_allows(before: bytes) -> None:
    data = before + b"T: x\r\n" * 9000
    reader = new_reader()
    tracemalloc.start()
    try:
        requests = reader.feed(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reader.error is not None
    assert len(requests) <= 1
    assert peak < 500_000


def test_small_chunks_that_come_together_are_one_piece() -> None:
    source = Source()
    (request,) = RequestReader(source).feed(CHUNKED + b"1\r\nx\r\n" * 6000)
    assert source.pauses == 0  # as separate pieces they would take more memory than a body may hold
    assert received(request.body) == b"hello" + b"x" * 6000


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        pytest.param(b"0\r\n", b"x: " + b"y" * 500 + b"\r\n", id="trailers without end"),
        pytest.param(b"0\r\nx: ", b"y" * 500, id="a trailer without end"),
        pytest.param(b"5;x=", b"y" * 500, id="a chunk extension without end"),
    ],
)
def test_what_comes_beside_a_body_is_bounded(begin: bytes, more: bytes) -> None:
    requests, reader = feed_pieces([CHUNKED, begin, *[more] * 20], max_headers_bytes=8192)
    assert isinstance(reader.error, HeadersTooLargeError)
    with pytest.raises(HeadersTooLargeError):
        received(requests[0].body)


def test_body_that_trickles_in_after_much_else_is_not_refused() -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 300 + CHUNKED
    chunks = [piece for _ in range(100) for piece in (b"1;" + b"x" * 100, b"\r\na\r\n")]
    requests, reader = feed_pieces([head, *chunks, b"0\r\n\r\n"], max_headers_bytes=4096)
    assert reader.error is None
    assert requests[-1].complete
    assert received(requests[-1].body) == b"hello" + b"a" * 100


def test_trailers_do_not_bring_in_what_the_mesh_vouches_for_in_headers() -> None:
    fields = b"X-Forwarded-Client-Cert: By=me\r\nx-envoy-retry-on: 5xx\r\nHost: b\r\nX-Sum: 1\r\n"
    request = read_one(CHUNKED + b"0\r\n" + fields + b"\r\n")
    assert request.body.trailers == [(b"x-sum", b"1")]


def test_framing_of_a_declined_upgrade_is_no_trailer() -> None:
    request = read_one(
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nhello"
    )
    assert request.body.whole == b"hello"


def test_too_many_trailers() -> None:
    fields = b"".join(b"x%d: y\r\n" % number for number in range(20))
    head = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + fields + b"\r\n"
    assert isinstance(feed_pieces([head], max_headers_count=15)[1].error, HeadersTooLargeError)


@pytest.mark.parametrize("piece", [100, 1000, 100_000])
def test_large_headers_however_they_arrive(piece: int) -> None:
    head = b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 5000 + b"\r\n\r\n"
    pieces = [head[at : at + piece] for at in range(0, len(head), piece)]
    assert feed_pieces(pieces, max_headers_bytes=6000)[1].error is None
    assert isinstance(feed_pieces(pieces, max_headers_bytes=4000)[1].error, HeadersTooLargeError)


def test_head_without_end_is_refused_before_its_end() -> None:
    reader = new_reader(max_headers_bytes=4000)
    reader.feed(b"GET / HTTP/1.1\r\n" + HOST + b"X: ")
    for _ in range(50):
        reader.feed(b"a" * 100)
    assert isinstance(reader.error, HeadersTooLargeError)


def test_pipelined_heads_are_not_added_up() -> None:
    one = b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 500 + b"\r\n\r\n"
    requests, reader = feed_pieces([one * 20 + one[:300], one[300:]], max_headers_bytes=1000)
    assert reader.error is None
    assert len(requests) == 21


STREAM = (
    b"POST /1 HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nX-A: b\r\n\r\nhello"
    b"\r\nPOST /2?q=1 HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n"
    b"5;ext=1\r\nhello\r\n6\r\n world\r\n0\r\nx-sum: 1\r\n\r\n"
    b"POST /3 HTTP/1.1\r\n"
    + HOST
    + b"Connection: Upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: A\r\n"
    b"Content-Length: 3\r\n\r\nabc"
    b"GET http://ratings/4 HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
)


@given(cuts=st.sets(st.integers(1, len(STREAM) - 1)))
def test_any_split_of_the_bytes_gives_the_same_requests(cuts: set[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    requests, reader = feed_pieces([STREAM[a:b] for a, b in itertools.pairwise(edges)])
    whole, _ = feed_pieces([STREAM])
    assert reader.error is None
    outlines = [outline(request) for request in whole]
    assert [outline(request) for request in requests] == outlines
    assert [each[4] for each in outlines] == [b"hello", b"hello world", b"abc", b""]
