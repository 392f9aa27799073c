"""Whatever a client sends: the server's codec does not raise, its memory is bounded, and what it accepts is
safe."""

from __future__ import annotations

import gc
import random
import re
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.http2 import Http2Options
from sidecar.http.h2.connection import Http2Connection
from sidecar.http.h2.events import ConnectionFailed, DataReceived, HeadReceived, Http2Event, TrailersReceived
from tests.fuzz.http2_corpus import CORPUS
from tests.fuzz.scale import examples
from tests.support import http2_frames as frames

SAFE_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
SAFE_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
SAFE_TARGET = re.compile(rb"[\x21-\x7e\x80-\xff]*")
SMALL = Http2Options(
    max_headers_bytes=2000,
    max_headers_count=30,
    max_concurrent_streams=10,
    initial_stream_window_size=70_000,
    initial_connection_window_size=100_000,
)


def _serve(sent: bytes, cuts: list[int], options: Http2Options = SMALL) -> Http2Connection:
    """A server that answers each request, and reads each body."""
    codec = Http2Connection(options, client=False)
    codec.start()
    edges = [0, *sorted(cut % (len(sent) + 1) for cut in cuts), len(sent)]
    failed = False
    for start, end in pairwise(edges):
        events = codec.receive(sent[start:end])
        assert not (failed and events)
        for event in events:
            assert not failed
            failed = isinstance(event, ConnectionFailed)
            _answer(codec, event)
        frames.parse(codec.data_to_send())
    return codec


def _answer(codec: Http2Connection, event: Http2Event) -> None:
    if isinstance(event, HeadReceived):
        _check_fields(event.headers)
        assert SAFE_NAME.fullmatch(event.method.lower())
        for text in (event.authority, event.path, event.scheme, event.protocol):
            assert SAFE_TARGET.fullmatch(text)
        codec.send_head(event.stream, [(b":status", b"200"), (b"x", b"y")], False)
        codec.send_data(event.stream, b"a" * 1000, True)
    elif isinstance(event, DataReceived):
        codec.consumed(event.stream, len(event.data))
    elif isinstance(event, TrailersReceived):
        _check_fields(event.trailers)


def _check_fields(fields: list[tuple[bytes, bytes]]) -> None:
    for name, value in fields:
        assert SAFE_NAME.fullmatch(name)
        assert name not in (b"connection", b"transfer-encoding", b"upgrade", b"host")
        assert SAFE_VALUE.fullmatch(value)


_cuts = st.lists(st.integers(0, 1 << 16), max_size=4)


@examples(100)
@given(data=st.binary(max_size=300), cuts=_cuts)
def test_random_bytes(data: bytes, cuts: list[int]) -> None:
    _serve(frames.PREFACE + frames.settings() + data, cuts)
    _serve(data, cuts)


_frames = st.builds(
    frames.raw, st.integers(0, 10), st.integers(0, 255), st.integers(0, 9), st.binary(max_size=40)
)


@examples(100)
@given(sent=st.lists(_frames, max_size=12), cuts=_cuts)
def test_random_frames(sent: list[bytes], cuts: list[int]) -> None:
    _serve(frames.PREFACE + frames.settings() + b"".join(sent), cuts)


@examples(300)
@given(
    name=st.sampled_from(sorted(CORPUS)),
    changes=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=5),
    cuts=_cuts,
)
def test_changed_bytes_of_the_corpus(name: str, changes: list[tuple[int, int]], cuts: list[int]) -> None:
    data = bytearray(CORPUS[name])
    for at, byte in changes:
        data[at % len(data)] = byte
    _serve(frames.PREFACE + bytes(data), cuts)


@pytest.mark.parametrize("name", CORPUS)
def test_the_corpus(name: str) -> None:
    for cuts in ([], [1], list(range(0, len(CORPUS[name]), 7))[:2000]):
        _serve(frames.PREFACE + CORPUS[name], cuts)


def test_memory_is_bounded_and_freed() -> None:
    """Many connections, one after the other, of random frames of the corpus."""
    chance = random.Random(1)
    pieces = [CORPUS[name] for name in sorted(CORPUS)]

    def attack(count: int) -> None:
        for _ in range(count):
            data = bytearray(b"".join(chance.choices(pieces, k=3)))
            for _ in range(chance.randrange(20)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            _serve(frames.PREFACE + bytes(data), [chance.randrange(1 << 16)])

    attack(50)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    attack(100)
    gc.collect()
    after, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 800_000  # the cache of valid authorities has at most 1024 entries
    assert peak - before < 2_000_000
