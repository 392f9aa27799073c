"""HTTP/1.1 messages of all kinds, read by our readers and by h11: what ours accepts, h11 reads the same."""

from __future__ import annotations

import re
from collections import Counter

import h11
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sidecar.http.h1.writer import chunk, last_chunk, whole_request, whole_response
from sidecar.http.headers import Headers
from tests.fuzz.conversations import (
    CONVERSATIONS,
    REFUSED_BY_BOTH,
    REFUSED_BY_US_ALONE,
    any_message,
    closing,
    damaged,
    methods,
    values,
)
from tests.fuzz.reading import read, read_by_h11, read_response
from tests.fuzz.scale import SCALE, examples
from tests.support.http1 import new_request

EXAMPLES = 100
# RFC 9112 7.1.1 allows it (BWS), and h11 refuses it.
SPACE_BEFORE_EXTENSION = re.compile(rb"[ \t];")
cuts_of_reads = st.lists(st.integers(0, 2000), max_size=6)


@pytest.mark.parametrize("kind", CONVERSATIONS)
def test_valid_requests_are_equal_to_h11s_for_all_splits(kind: str) -> None:
    compared: Counter[str] = Counter()

    @examples(EXAMPLES)
    @given(conversation=CONVERSATIONS[kind], cuts=cuts_of_reads)
    def check(conversation: list[bytes], cuts: list[int]) -> None:
        data = b"".join(conversation)
        expected = read_by_h11(data)
        assert expected.error is None
        assert len(expected.messages) == len(conversation)
        assert read(data, []) == expected
        assert read(data, cuts) == expected
        compared["conversations"] += 1
        compared["split"] += bool(cuts)
        compared["with a body"] += any(message.body for message in expected.messages)
        compared["with trailers"] += any(message.trailers for message in expected.messages)

    check()
    assert compared["conversations"] >= SCALE * EXAMPLES
    assert compared["split"] > SCALE * EXAMPLES / 4
    if kind in ("content-length", "chunked with trailers", "several pipelined"):
        assert compared["with a body"] > SCALE * EXAMPLES / 4
    if kind in ("chunked with trailers", "several pipelined"):
        assert compared["with trailers"] > SCALE * EXAMPLES / 10


@examples(EXAMPLES)
@given(before=st.lists(any_message, max_size=2), last=closing, after=any_message, cuts=cuts_of_reads)
def test_nothing_is_read_after_a_request_that_closes(
    before: list[bytes], last: bytes, after: bytes, cuts: list[int]
) -> None:
    data = b"".join([*before, last, after])
    expected = read_by_h11(data)
    assert len(expected.messages) == len(before) + 1
    assert read(data, cuts) == expected


@pytest.mark.parametrize("defect", [*REFUSED_BY_BOTH, *REFUSED_BY_US_ALONE])
def test_a_malformed_request_is_refused_after_the_valid_ones_before_it(defect: str) -> None:
    refused: Counter[str] = Counter()
    malformed = REFUSED_BY_BOTH.get(defect) or REFUSED_BY_US_ALONE[defect]

    @examples(20)
    @given(before=st.lists(any_message, max_size=2), cuts=cuts_of_reads, after=any_message)
    def check(before: list[bytes], cuts: list[int], after: bytes) -> None:
        data = b"".join([*before, malformed, after])
        whole, split, theirs = read(data, []), read(data, cuts), read_by_h11(data)
        assert type(whole.error) is type(split.error)
        assert whole.error is not None
        assert len(whole.messages) == len(before)
        assert whole.messages == split.messages == theirs.messages[: len(before)]
        refused["by us"] += 1
        refused["by h11"] += theirs.error is not None and len(theirs.messages) == len(before)

    check()
    assert refused["by us"] >= 20 * SCALE
    if defect in REFUSED_BY_BOTH:
        assert refused["by h11"] == refused["by us"]


def test_accepted_damaged_requests_are_equal_to_h11s_for_all_splits() -> None:
    ends: Counter[str] = Counter()

    @examples(4 * EXAMPLES)
    @given(data=damaged(), cuts=cuts_of_reads)
    def check(data: bytes, cuts: list[int]) -> None:
        assume(not SPACE_BEFORE_EXTENSION.search(data))
        whole, split, theirs = read(data, []), read(data, cuts), read_by_h11(data)
        assert type(whole.error) is type(split.error)
        if whole.error is None:
            assert whole.messages == split.messages
        assert whole.messages == theirs.messages[: len(whole.messages)], theirs.error
        ends["read"] += bool(whole.messages)
        ends["refused by both"] += None not in (whole.error, theirs.error)

    check()
    assert ends["read"] > SCALE * EXAMPLES
    assert ends["refused by both"] > SCALE * EXAMPLES / 4


pieces_of_chunks = st.sampled_from(
    [b"2", b"0", b";", b"=", b"a", b'"', b'"q"', b"\\", b" ", b"\t", b"\r", b"\n", b"\r\n", b"\xe9", b"\x01",
     b"g", b",", b"ab\r\n", b"2\r\nab\r\n", b"0\r\n\r\n", b"x: y\r\n"]
)  # fmt: skip
pieces_of_extensions = st.sampled_from([b";", b"=", b"a", b'"q"', b" "])
chunk_lines = st.one_of(
    st.lists(pieces_of_chunks, max_size=6), st.lists(pieces_of_extensions, max_size=4)
).map(b"".join)


@examples(600)
@given(line=chunk_lines, cuts=st.lists(st.integers(0, 400), max_size=6))
def test_chunks_are_accepted_or_refused_alike_with_their_head_and_after_it(
    line: bytes, cuts: list[int]
) -> None:
    """llhttp reads chunks that arrive with their head; later ones are read by the sidecar's own decoder."""
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    data = head + b"2" + line + b"\r\nab\r\n0\r\n\r\n"
    whole, split = read(data, []), read(data, [len(head), *cuts])
    assert type(whole.error) is type(split.error)
    if whole.error is None:
        assert whole.messages == split.messages


@examples(200)
@given(data=st.binary(max_size=300), cuts=st.lists(st.integers(0, 300), max_size=3))
def test_random_bytes_raise_nothing(data: bytes, cuts: list[int]) -> None:
    read(data, cuts)
    read_response(data)
    read_response(b"HTTP/1.1 200 OK\r\n" + data)


clean_headers = st.lists(st.tuples(st.sampled_from([b"x-a", b"x-b", b"cookie"]), values), max_size=5)


@examples(100)
@given(method=methods, headers=clean_headers, body=st.binary(max_size=50))
def test_what_we_write_h11_reads(method: bytes, headers: Headers, body: bytes) -> None:
    (message,) = read_by_h11(whole_request(new_request(method, b"/p", headers), body)).messages
    assert (message.method, message.path, message.body) == (method, b"/p", body)
    assert [field for field in message.headers if field[0] != b"content-length"] == headers


@examples(100)
@given(headers=clean_headers, pieces=st.lists(st.binary(min_size=1, max_size=20), max_size=5))
def test_chunks_and_trailers_that_we_write_h11_reads(headers: Headers, pieces: list[bytes]) -> None:
    head = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
    data = head + b"".join(map(chunk, pieces)) + last_chunk(headers)
    (message,) = read_by_h11(data).messages
    assert (message.body, message.trailers) == (b"".join(pieces), headers)


statuses = st.integers(200, 599).filter(lambda status: status not in (204, 304))  # those have no body


@examples(100)
@given(status=statuses, headers=clean_headers, body=st.binary(max_size=50))
def test_responses_that_we_write_h11_and_we_read(status: int, headers: Headers, body: bytes) -> None:
    data = whole_response(status, headers, body)
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    response = client.next_event()
    assert isinstance(response, h11.Response)
    assert response.status_code == status
    assert read_response(data) == (status, [*headers, (b"content-length", b"%d" % len(body))], body)
