"""Bytes that HTTP/1.1 clients send: framing and body are drawn together, so that they fit."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

names = st.sampled_from([b"x-a", b"X-B", b"accept", b"x!y", b"cookie"])
values = st.binary(max_size=12).map(lambda value: bytes(c for c in value if c > 32 and c != 127))
headers_in = st.lists(st.tuples(names, values), max_size=4)
methods = st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"])
targets = st.sampled_from([b"/", b"/a/b?c=d&e", b"/%20", b"//a", b"http://b:1/x", b"http://b", b"http://b?q"])
hosts = st.sampled_from([b"Host: a\r\n", b"host:a\r\n", b"Host: \ta:80 \r\n"])
pieces = st.lists(st.binary(min_size=1, max_size=20), max_size=4)


def fields(headers: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join(name + b": " + value + b"\r\n" for name, value in headers)


@st.composite
def heads(draw: st.DrawFn, *, version: bytes = b"HTTP/1.1") -> bytes:
    """A request line, Host and some headers, without the fields of the framing and the empty line."""
    line = draw(methods) + b" " + draw(targets) + b" " + version + b"\r\n"
    return line + draw(hosts) + fields(draw(headers_in))


@st.composite
def bodiless(draw: st.DrawFn) -> bytes:
    return draw(heads()) + draw(st.sampled_from([b"", b"Content-Length: 0\r\n"])) + b"\r\n"


@st.composite
def with_content_length(draw: st.DrawFn) -> bytes:
    body = draw(st.binary(min_size=1, max_size=60))
    name = draw(st.sampled_from([b"Content-Length: ", b"content-length:", b"CONTENT-LENGTH: 0"]))
    return draw(heads()) + name + b"%d\r\n\r\n" % len(body) + body


chunk_sizes: st.SearchStrategy[Callable[[int], bytes]] = st.sampled_from(
    [lambda size: b"%x" % size, lambda size: b"%X" % size, lambda size: b"000%x" % size,
     lambda size: b"%x \t" % size]
)  # fmt: skip
extensions = st.sampled_from([b"", b"", b"", b";x", b";x=y", b';x="y;z"', b";x=y;z"])


@st.composite
def chunked_with(draw: st.DrawFn, trailers: st.SearchStrategy[list[tuple[bytes, bytes]]]) -> bytes:
    name = draw(st.sampled_from([b"Transfer-Encoding: chunked", b"transfer-encoding:Chunked "]))
    message = draw(heads()) + name + b"\r\n\r\n"
    for piece in draw(pieces):
        size = draw(chunk_sizes)(len(piece))
        # h11 reads white space at the end of the line, and not the white space before an extension.
        extension = b"" if size.endswith(b"\t") else draw(extensions)
        message += size + extension + b"\r\n" + piece + b"\r\n"
    return message + draw(st.sampled_from([b"0", b"000"])) + b"\r\n" + fields(draw(trailers)) + b"\r\n"


chunked = chunked_with(st.just([]))
chunked_with_trailers = chunked_with(st.lists(st.tuples(names, values), min_size=1, max_size=3))
closing = heads().map(lambda head: head + b"Connection: close\r\n\r\n")

any_message = st.one_of(bodiless(), with_content_length(), chunked, chunked_with_trailers)

CONVERSATIONS = {
    "without a body": bodiless().map(lambda message: [message]),
    "content-length": with_content_length().map(lambda message: [message]),
    "chunked": chunked.map(lambda message: [message]),
    "chunked with trailers": chunked_with_trailers.map(lambda message: [message]),
    "HTTP/1.0": heads(version=b"HTTP/1.0").map(lambda head: [head + b"\r\n"]),
    "several pipelined": st.lists(any_message, min_size=2, max_size=5),
    "more than are read at once": st.lists(bodiless(), min_size=17, max_size=40),
}
"""Valid ones, by their kind: each is a list of messages, one after the other on a connection."""


def _framed(framing: bytes, body: bytes = b"abc") -> bytes:
    return b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n" + body


def _chunks(chunks: bytes) -> bytes:
    return _framed(b"Transfer-Encoding: chunked", chunks)


REFUSED_BY_BOTH = {
    "two lengths": _framed(b"Content-Length: 3\r\nContent-Length: 4"),
    "a negative length": _framed(b"Content-Length: -3"),
    "a signed length": _framed(b"Content-Length: +3"),
    "a length in hexadecimal": _framed(b"Content-Length: 0x3"),
    "an empty length": _framed(b"Content-Length: "),
    "a space before the colon": _framed(b"Content-Length : 3"),
    "an unknown coding": _framed(b"Transfer-Encoding: gzip", b""),
    "an unknown coding below chunked": _framed(b"Transfer-Encoding: gzip, chunked", b"0\r\n\r\n"),
    "a coding that resembles chunked": _framed(b"Transfer-Encoding: xchunked", b"0\r\n\r\n"),
    "chunked behind a control character": _framed(b"Transfer-Encoding:\x0bchunked", b"0\r\n\r\n"),
    "chunked twice": _framed(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"),
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "a space in a name": _framed(b"x y: z"),
    "an empty name": _framed(b": z"),
    "a NUL in a value": _framed(b"x: y\0z"),
    "a CR in a value": _framed(b"x: y\rz"),
    "a space in the target": b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    "a byte above 127 in the target": b"GET /\xe9 HTTP/1.1\r\nHost: a\r\n\r\n",
    "a negative chunk": _chunks(b"-3\r\nabc\r\n0\r\n\r\n"),
    "a chunk's size with 0x": _chunks(b"0x3\r\nabc\r\n0\r\n\r\n"),
    "a space before a chunk's size": _chunks(b" 3\r\nabc\r\n0\r\n\r\n"),
    "a chunk longer than its size": _chunks(b"3\r\nabcd\r\n0\r\n\r\n"),
    "a chunk shorter than its size": _chunks(b"3\r\nab\r\n0\r\n\r\n"),
    "a space in a trailer's name": _chunks(b"0\r\nx : y\r\n\r\n"),
}
"""Malformed messages, for both readers."""

REFUSED_BY_US_ALONE = {
    "the same length twice": _framed(b"Content-Length: 3\r\nContent-Length: 3"),
    "a list of lengths": _framed(b"Content-Length: 3, 3"),
    "length and coding": _framed(b"Content-Length: 3\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"),
    "a coding in HTTP/1.0": b"GET / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a folded field": _framed(b"x: y\r\n Transfer-Encoding: chunked", b""),
    "a control character in a value": _framed(b"x: y\x01z", b""),
    "an unknown version": b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    "an unknown method": b"FETCH / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a fragment": b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    "lines that end with LF": b"GET / HTTP/1.1\nHost: a\n\n",
    "a line that ends with LF": b"GET / HTTP/1.1\r\nHost: a\nx: y\r\n\r\n",
    "a Host that is no authority": b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    "chunks that end with LF": _chunks(b"3\nabc\n0\n\n"),
    "a length in the trailers": _chunks(b"0\r\nContent-Length: 3\r\n\r\n"),
    "a coding in the trailers": _chunks(b"0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "a folded trailer": _chunks(b"0\r\nx: y\r\n z\r\n\r\n"),
    "a chunk's size of 17 digits": _chunks(b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n"),
}
"""Messages that h11 reads or waits for, and that a proxy must not pass on."""

_pieces_to_insert = st.sampled_from(
    [b"\r", b"\n", b":", b"0", b"g", b";", b"\t", b"\0", b"\x0b", b"\xe9", b"-"]
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A valid conversation with one byte changed, inserted or deleted."""
    data = b"".join(draw(st.lists(any_message, min_size=1, max_size=3)))
    at = draw(st.integers(0, len(data) - 1))
    deleted = draw(st.integers(0, 1))
    inserted = draw(_pieces_to_insert) if not deleted or draw(st.booleans()) else b""
    return data[:at] + inserted + data[at + deleted :]
