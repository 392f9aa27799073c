from __future__ import annotations

import pytest
from hpack import Encoder, NeverIndexedHeaderTuple
from hypothesis import given
from hypothesis import strategies as st

from sidecar.http.h2.hpack.block import FINE, MALFORMED, TOO_LARGE, read_block
from sidecar.http.h2.hpack.dynamic_table import DynamicTable, HpackError


class Reader:
    def __init__(self, limit: int = 4096) -> None:
        self.table = DynamicTable(limit)

    def all(self, block: bytes | str) -> list[tuple[bytes, bytes]]:
        """The fields of a list whose pseudo-headers come first."""
        block = bytes.fromhex(block) if isinstance(block, str) else block
        fields, special, size, _, _ = read_block(block, self.table, 100_000, 1000)
        assert size == sum(len(name) + len(value) for name, value in special + fields)
        return special + fields


# RFC 7541 Appendix C.

_REQUEST = [
    (b":method", b"GET"),
    (b":scheme", b"http"),
    (b":path", b"/"),
    (b":authority", b"www.example.com"),
]
_SECURE = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":path", b"/index.html"),
    (b":authority", b"www.example.com"),
]


def _response(status: bytes, seconds: bytes) -> list[tuple[bytes, bytes]]:
    return [
        (b":status", status),
        (b"cache-control", b"private"),
        (b"date", b"Mon, 21 Oct 2013 20:13:" + seconds + b" GMT"),
        (b"location", b"https://www.example.com"),
    ]


_LAST = [
    *_response(b"200", b"22"),
    (b"content-encoding", b"gzip"),
    (b"set-cookie", b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"),
]


@pytest.mark.parametrize(
    ("block", "field"),
    [
        ("400a637573746f6d2d6b65790d637573746f6d2d686561646572", (b"custom-key", b"custom-header")),
        ("040c2f73616d706c652f70617468", (b":path", b"/sample/path")),
        ("100870617373776f726406736563726574", (b"password", b"secret")),
        ("82", (b":method", b"GET")),
    ],
)
def test_single_fields_of_the_standard(block: str, field: tuple[bytes, bytes]) -> None:
    assert Reader().all(block) == [field]


@pytest.mark.parametrize(
    "blocks",
    [
        (
            "828684410f7777772e6578616d706c652e636f6d",
            "828684be58086e6f2d6361636865",
            "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        ),
        (
            "828684418cf1e3c2e5f23a6ba0ab90f4ff",
            "828684be5886a8eb10649cbf",
            "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        ),
    ],
    ids=["plain", "Huffman"],
)
def test_requests_of_the_standard(blocks: tuple[str, str, str]) -> None:
    reader = Reader()
    assert reader.all(blocks[0]) == _REQUEST
    assert reader.all(blocks[1]) == [*_REQUEST, (b"cache-control", b"no-cache")]
    assert reader.all(blocks[2]) == [*_SECURE, (b"custom-key", b"custom-value")]
    assert reader.table.size == 164
    assert reader.table.entries == [
        (b":authority", b"www.example.com"),
        (b"cache-control", b"no-cache"),
        (b"custom-key", b"custom-value"),
    ]


def test_responses_of_the_standard_with_evictions() -> None:
    reader = Reader(256)
    reader.table.resize(256)
    assert reader.all(
        "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82"
        "ae43d3"
    ) == _response(b"302", b"21")
    assert reader.table.size == 222
    assert reader.all("4883640effc1c0bf") == _response(b"307", b"21")
    assert (
        reader.all(
            "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5"
            "af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007"
        )
        == _LAST
    )
    assert reader.table.size == 215


# Against hpack.

_names = st.sampled_from([b":path", b"accept", b"x-a", b"x-b", b"cookie", b"age", b"!"])
_values = st.one_of(st.binary(max_size=20), st.sampled_from([b"", b"/", b"a" * 300, b"\xff" * 90]))
_lists = st.lists(st.tuples(_names, _values, st.booleans()), max_size=8)


@given(messages=st.lists(st.tuples(_lists, st.booleans(), st.integers(0, 4096)), max_size=6))
def test_what_hpack_encodes(messages: list[tuple[list[tuple[bytes, bytes, bool]], bool, int]]) -> None:
    reader = Reader()
    encoder = Encoder()
    for fields, huffman, table_size in messages:
        headers = [
            NeverIndexedHeaderTuple(name, value) if secret else (name, value)
            for name, value, secret in fields
        ]
        got = reader.all(encoder.encode(headers, huffman=huffman))
        assert sorted(got) == sorted((name, value) for name, value, _ in fields)
        encoder.header_table_size = table_size
    assert reader.table.size == sum(len(name) + len(value) + 32 for name, value in reader.table.entries)


@given(block=st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(block: bytes) -> None:
    table = DynamicTable(200)
    try:
        fields, special, size, _, _ = read_block(block, table, 1000, 20)
    except HpackError:
        return
    assert len(fields) + len(special) <= 20
    assert size >= 0
    assert table.size <= 4096


# Faults.


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        ("80", "index 0"),
        ("be", "index 62 of a table of 61 entries"),
        ("ff8001", "index 255 of a table of 61 entries"),
        ("7e0161", "index 62 of a table of 61 entries"),
        ("ff", "ends within an integer"),
        ("ff80", "ends within an integer"),
        ("ffffffffffff01", "an integer of too many bytes"),
        ("00", "ends before a string"),
        ("0001", "ends within a string"),
        ("000161", "ends before a string"),
        ("007fffffffff0f61", "ends within a string"),
        ("0081ff0161", "an invalid Huffman code"),
        ("3fe21f", "a dynamic table of 4097 bytes, more than 4096"),
        ("8220", "the dynamic table is resized behind a field"),
    ],
)
def test_invalid_blocks(block: str, reason: str) -> None:
    with pytest.raises(HpackError, match=reason):
        read_block(bytes.fromhex(block), DynamicTable(4096), 1000, 100)


def test_a_smaller_table_must_be_announced_once_it_is_acknowledged() -> None:
    table = DynamicTable(100)
    read_block(b"\x82", table, 1000, 10)
    table.limit = 100
    with pytest.raises(HpackError, match="not resized to 100 bytes"):
        read_block(b"\x82", table, 1000, 10)
    assert read_block(bytes.fromhex("3f4582"), table, 1000, 10)[1] == [(b":method", b"GET")]


# Verdicts.

BOMB = b"\x40\x01a\x7f\xa1\x1e" + b"b" * 4000 + b"\xbe" * 10_000


def test_a_bomb_is_read_to_its_end_and_not_stored() -> None:
    table = DynamicTable(4096)
    fields, special, size, verdict, _ = read_block(BOMB, table, 60 * 1024, 100)
    assert (fields, special, verdict) == ([], [], TOO_LARGE)
    assert size == 4001 * 10_001
    assert table.entries == [(b"a", b"b" * 4000)]


def test_too_many_fields() -> None:
    assert read_block(b"\x90" * 5, DynamicTable(4096), 1000, 5)[3] == FINE
    assert read_block(b"\x90" * 6, DynamicTable(4096), 1000, 5) == ([], [], 6 * 15 + 6 * 13, TOO_LARGE, b"")


def test_the_size_of_a_list_is_that_of_its_names_and_values() -> None:
    block = b"\x00\x03abc\x04defg"
    assert read_block(block, DynamicTable(4096), 7, 5)[2:4] == (7, FINE)
    assert read_block(block, DynamicTable(4096), 6, 5)[2:4] == (7, TOO_LARGE)


@pytest.mark.parametrize(
    "field",
    [
        (b"", b"a"),
        (b"A", b"a"),
        (b"a b", b"a"),
        (b"a:", b"a"),
        (b":unknown", b"a"),
        (b"a\n", b"a"),
        (b"\xe4", b"a"),
        (b"a", b"b\r\nc: d"),
        (b"a", b"\0"),
        (b"a", b"\x7f"),
        (b"cookie", b"\n"),
        (b":path", b"/\r\n"),
    ],
)
def test_invalid_fields_make_the_list_malformed(field: tuple[bytes, bytes]) -> None:
    block = Encoder().encode([(b":method", b"GET"), field, (b"x", b"y")])
    assert read_block(block, DynamicTable(4096), 1000, 100)[3:] == (MALFORMED, field[0])


def test_an_invalid_field_in_the_dynamic_table_is_found_each_time() -> None:
    table = DynamicTable(4096)
    assert read_block(b"\x40\x01A\x01b", table, 1000, 100)[3] == MALFORMED
    assert read_block(b"\xbe", table, 1000, 100)[3:] == (MALFORMED, b"A")


def test_a_pseudo_header_behind_a_field_makes_the_list_malformed() -> None:
    block = Encoder().encode([(b"accept", b"a"), (b":method", b"GET")])
    assert read_block(block, DynamicTable(4096), 1000, 100)[3:] == (MALFORMED, b":method")


def test_fields_with_a_meaning_for_the_codec_are_apart() -> None:
    special = [
        (b":method", b"GET"),
        (b"cookie", b"a"),
        (b"host", b"a"),
        (b"te", b"trailers"),
        (b"content-length", b"1"),
        (b"connection", b"close"),
        (b"expect", b"100-continue"),
    ]
    ordinary = [(b"accept", b"a"), (b"x-a", b" b\t\xff")]
    result = read_block(Encoder().encode(special[:1] + ordinary + special[1:]), DynamicTable(4096), 1000, 100)
    assert result[:2] == (ordinary, special)
    assert result[3:] == (FINE, b"")
