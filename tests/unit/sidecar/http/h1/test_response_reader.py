from __future__ import annotations

import itertools
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.http.h1.response_reader import ResponseReader
from tests.support.bodies import received


class Source:
    def pause_body(self) -> None: ...

    def resume_body(self) -> None: ...

    def abandon_body(self) -> None: ...


def new_reader(method: bytes = b"GET", upgrade: bytes | None = None, **limits: int) -> ResponseReader:
    reader = ResponseReader(Source(), **limits)
    reader.expect(method, upgrade)
    return reader


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
PADDED = b"2  \r\nab\r\n3 ; a = b\r\ncde\r\n0 \r\n"


@pytest.mark.parametrize("trailers", [b"", b"X-Sum: 1\r\n"])
@pytest.mark.parametrize("interim", [b"", b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n" * 2])
def test_white_space_in_chunk_lines_is_accepted_for_all_splits(interim: bytes, trailers: bytes) -> None:
    reader = new_reader()
    data = interim + CHUNKED + PADDED + trailers + b"\r\n"
    for cut in range(len(data) + 1):
        reader.expect(b"GET", None)
        reader.interim = []
        first = reader.feed(data[:cut])
        response = reader.feed(data[cut:]) or first
        assert reader.error is None
        assert response is not None
        assert response.complete
        assert received(response.body) == b"abcde"
        assert len(reader.interim) == (2 if interim else 0)


@pytest.mark.parametrize("trailers", [b"", b"X-Sum: 1\r\n"])
def test_bytes_behind_the_last_chunk_are_none_of_the_next_response(trailers: bytes) -> None:
    reader = new_reader()
    reader.feed(CHUNKED + PADDED + trailers + b"\r\nHTTP/1.1 200 OK\r\n")
    assert reader.error is not None


@pytest.mark.parametrize("chunks", [b"2 2\r\nab\r\n", b" 2\r\nab\r\n", b"2\nab\r\n", b"2\r\nabc\r\n"])
def test_chunks_that_another_parser_could_read_otherwise_are_refused(chunks: bytes) -> None:
    reader = new_reader()
    reader.feed(CHUNKED + chunks)
    assert reader.error is not None


@pytest.mark.parametrize("before", [b"HTTP/1.1 200 OK\r\n", CHUNKED + b"0\r\n"], ids=["head", "trailers"])
@pytest.mark.parametrize("field", [b"T: x\r\n", b"Upgrade: x\r\n"])
def test_fields_are_counted_as_they_arrive(before: bytes, field: bytes) -> None:
    reader = new_reader()
    tracemalloc.start()
    try:
        reader.feed(before + field * 9000)  # and no end
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reader.error is not None
    assert "headers" in str(reader.error)
    assert peak < 600_000


def test_whole_response_has_all_of_its_body() -> None:
    reader = new_reader()
    response = reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b \r\n\r\nhello")
    assert response is not None
    assert (response.status, response.headers, response.body.whole) == (
        200,
        [(b"content-length", b"5"), (b"x-a", b"b")],
        b"hello",
    )
    assert response.complete
    assert response.keep_alive


def test_next_response_on_the_same_connection() -> None:
    reader = new_reader()
    assert reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na") is not None
    reader.expect(b"GET", None)
    response = reader.feed(b"HTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\nb")
    assert response is not None
    assert (response.status, response.body.whole) == (404, b"b")


def test_response_to_head_does_not_eat_the_next() -> None:
    reader = new_reader(b"HEAD")
    response = reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
    assert response is not None
    assert response.complete
    assert response.headers == [(b"content-length", b"500")]
    assert response.keep_alive
    reader.expect(b"GET", None)
    response = reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb")
    assert response is not None
    assert response.body.whole == b"b"
    assert reader.error is None


def test_response_to_head_with_a_body_is_an_error() -> None:
    reader = new_reader(b"HEAD")
    response = reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    assert response is not None
    assert response.body.whole == b""
    assert reader.error is not None


@pytest.mark.parametrize("cut", [0, 20, 47, 50])
def test_chunks_after_a_response_to_head_are_refused_for_all_splits(cut: int) -> None:
    reader = new_reader(b"HEAD")
    data = CHUNKED + b"0\r\n\r\n"
    reader.feed(data[:cut])
    reader.feed(data[cut:])
    assert reader.error is not None


def test_any_success_of_connect_opens_a_tunnel() -> None:
    reader = new_reader(b"CONNECT", b"connect")
    response = reader.feed(b"HTTP/1.1 204 No Content\r\n\r\n\x16")
    assert response is not None
    assert response.tunnel
    assert received(response.body) == b"\x16"


@pytest.mark.parametrize("status", [204, 304])
def test_responses_that_have_no_body(status: int) -> None:
    reader = new_reader()
    response = reader.feed(b"HTTP/1.1 %d X\r\nETag: a\r\n\r\n" % status)
    assert response is not None
    assert response.complete
    assert response.keep_alive


def test_interim_responses_come_before() -> None:
    reader = new_reader()
    response = reader.feed(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    )
    assert reader.interim == [(100, []), (103, [(b"link", b"a")])]
    assert response is not None
    assert response.status == 200


def test_body_until_the_connection_closes() -> None:
    reader = new_reader()
    response = reader.feed(b"HTTP/1.1 200 OK\r\n\r\nhel")
    assert response is not None
    assert reader.feed(b"lo") is None
    assert not response.complete
    assert reader.feed_eof()
    assert response.complete
    assert not response.keep_alive
    assert received(response.body) == b"hello"


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 10", b"Transfer-Encoding: chunked\r\nConnection: close"]
)
def test_eof_within_a_framed_body_does_not_end_it(framing: bytes) -> None:
    reader = new_reader()
    response = reader.feed(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n3\r\nab")
    assert response is not None
    assert not reader.feed_eof()
    assert not response.complete


def test_interim_responses_are_bounded_together() -> None:
    reader = new_reader(max_headers_bytes=8192)
    fed = 0
    while reader.error is None and fed < 1000:
        assert reader.feed(b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n") is None
        fed += 1
    assert reader.error is not None
    assert len(reader.interim) < 300
    reader = new_reader(max_headers_bytes=8192)
    for _ in range(20):  # the bound is for one response
        reader.feed(b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" * 100)
        assert reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") is not None
        reader.expect(b"GET", None)


def test_interim_response_says_no_length() -> None:
    reader = new_reader()
    reader.feed(b"HTTP/1.1 103 Early Hints\r\nContent-Length: 0\r\nLink: a\r\n\r\n")
    assert reader.interim == [(103, [(b"link", b"a")])]


@pytest.mark.parametrize("status", [b"000", b"099"])
def test_invalid_status(status: bytes) -> None:
    reader = new_reader()
    assert reader.feed(b"HTTP/1.1 " + status + b" No\r\nContent-Length: 0\r\n\r\n") is None
    assert reader.error is not None
    assert reader.interim == []


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        pytest.param(b"0\r\n", b"x: " + b"y" * 500 + b"\r\n", id="trailers without end"),
        pytest.param(b"0\r\nx: ", b"y" * 500, id="a trailer without end"),
        pytest.param(b"5;x=", b"y" * 500, id="a chunk extension without end"),
    ],
)
def test_bytes_besides_a_body_are_bounded(begin: bytes, more: bytes) -> None:
    reader = new_reader(max_headers_bytes=8192)
    reader.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    for piece in (begin, *[more] * 20):
        reader.feed(piece)
    assert reader.error is not None
    assert "trailers" in str(reader.error)


def test_chunked_body_with_trailers() -> None:
    reader = new_reader()
    response = reader.feed(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nGrpc-Status: 0\r\n\r\n"
    )
    assert response is not None
    assert response.body.ended
    assert response.body.trailers == [(b"grpc-status", b"0")]
    assert received(response.body) == b"abc"
    assert response.keep_alive


def test_trailers_without_a_body() -> None:
    reader = new_reader()
    response = reader.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: 1\r\n\r\n")
    assert response is not None
    assert response.body.trailers == [(b"x", b"1")]


def test_hop_by_hop_fields_stay_here() -> None:
    reader = new_reader()
    response = reader.feed(
        b"HTTP/1.1 200 OK\r\nConnection: X-Mine\r\nKeep-Alive: timeout=5\r\nX-Mine: 1\r\nX-Yours: 2\r\n"
        b"Content-Length: 0\r\n\r\n"
    )
    assert response is not None
    assert response.headers == [(b"x-yours", b"2"), (b"content-length", b"0")]


def test_switch_to_the_requested_protocol_opens_a_tunnel() -> None:
    reader = new_reader(upgrade=b"websocket")
    response = reader.feed(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nX: y\r\n\r\n\x81"
    )
    assert response is not None
    assert response.tunnel
    assert response.headers == [(b"x", b"y")]
    reader.feed(b"\x00HTTP/1.1 200 OK\r\n\r\n")
    assert received(response.body) == b"\x81\x00HTTP/1.1 200 OK\r\n\r\n"
    assert reader.feed_eof()
    assert response.complete


FAULTS = {
    "a switch that was not asked for": b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "a switch to nothing": b"HTTP/1.1 101 X\r\n\r\n",
    "CL and TE": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\na",
    "two CLs": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na",
    "another coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked not last": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "TE in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "obs-fold": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "a status of two digits": b"HTTP/1.1 99 X\r\n\r\n",
}


@pytest.mark.parametrize("data", FAULTS.values(), ids=FAULTS.keys())
def test_fault_of_the_upstream(data: bytes) -> None:
    reader = new_reader()
    assert reader.feed(data) is None
    assert reader.error is not None


def test_bytes_beyond_the_response_do_not_pass_for_the_next() -> None:
    reader = new_reader()
    response = reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\n\r\n")
    assert response is not None
    assert response.body.whole == b"a"
    assert reader.error is not None


def test_limits_on_headers() -> None:
    head = b"HTTP/1.1 200 OK\r\nX: " + b"a" * 500 + b"\r\nContent-Length: 0\r\n\r\n"
    assert new_reader(max_headers_bytes=600).feed(head) is not None
    assert new_reader(max_headers_bytes=400).feed(head) is None
    assert new_reader(max_headers_count=1).feed(head) is None
    endless = new_reader(max_headers_bytes=400)
    endless.feed(b"HTTP/1.1 200 OK\r\nX: ")
    for _ in range(5):
        endless.feed(b"a" * 100)
    assert endless.error is not None


STREAM = (
    b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n"
    b"5\r\nhello\r\n6\r\n world\r\n0\r\nx-sum: 1\r\n\r\n"
)


@given(cuts=st.sets(st.integers(1, len(STREAM) - 1)))
def test_any_split_of_the_bytes_gives_the_same_response(cuts: set[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    reader = new_reader()
    responses = [reader.feed(STREAM[a:b]) for a, b in itertools.pairwise(edges)]
    (response,) = [response for response in responses if response is not None]
    assert reader.error is None
    assert reader.interim == [(103, [(b"link", b"a")])]
    assert (response.status, response.headers) == (200, [(b"x", b"y")])
    assert received(response.body) == b"hello world"
    assert response.complete
    assert response.body.trailers == [(b"x-sum", b"1")]
