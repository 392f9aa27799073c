"""HTTP/1.1 messages of all kinds, read by our readers and by h11: what ours accepts, h11 reads the same."""

from __future__ import annotations

import itertools

import h11
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.http.h1.request_reader import IncomingRequest, RequestReader
from sidecar.http.h1.response_reader import ResponseReader
from sidecar.http.h1.writer import chunk, last_chunk, whole_request, whole_response
from sidecar.http.headers import Headers
from tests.support.bodies import received
from tests.support.http1 import new_request


class Source:
    def pause_body(self) -> None: ...

    def resume_body(self) -> None: ...

    def abandon_body(self) -> None: ...


names = st.sampled_from([b"x-a", b"X-B", b"accept", b"x!y", b"cookie"])
values = st.binary(max_size=12).map(lambda value: bytes(c for c in value if c > 32 and c != 127))
methods = st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"])
targets = st.sampled_from([b"/", b"/a/b?c=d&e", b"/%20", b"*", b"http://b:1/x", b"/a#f", b"a", b"/\x7f"])
# Each is now and then what a smuggler would send.
framings = st.sampled_from(
    [b"", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n",
     b"Content-Length: 3\r\nContent-Length: 4\r\n",
     b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n",
     b"Content-Length: -1\r\n", b"Content-Length: 3 \r\n", b"Transfer-Encoding : chunked\r\n",
     b"Transfer-Encoding:\x0bchunked\r\n", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
     b"X: y\r\n Transfer-Encoding: chunked\r\n", b"Content-Length: 0003\r\n", b"content-length:3\r\n",
     b"Connection: content-length\r\nContent-Length: 3\r\n"]
)  # fmt: skip
bodies = st.sampled_from(
    [b"", b"abc", b"3\r\nabc\r\n0\r\n\r\n", b"3;x=y\r\nabc\r\n0\r\nX-T: 1\r\n\r\n", b"0\r\n\r\n",
     b"3\nabc\n0\n\n",
     b"-3\r\nabc\r\n0\r\n\r\n", b"3\r\nabcd\r\n0\r\n\r\n", b"0x3\r\nabc\r\n0\r\n\r\n"]
)  # fmt: skip
versions = st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0"])
hosts = st.sampled_from([b"Host: a\r\n", b"Host: a\r\n", b"Host: a:80\r\n", b"", b"Host: a\r\nHost: b\r\n"])
headers_in = st.lists(st.tuples(names, values), max_size=4)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    head = draw(methods) + b" " + draw(targets) + b" " + draw(versions) + b"\r\n" + draw(hosts)
    fields = b"".join(name + b": " + value + b"\r\n" for name, value in draw(headers_in))
    return head + fields + draw(framings) + b"\r\n" + draw(bodies)


def read(data: bytes, cuts: list[int]) -> tuple[list[IncomingRequest], RequestReader]:
    reader = RequestReader(Source())
    edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    arrived = [request for a, b in itertools.pairwise(edges) if a != b for request in reader.feed(data[a:b])]
    return arrived, reader


def read_by_h11(data: bytes) -> tuple[h11.Request, bytes, Headers]:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    request = connection.next_event()
    assert isinstance(request, h11.Request)
    body, trailers = b"", []
    while isinstance(event := connection.next_event(), h11.Data):
        body += bytes(event.data)
    if isinstance(event, h11.EndOfMessage):
        trailers = [(bytes(name), bytes(value)) for name, value in event.headers]
    return request, body, trailers


@settings(max_examples=400)
@given(data=requests())
def test_requests_that_are_accepted_read_the_same_to_h11(data: bytes) -> None:
    arrived, reader = read(data, [])
    if not arrived or not arrived[0].complete or reader.error is not None:
        return
    request, body, trailers = read_by_h11(data)
    ours = arrived[0]
    assert ours.method == request.method
    assert received(ours.body) == body
    assert [field for field in ours.headers if field[0].startswith(b"x")] == [
        (name, value) for name, value in request.headers if name.startswith(b"x")
    ]
    assert ours.body.trailers == trailers


@settings(max_examples=400)
@given(data=requests(), cuts=st.lists(st.integers(0, 400), max_size=6))
def test_any_split_of_any_bytes_gives_the_same_end(data: bytes, cuts: list[int]) -> None:
    whole, whole_reader = read(data, [])
    split, split_reader = read(data, cuts)
    assert type(whole_reader.error) is type(split_reader.error)
    if whole_reader.error is None:
        assert [(r.method, r.path, r.headers, received(r.body)) for r in whole] == [
            (r.method, r.path, r.headers, received(r.body)) for r in split
        ]


pieces_of_chunks = st.sampled_from(
    [b"2", b"0", b";", b"=", b"a", b'"', b'"q"', b"\\", b" ", b"\t", b"\r", b"\n", b"\r\n", b"\xe9", b"\x01",
     b"g", b",", b"ab\r\n", b"2\r\nab\r\n", b"0\r\n\r\n", b"x: y\r\n"]
)  # fmt: skip


pieces_of_extensions = st.sampled_from([b";", b"=", b"a", b'"q"', b" "])
chunk_lines = st.one_of(
    st.lists(pieces_of_chunks, max_size=6), st.lists(pieces_of_extensions, max_size=4)
).map(b"".join)


@settings(max_examples=600)
@given(line=chunk_lines, cuts=st.lists(st.integers(0, 400), max_size=6))
def test_chunks_are_taken_or_refused_alike_by_both_who_read_them(line: bytes, cuts: list[int]) -> None:
    """llhttp, where they come with their head, and ourselves."""
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    data = head + b"2" + line + b"\r\nab\r\n0\r\n\r\n"
    whole, whole_reader = read(data, [])
    split, split_reader = read(data, [len(head), *cuts])
    assert type(whole_reader.error) is type(split_reader.error)
    if whole_reader.error is None:
        assert [(r.complete, received(r.body)) for r in whole] == [
            (r.complete, received(r.body)) for r in split
        ]


@settings(max_examples=200)
@given(data=st.binary(max_size=300))
def test_rubbish_is_refused_without_a_traceback(data: bytes) -> None:
    RequestReader(Source()).feed(data)
    reader = ResponseReader(Source())
    reader.expect(b"GET", None)
    reader.feed(data)
    reader.feed(b"HTTP/1.1 200 OK\r\n" + data)


clean_headers = st.lists(st.tuples(st.sampled_from([b"x-a", b"x-b", b"cookie"]), values), max_size=5)


@given(method=methods, headers=clean_headers, body=st.binary(max_size=50))
def test_what_we_write_h11_reads(method: bytes, headers: Headers, body: bytes) -> None:
    request, read_body, _ = read_by_h11(whole_request(new_request(method, b"/p", headers), body))
    assert (request.method, request.target, read_body) == (method, b"/p", body)
    assert [field for field in request.headers if field[0] not in (b"host", b"content-length")] == headers


@given(headers=clean_headers, pieces=st.lists(st.binary(min_size=1, max_size=20), max_size=5))
def test_chunks_and_trailers_that_we_write_h11_reads(headers: Headers, pieces: list[bytes]) -> None:
    head = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
    data = head + b"".join(map(chunk, pieces)) + last_chunk(headers)
    _, body, trailers = read_by_h11(data)
    assert (body, trailers) == (b"".join(pieces), headers)


@given(status=st.integers(200, 599), headers=clean_headers, body=st.binary(max_size=50))
def test_responses_that_we_write_h11_and_we_read(status: int, headers: Headers, body: bytes) -> None:
    if status in (204, 304):
        return
    data = whole_response(status, headers, body)
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    response = client.next_event()
    assert isinstance(response, h11.Response)
    assert response.status_code == status
    reader = ResponseReader(Source())
    reader.expect(b"GET", None)
    ours = reader.feed(data)
    assert ours is not None
    assert (ours.status, ours.body.whole, ours.headers[:-1]) == (status, body, headers)
