from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import DownstreamProtocolError
from sidecar.http.h1.chunks import ChunkDecoder, end_of_head


def decode(*parts: bytes) -> tuple[bytes, bytes]:
    """The body, and what follows its last chunk's line."""
    decoder = ChunkDecoder(DownstreamProtocolError)
    pieces: list[bytes] = []
    rest = b""
    for part in parts:
        rest += part[decoder.feed(part, pieces) if not decoder.ended else 0 :]
    assert decoder.ended
    return b"".join(pieces), rest


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
def test_white_space_that_recipients_take(line: bytes) -> None:
    assert decode(line + b"\r\nab\r\n0" + line[1:].lstrip(b"02") + b"\r\n\r\n") == (b"ab", b"\r\n")


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
def test_lines_that_another_parser_could_read_otherwise(line: bytes, before: bytes) -> None:
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
def test_line_ends_are_where_they_belong(data: bytes) -> None:
    with pytest.raises(DownstreamProtocolError):
        decode(data)


@pytest.mark.parametrize("beginning", [b"g", b" ", b"\r", b"2\r\nabx", b"2\r\nab\r\r"])
def test_what_can_be_no_chunk_is_not_waited_for(beginning: bytes) -> None:
    with pytest.raises(DownstreamProtocolError):
        ChunkDecoder(DownstreamProtocolError).feed(beginning, [])


PADDING = st.sampled_from([b"", b"  ", b" ;a", b"; a = b\t"])


@given(
    st.lists(st.tuples(st.binary(min_size=1, max_size=20), PADDING), max_size=4),
    st.lists(st.integers(0, 200), max_size=8),
)
def test_chunks_are_read_alike_however_they_are_cut(
    chunks: list[tuple[bytes, bytes]], cuts: list[int]
) -> None:
    data = b"".join(b"%x%b\r\n%b\r\n" % (len(piece), padding, piece) for piece, padding in chunks)
    data += b"0\r\nnext"
    bounds = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    parts = [data[start:end] for start, end in itertools.pairwise(bounds)]
    assert decode(*parts) == (b"".join(piece for piece, _ in chunks), b"next")


def test_end_of_a_head() -> None:
    data = b"\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\nGET"
    assert data[end_of_head(data, 0) :] == b"GET"
    assert end_of_head(b"\r\n\r\nGET", 0, begun=True) == 4
    with pytest.raises(ValueError, match="not found"):
        end_of_head(data, len(data) - 3)
