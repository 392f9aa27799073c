"""Whatever a client sends: the server's codec does not raise, its memory is bounded, and what it accepts is
safe."""

from __future__ import annotations

import gc
import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.http2_corpus import CORPUS
from tests.fuzz.http2_readings import differences, read_by_h2, read_by_us
from tests.fuzz.http2_server import SMALL, serve
from tests.fuzz.scale import examples
from tests.support import http2_frames as frames

_cuts = st.lists(st.integers(0, 1 << 16), max_size=4)


@examples(100)
@given(data=st.binary(max_size=300), cuts=_cuts)
def test_random_bytes(data: bytes, cuts: list[int]) -> None:
    serve(frames.PREFACE + frames.settings() + data, cuts)
    serve(data, cuts)


_frames = st.builds(
    frames.raw, st.integers(0, 10), st.integers(0, 255), st.integers(0, 9), st.binary(max_size=40)
)


@examples(100)
@given(sent=st.lists(_frames, max_size=12), cuts=_cuts)
def test_random_frames(sent: list[bytes], cuts: list[int]) -> None:
    serve(frames.PREFACE + frames.settings() + b"".join(sent), cuts)


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
    serve(frames.PREFACE + bytes(data), cuts)


@pytest.mark.parametrize("name", CORPUS)
def test_the_corpus(name: str) -> None:
    for cuts in ([], [1], list(range(0, len(CORPUS[name]), 7))[:2000]):
        serve(frames.PREFACE + CORPUS[name], cuts)


@pytest.mark.parametrize("name", CORPUS)
def test_the_corpus_is_read_as_by_h2(name: str) -> None:
    sent = [frames.PREFACE, CORPUS[name]]
    ours, theirs = read_by_us(sent, SMALL), read_by_h2(sent)
    assert differences(ours, theirs) == []
    if name == "a conversation":
        whole = [number for number, reading in ours.streams.items() if reading.ended and not reading.reset]
        assert whole == [1, 3, 5]
        assert all(theirs.streams[number].ended for number in whole)


def test_memory_is_bounded_and_freed() -> None:
    """Many connections, one after the other, of random frames of the corpus."""
    chance = random.Random(1)
    pieces = [CORPUS[name] for name in sorted(CORPUS)]

    def attack(count: int) -> None:
        for _ in range(count):
            data = bytearray(b"".join(chance.choices(pieces, k=3)))
            for _ in range(chance.randrange(20)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            serve(frames.PREFACE + bytes(data), [chance.randrange(1 << 16)])

    attack(50)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    attack(100)
    gc.collect()
    after, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 800_000  # the cache of valid authorities has at most 1024 entries
    assert peak - before < 2_000_000
