from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import (
    DownstreamProtocolError,
)
from sidecar.http.h1.request_reader import MAX_REQUESTS_AT_ONCE
from tests.support.bodies import received
from tests.support.request_readers import HOST, feed_pieces, new_reader, outline, read_one


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
def test_pipelined_requests_are_separated_for_all_framings_and_cuts(
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
