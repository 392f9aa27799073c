from __future__ import annotations

import struct

import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.update
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dns.answer import answer
from sidecar.dns.query import parse_query
from sidecar.errors import DnsQueryError
from tests.support.dns_messages import external, names, parsed, query

TABLE = names(external("a.example.com", "10.0.0.1"), external("*.example.org", "10.0.0.2"))
NAME = b"\x01a\x07example\x03com\x00"
A_IN = struct.pack("!HH", 1, 1)


def header(flags: int = 0x0100, *counts: int) -> bytes:
    return struct.pack("!HHHHHH", 7, flags, *(counts or (1, 0, 0, 0)))


def refusal(data: bytes) -> bytes:
    with pytest.raises(DnsQueryError) as raised:
        parse_query(data)
    return raised.value.answer


def test_the_parts_of_a_query() -> None:
    found = parse_query(header() + NAME.upper() + A_IN)
    assert (found.id, found.host, found.rdtype, found.rdclass) == (7, b"a.example.com", 1, 1)
    assert found.question == NAME.upper() + A_IN


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00", header()[:-1], header(0x8100) + NAME + A_IN],
    ids=["empty", "one byte", "short header", "a response"],
)
def test_a_message_that_no_client_sent_gets_no_answer(data: bytes) -> None:
    assert refusal(data) == b""


@pytest.mark.parametrize(
    "data",
    [
        header(0x0100, 0, 0, 0, 0),
        header(0x0100, 2, 0, 0, 0) + NAME + A_IN + NAME + A_IN,
        header(0x0100, 1, 1, 0, 0) + NAME + A_IN,
        header(0x0100, 1, 0, 1, 0) + NAME + A_IN,
        header(0x0100, 1, 0, 0, 3) + NAME + A_IN,
        header() + NAME,
        header() + NAME + A_IN[:3],
        header() + NAME[:-1],
        header() + b"\x3f" + b"a" * 10,
        header() + b"\xc0\x0c" + A_IN,
        header() + b"\x01a\xc0\x0c" + A_IN,
        header() + b"\xc0\x00" + A_IN,
        header() + b"\xc0\xff" + A_IN,
        header() + b"\x41" + b"a" * 65 + b"\x00" + A_IN,
        header() + (b"\x3f" + b"a" * 63) * 4 + b"\x00" + A_IN,
    ],
    ids=[
        "no question",
        "two questions",
        "an answer",
        "an authority",
        "three additional records",
        "no type",
        "half a class",
        "no end of the name",
        "half a label",
        "a pointer to itself",
        "a loop of pointers",
        "a pointer into the header",
        "a pointer past the end",
        "an unknown kind of label",
        "too long a name",
    ],
)  # fmt: skip
def test_a_malformed_query_gets_a_format_error(data: bytes) -> None:
    answer = parsed(refusal(data))
    assert (answer.id, answer.rcode(), answer.question) == (7, dns.rcode.FORMERR, [])
    assert answer.flags & dns.flags.QR


def test_other_operations_are_not_implemented() -> None:
    wire = dns.update.UpdateMessage("example.com").to_wire()
    answer = refusal(wire)
    assert struct.unpack("!HH", answer[:4]) == (
        struct.unpack("!H", wire[:2])[0],
        0x8000 | dns.flags.RA | dns.opcode.to_flags(dns.opcode.UPDATE) | dns.rcode.NOTIMP,
    )


def tries(data: bytes) -> bytes | None:
    """None: it is passed on."""
    try:
        return answer(parse_query(data), TABLE, stream=False, turn=0)
    except DnsQueryError as error:
        return error.answer


@given(st.binary(max_size=600))
def test_any_bytes_are_answered_refused_or_passed_on(data: bytes) -> None:
    response = tries(data)
    assert response is None or len(response) <= 512


@given(
    st.binary(max_size=80),
    st.sampled_from([NAME, b"\x05hello\x07example\x03org\x00", b"\x00", b"\xc0\x0c"]),
    st.integers(0, 0xFFFF),
    st.tuples(*[st.integers(0, 3)] * 4),
)
def test_any_query_is_answered_refused_or_passed_on(
    rest: bytes, name: bytes, flags: int, counts: tuple[int, int, int, int]
) -> None:
    response = tries(header(flags, *counts) + name + A_IN + rest)
    if response:
        parsed(response)


@given(st.integers(12, 60), st.integers(0, 255))
def test_a_query_with_any_changed_byte_is_answered_refused_or_passed_on(place: int, value: int) -> None:
    data = bytearray(query("a.example.com", use_edns=0, payload=1232))
    data[place % len(data)] = value
    response = tries(bytes(data))
    if response:
        parsed(response)
