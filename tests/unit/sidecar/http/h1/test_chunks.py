from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import DownstreamProtocolError, HeadersTooLargeError
from sidecar.http.h1.chunks import ChunkDecoder
from sidecar.http.h1.rules import ReaderRules
from sidecar.http.headers import Headers

RULES = ReaderRules(
    max_headers_bytes=1000,
    max_headers_count=10,
    malformed=DownstreamProtocolError,
    too_large=HeadersTooLargeError,
)


def decode(*parts: bytes) -> tuple[bytes, Headers, bytes]:
    """The body, its trailers, and the bytes behind it."""
    decoder = ChunkDecoder(RULES)
    pieces: list[bytes] = []
    rest = b""
    for part in parts:
        rest += part[decoder.feed(part, 0, pieces) if not decoder.ended else 0 :]
    assert decoder.ended
    return b"".join(pieces), decoder.trailers, rest


ACCEPTED = [
    b"2",
    b"002",
    b"2  ",
    b"2\t",
    b"2;a=b",
    b"2 ; a=b",
    b"2; a = b",
    b"2\t;\ta\t=\tb\t",
    b"2;a=b ",
    b"2;a;b",
    b"2;a=",
    b'2;a="b c" ; d',
    b'2;a="\\"" ',
    b"2;",
    b"2 ; ",
    b"2;;a",
    b"2;=b",
    b'2;a=b"c"',
]


@pytest.mark.parametrize("line", ACCEPTED)
def test_white_space_in_a_chunk_line_is_accepted(line: bytes) -> None:
    data = line + b"\r\nab\r\n0" + line[1:].lstrip(b"02") + b"\r\n\r\nnext"
    assert decode(data) == (b"ab", [], b"next")


REFUSED = [
    b"",
    b" 2",
    b"\t2",
    b"2 2",
    b"2 x",
    b"2\x0b",
    b"2\x0c",
    b"2\0",
    b"2\xa0",
    b"2\r",
    b"2 \r ",
    b"+2",
    b"-2",
    b"0x2",
    b"2_0",
    b"2;a b",
    b"2;a\rb",
    b"2;\x01",
    b"2;a\0",
    b"2;\xe9",
    b'2;a="b',
    b'2;a="b"c',
    b'2;"b"',
    b"8000000000000000",
    b"FFFFFFFFFFFFFFFFF",
]


@pytest.mark.parametrize("line", REFUSED)
@pytest.mark.parametrize("before", [b"", b"1\r\nx\r\n"])
def test_a_line_that_another_parser_could_read_differently_is_refused(line: bytes, before: bytes) -> None:
    with pytest.raises(DownstreamProtocolError):
        decode(before + line + b"\r\nab\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    "data",
    [
        b"2\n",
        b"2 \n",
        b"2\r\nabc",
        b"2\r\nab\n",
        b"2\r\nab \r\n",
        b"2\r\nab\rx",
        b"2\r\n0\r\n\r\n",
        b"2\r\nab0",
    ],
)
def test_a_line_end_in_the_wrong_place_is_refused(data: bytes) -> None:
    with pytest.raises(DownstreamProtocolError):
        decode(data)


@pytest.mark.parametrize("beginning", [b"g", b" ", b"\r", b"2\r\nabx", b"2\r\nab\r\r"])
def test_an_invalid_beginning_is_refused_before_its_line_ends(beginning: bytes) -> None:
    with pytest.raises(DownstreamProtocolError):
        ChunkDecoder(RULES).feed(beginning, 0, [])


PADDING = st.sampled_from([b"", b"  ", b" ;a", b"; a = b\t"])


TRAILERS = st.lists(st.tuples(st.sampled_from([b"x-a", b"x-b"]), st.sampled_from([b"", b"1", b"a b"])))


@given(
    st.lists(st.tuples(st.binary(min_size=1, max_size=20), PADDING), max_size=4),
    TRAILERS.filter(lambda trailers: len(trailers) <= 10),
    st.lists(st.integers(0, 200), max_size=8),
)
def test_any_split_gives_the_same_body_and_trailers(
    chunks: list[tuple[bytes, bytes]], trailers: Headers, cuts: list[int]
) -> None:
    data = b"".join(b"%x%b\r\n%b\r\n" % (len(piece), padding, piece) for piece, padding in chunks)
    data += b"0\r\n" + b"".join(b"%b: %b \r\n" % field for field in trailers) + b"\r\nnext"
    bounds = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    parts = [data[start:end] for start, end in itertools.pairwise(bounds)]
    assert decode(*parts) == (b"".join(piece for piece, _ in chunks), trailers, b"next")


def test_trailer_names_are_lower_case_and_values_without_white_space_around_them() -> None:
    assert decode(b"0\r\nX-Sum: \ta\tb\xff \t\r\nEmpty:\r\n\r\n") == (
        b"",
        [(b"x-sum", b"a\tb\xff"), (b"empty", b"")],
        b"",
    )


@pytest.mark.parametrize(
    "trailer",
    [
        b"x : y\r\n",
        b": y\r\n",
        b"x\r\n",
        b"x: y\r\n z\r\n",
        b" x: y\r\n",
        b"x(y): z\r\n",
        b"x: a\0b\r\n",
        b"x: a\x0bb\r\n",
        b"x: a\rb\r\n",
        b"x: a\nb: c\r\n",
        b"x: a\x7f\r\n",
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
    ],
)
def test_an_invalid_trailer_is_refused(trailer: bytes) -> None:
    with pytest.raises(DownstreamProtocolError):
        decode(b"0\r\n" + trailer + b"\r\n")


def test_trailers_are_limited_in_number_as_they_arrive() -> None:
    with pytest.raises(HeadersTooLargeError):
        ChunkDecoder(RULES).feed(b"0\r\n" + b"x: y\r\n" * 11, 0, [])


@pytest.mark.parametrize("begin", [b"0\r\nx: ", b"2\r\nab\r\n5;x=", b"0\r\n" + b"x: " + b"y" * 200 + b"\r\n"])
def test_lines_are_limited_in_bytes_as_they_arrive(begin: bytes) -> None:
    decoder = ChunkDecoder(RULES)
    decoder.feed(begin, 0, [])
    decoder.feed(b"y" * 700, 0, [])
    with pytest.raises(HeadersTooLargeError):
        decoder.feed(b"y" * 400, 0, [])


def test_the_limit_of_extensions_restarts_with_each_byte_of_the_body() -> None:
    assert decode(*[b"1;" + b"x" * 700 + b"\r\na\r\n"] * 5, b"0\r\n\r\n") == (b"aaaaa", [], b"")
