from __future__ import annotations

from hpack import Decoder, NeverIndexedHeaderTuple
from hypothesis import given
from hypothesis import strategies as st

from sidecar.http.h2.hpack.encoder import HpackEncoder, encode_integer

_names = st.sampled_from([b":path", b"accept", b"x-a", b"x-b", b"authorization", b"age", b"z" * 130])
_values = st.one_of(st.binary(max_size=6), st.sampled_from([b"", b"/", b"a" * 300, b"b" * 900, b"c" * 5000]))
_lists = st.lists(st.tuples(_names, _values), max_size=8)


def _read(decoder: Decoder, block: bytes) -> list[tuple[bytes, bytes]]:
    return [(bytes(name), bytes(value)) for name, value in decoder.decode(block, raw=True)]


@given(messages=st.lists(st.tuples(_lists, st.lists(st.integers(0, 5000), max_size=2)), max_size=8))
def test_hpack_reads_what_is_encoded(messages: list[tuple[list[tuple[bytes, bytes]], list[int]]]) -> None:
    encoder = HpackEncoder()
    decoder = Decoder(max_header_list_size=1 << 20)
    decoder.max_allowed_table_size = 5000
    for fields, table_sizes in messages:
        for _ in range(3):  # literal, then added to the table, then indexed
            assert _read(decoder, encoder.encode(fields)) == fields
        for size in table_sizes:
            encoder.resize(size)


def test_a_field_that_is_seen_again_is_indexed() -> None:
    encoder = HpackEncoder()
    field = (b"x-name", b"value")
    sizes = [len(encoder.encode([field])) for _ in range(3)]
    assert sizes == [14, 14, 1]


def test_fields_that_differ_in_each_message_do_not_evict_others() -> None:
    encoder = HpackEncoder()
    field = (b"x-name", b"value")
    encoder.encode([field])
    encoder.encode([field])
    for number in range(1000):
        encoder.encode([(b"x-request-id", b"%d" % number)])
    assert len(encoder.encode([field])) == 1


def test_fields_of_the_static_table() -> None:
    assert (
        HpackEncoder().encode([(b":method", b"GET"), (b":status", b"204"), (b"age", b"")]) == b"\x82\x89\x95"
    )


def test_secrets_are_never_indexed() -> None:
    encoder = HpackEncoder()
    fields = [(b"authorization", b"Basic abc"), (b"proxy-authorization", b"x" * 99), (b"cookie", b"a=1")]
    for _ in range(3):
        block = encoder.encode(fields)
        assert all(isinstance(field, NeverIndexedHeaderTuple) for field in Decoder().decode(block, raw=True))


def test_cookies_are_split_into_crumbs_which_are_indexed() -> None:
    encoder = HpackEncoder()
    decoder = Decoder()
    crumbs = [b"session=" + b"a" * 30, b"theme=" + b"b" * 30, b"c=d"]
    for _ in range(3):
        block = encoder.encode([(b"cookie", b"; ".join(crumbs)), (b"x", b"y")])
        assert _read(decoder, block) == [*[(b"cookie", crumb) for crumb in crumbs], (b"x", b"y")]
    assert len(block) < 10


def test_fields_that_http2_does_not_have_are_left_out() -> None:
    names = [b"connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"host", b"http2-settings"]
    for value in (b"", b"a"):
        assert HpackEncoder().encode([(name, value) for name in names]) == b""


def test_a_smaller_table_is_announced_once_with_its_smallest_size() -> None:
    encoder = HpackEncoder()
    encoder.resize(0)
    encoder.resize(100)
    assert encoder.encode([]) == b"\x20" + encode_integer(0x20, 0x1F, 100)
    assert encoder.encode([]) == b""


def test_integers_of_the_standard() -> None:
    assert encode_integer(0, 0x1F, 10) == b"\x0a"  # RFC 7541 C.1
    assert encode_integer(0, 0x1F, 1337) == b"\x1f\x9a\x0a"
    assert encode_integer(0, 0xFF, 42) == b"\x2a"
