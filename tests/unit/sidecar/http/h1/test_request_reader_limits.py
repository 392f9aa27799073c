"""Requests that are refused, and the limits of heads, trailers and chunks."""

from __future__ import annotations

import tracemalloc

import pytest

from sidecar.errors import (
    DownstreamError,
    DownstreamProtocolError,
    ExpectationFailedError,
    HeadersTooLargeError,
    UnsupportedTransferCodingError,
)
from sidecar.http.h1.request_reader import RequestReader
from tests.support.bodies import received
from tests.support.request_readers import HOST, Source, feed_pieces, new_reader, read_one

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
def test_ambiguous_messages_are_refused(data: bytes) -> None:
    requests, reader = feed_pieces([data])
    assert isinstance(reader.error, DownstreamProtocolError)
    assert requests == []
    assert reader.feed(b"GET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n") == []


@pytest.mark.parametrize(
    ("field", "error", "status"),
    [
        (b"Transfer-Encoding: gzip, chunked", UnsupportedTransferCodingError, 501),
        (b"Transfer-Encoding: identity", UnsupportedTransferCodingError, 501),
        (b"Transfer-Encoding: chunked, gzip", DownstreamProtocolError, 400),
        (b"Transfer-Encoding: chunked, chunked", DownstreamProtocolError, 400),
        (b"Transfer-Encoding: \x0bchunked", DownstreamError, 400),
        (b"Expect: the-unexpected", ExpectationFailedError, 417),
    ],
)
def test_unsupported_features_are_refused_with_their_status(
    field: bytes, error: type[DownstreamError], status: int
) -> None:
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
def test_bytes_besides_a_body_are_bounded(begin: bytes, more: bytes) -> None:
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


def test_trailers_contain_no_headers_that_the_mesh_verifies() -> None:
    fields = b"X-Forwarded-Client-Cert: By=me\r\nx-envoy-retry-on: 5xx\r\nHost: b\r\nX-Sum: 1\r\n"
    request = read_one(CHUNKED + b"0\r\n" + fields + b"\r\n")
    assert request.body.trailers == [(b"x-sum", b"1")]


def test_framing_of_a_declined_upgrade_is_not_a_trailer() -> None:
    request = read_one(
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nhello"
    )
    assert request.body.whole == b"hello"


def test_too_many_trailers() -> None:
    fields = b"".join(b"x%d: y\r\n" % number for number in range(20))
    head = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + fields + b"\r\n"
    assert isinstance(feed_pieces([head], max_headers_count=15)[1].error, HeadersTooLargeError)


@pytest.mark.parametrize("piece", [100, 1000, 100_000])
def test_large_headers_for_all_splits(piece: int) -> None:
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
