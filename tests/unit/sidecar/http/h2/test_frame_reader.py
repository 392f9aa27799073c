from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.http.h2.error_codes import Http2ConnectionError
from sidecar.http.h2.frame_reader import FrameReader
from tests.support import http2_frames as frames

DATA = 0


def _read(reader: FrameReader, data: bytes) -> list[tuple[int, int, int, bytes, int, bool]]:
    reader.feed(data)
    found = []
    while reader.next():
        payload = reader.data[reader.at : reader.end]
        ends = reader.kind == DATA and reader.ends_stream
        found.append((reader.kind, reader.flags, reader.stream_id, payload, reader.size, ends))
    return found


def test_frames_behind_the_preface() -> None:
    reader = FrameReader(preface=True)
    data = frames.PREFACE + frames.raw(4, 0, 0) + frames.raw(9, 4, 0x80000003, b"abc")
    assert _read(reader, data) == [(4, 0, 0, b"", 0, False), (9, 4, 3, b"abc", 3, False)]


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n\r\nSN", b"\x16\x03\x01", b"\n"])
def test_another_beginning_is_refused_at_its_first_wrong_byte(data: bytes) -> None:
    with pytest.raises(Http2ConnectionError, match="preface"):
        _read(FrameReader(preface=True), data)


def test_frames_larger_than_announced_are_refused_by_their_header() -> None:
    with pytest.raises(Http2ConnectionError, match="a frame of 16385 bytes"):
        _read(FrameReader(preface=False), frames.raw(1, 0, 1, b"a" * 16_385)[:9])


def test_data_is_read_in_pieces() -> None:
    reader = FrameReader(preface=False)
    data = frames.data(5, b"abcdef", end=True)
    assert _read(reader, data[:9]) == []
    assert _read(reader, data[9:11]) == [(DATA, 1, 5, b"ab", 6, False)]
    assert _read(reader, b"") == []
    assert _read(reader, data[11:] + frames.data(5, b"")) == [
        (DATA, 1, 5, b"cdef", 0, True),
        (DATA, 0, 5, b"", 0, False),
    ]


def test_padded_data_is_read_whole() -> None:
    reader = FrameReader(preface=False)
    data = frames.data(5, b"abc", padding=2)
    assert _read(reader, data[:-1]) == []
    assert _read(reader, data[-1:]) == [(DATA, 8, 5, b"\x02abc\0\0", 6, False)]


_frames = st.lists(
    st.one_of(
        st.builds(
            lambda kind, payload: frames.raw(kind, 0, 1, payload), st.integers(1, 12), st.binary(max_size=30)
        ),
        st.builds(
            lambda payload, end: frames.data(3, payload, end=end), st.binary(max_size=50), st.booleans()
        ),
        st.builds(lambda payload: frames.data(3, payload, padding=3), st.binary(max_size=50)),
    ),
    max_size=6,
)


@given(sent=_frames, cuts=st.lists(st.integers(0, 400), max_size=8))
def test_where_the_bytes_are_cut_does_not_matter(sent: list[bytes], cuts: list[int]) -> None:
    data = b"".join(sent)
    reader = FrameReader(preface=False)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    found: list[tuple[int, bytes, bool]] = []  # size and payload of whole frames
    for start, end in pairwise(edges):
        for kind, _, _, payload, size, ends in _read(reader, data[start:end]):
            if kind == DATA and size == 0 and payload:  # a later piece
                whole, begun, _ = found.pop()
                found.append((whole, begun + payload, ends))
            else:
                found.append((size, payload, ends))
    expected = [(len(frame) - 9, frame[9:], frame[3] == DATA and bool(frame[4] & 1)) for frame in sent]
    assert found == expected
