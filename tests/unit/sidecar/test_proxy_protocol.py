"""The headers of the specification, and what does not belong in one."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.endpoint import SocketAddress
from sidecar.proxy_protocol import (
    ProxyHeader,
    ProxyProtocolError,
    combined_tlvs,
    may_begin_header,
    read_header,
    write_v1,
    write_v2,
)

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
V4 = bytes([1, 2, 3, 4, 5, 6, 7, 8]) + struct.pack("!HH", 1000, 443)
V6 = b"\x20\x01" + b"\0" * 13 + b"\x01" + b"\x20\x01" + b"\0" * 13 + b"\x02" + struct.pack("!HH", 1000, 443)


def binary(body: bytes, command: int = 0x21, family: int = 0x11) -> bytes:
    return SIGNATURE + bytes([command, family]) + struct.pack("!H", len(body)) + body


def parts(header: ProxyHeader | int) -> tuple[object, ...]:
    assert isinstance(header, ProxyHeader)
    return header.version, str(header.source), str(header.destination), header.tlvs, header.size


@pytest.mark.parametrize(
    ("line", "source", "destination"),
    [
        (b"PROXY TCP4 255.255.255.254 1.2.3.4 65535 65535", "255.255.255.254:65535", "1.2.3.4:65535"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 0 00080", "1.2.3.4:0", "5.6.7.8:80"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 ", "1.2.3.4:1", "5.6.7.8:2"),
        (b"PROXY TCP6 ::1 2001:DB8::2 1 2", "[::1]:1", "[2001:db8::2]:2"),
        (b"PROXY TCP6 ::ffff:1.2.3.4 ::1 1 2", "[::ffff:1.2.3.4]:1", "[::1]:2"),
        (b"PROXY UNKNOWN", "None", "None"),
        (b"PROXY UNKNOWN " + b"f" * 92, "None", "None"),
    ],
)
def test_lines(line: bytes, source: str, destination: str) -> None:
    size = len(line) + 2
    assert parts(read_header(line + b"\r\nPROXY")) == (1, source, destination, (), size)


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1",
        b"PROXY TCP4  1.2.3.4 5.6.7.8 1 2",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3",
        b"PROXY\tTCP4 1.2.3.4 5.6.7.8 1 2",
        b"PROXY tcp4 1.2.3.4 5.6.7.8 1 2",
        b"PROXYS TCP4 1.2.3.4 5.6.7.8 1 2",
        b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2",
        b"PROXY TCP4 ::1 ::2 1 2",
        b"PROXY TCP6 1.2.3.4 5.6.7.8 1 2",
        b"PROXY TCP6 fe80::1%lo ::2 1 2",
        b"PROXY TCP4 1.2.3 5.6.7.8 1 2",
        b"PROXY TCP4 1.2.3.\xff 5.6.7.8 1 2",
        b"PROXY TCP4 1.2.3.\0 5.6.7.8 1 2",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 65536 2",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 -1 2",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 +1 2",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 000080 2",
        b"PROXY TCP4 0.0.0.0 5.6.7.8 1 2",
        b"PROXY TCP4 224.0.0.1 5.6.7.8 1 2",
        b"PROXY TCP4 1.2.3.4 255.255.255.255 1 2",
        b"PROXY TCP6 ff02::1 ::2 1 2",
        b"PROXY ",
    ],
)
def test_lines_that_are_refused(line: bytes) -> None:
    with pytest.raises(ProxyProtocolError) as caught:
        read_header(line + b"\r\n")
    assert caught.value.version == 1


@pytest.mark.parametrize(
    ("header", "source", "destination", "tlvs"),
    [
        (binary(V4), "1.2.3.4:1000", "5.6.7.8:443", ()),
        (binary(V4, family=0x12), "1.2.3.4:1000", "5.6.7.8:443", ()),
        (binary(V6, family=0x21), "[2001::1]:1000", "[2001::2]:443", ()),
        (binary(V4 + b"\xea\0\2ab\x04\0\0"), "1.2.3.4:1000", "5.6.7.8:443", ((0xEA, b"ab"), (4, b""))),
        (binary(b"", command=0x20, family=0), "None", "None", ()),
        (binary(V4 + b"junk", command=0x20), "None", "None", ()),
    ],
)
def test_binary_headers(
    header: bytes, source: str, destination: str, tlvs: tuple[tuple[int, bytes], ...]
) -> None:
    assert parts(read_header(header + b"data")) == (2, source, destination, tlvs, len(header))


@pytest.mark.parametrize(
    "header",
    [
        binary(V4, command=0x11),
        binary(V4, command=0x22),
        binary(V4, family=0x00),
        binary(b"\0" * 216, family=0x31),
        binary(V4, family=0x13),
        binary(V4[:-1]),
        binary(V4, family=0x21),
        binary(b"\xe0" + V4[1:]),
        binary(V4 + b"\xea\0"),
        binary(V4 + b"\xea\0\3ab"),
    ],
)
def test_binary_headers_that_are_refused(header: bytes) -> None:
    with pytest.raises(ProxyProtocolError) as caught:
        read_header(header)
    assert caught.value.version == 2


def test_other_data_is_refused_after_the_bytes_that_a_header_has_at_least() -> None:
    assert read_header(b"GET / HTTP/1.1\r") == 16
    with pytest.raises(ProxyProtocolError) as caught:
        read_header(b"GET / HTTP/1.1\n\n")
    assert caught.value.version == 0


@pytest.mark.parametrize("header", [b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", binary(V4 + b"\xea\0\2ab")])
def test_a_header_may_arrive_in_any_pieces_and_asks_for_no_more_than_it_has(header: bytes) -> None:
    for size in range(len(header)):
        needed = read_header(header[:size])
        assert isinstance(needed, int)
        assert size < needed <= len(header)
        assert may_begin_header(header[:size], {1, 2})
    assert isinstance(read_header(header), ProxyHeader)


def test_a_line_that_does_not_end_is_refused() -> None:
    assert read_header(b"PROXY " + b"x" * 101) == 108
    for line in (b"PROXY " + b"x" * 102, b"PROXY UNKNOWN " + b"f" * 93 + b"\r\n"):
        with pytest.raises(ProxyProtocolError, match="longer than 108 bytes"):
            read_header(line)


@pytest.mark.parametrize(
    ("data", "versions", "expected"),
    [
        (b"", {1, 2}, True),
        (b"PRO", {1, 2}, True),
        (b"PRO", {2}, False),
        (b"PRI * HTTP/2.0", {1, 2}, False),
        (SIGNATURE[:3], {1}, False),
        (SIGNATURE[:3], {2}, True),
        (SIGNATURE + b"x", {2}, True),
    ],
)
def test_the_first_bytes_tell_whether_a_header_may_follow(
    data: bytes, versions: set[int], expected: bool
) -> None:
    assert may_begin_header(data, versions) is expected


addresses = st.one_of(
    st.ip_addresses(v=4).filter(lambda ip: not ip.is_multicast and 0 < int(ip) < 2**32 - 1),
    st.ip_addresses(v=6).filter(lambda ip: not ip.is_multicast and not ip.is_unspecified),
)
ports = st.integers(0, 65535)
tlv_lists = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=20)), max_size=4)


@given(addresses, addresses, ports, ports, tlv_lists)
def test_a_written_header_is_read_as_it_was(source, destination, source_port, destination_port, tlvs) -> None:
    pair = SocketAddress(str(source), source_port), SocketAddress(str(destination), destination_port)
    for written, expected in ((write_v1(*pair), ()), (write_v2(*pair, tlvs), tuple(tlvs))):
        header = read_header(written)
        assert isinstance(header, ProxyHeader)
        assert header.size == len(written)
        if source.version != destination.version:
            assert (header.source, header.destination, header.tlvs) == (None, None, ())
            continue
        found = [(host.host, host.port) for host in (header.source, header.destination) if host is not None]
        assert [(type(source)(host), port) for host, port in found] == [
            (source, source_port),
            (destination, destination_port),
        ]
        assert header.tlvs == expected


@given(st.binary(max_size=300))
def test_no_data_is_more_than_an_error(data: bytes) -> None:
    for beginning in (b"", b"PROXY ", SIGNATURE, SIGNATURE + b"\x21\x11\0\x20"):
        with suppress(ProxyProtocolError):
            found = read_header(beginning + data)
            assert isinstance(found, ProxyHeader) or found <= 16 + 65535


def test_tlvs_that_do_not_fit_are_left_out() -> None:
    pair = SocketAddress("1.2.3.4", 1), SocketAddress("5.6.7.8", 2)
    header = read_header(write_v2(*pair, [(1, b"a"), (2, b"b" * 65530), (3, b"c")]))
    assert isinstance(header, ProxyHeader)
    assert header.tlvs == ((1, b"a"),)


def test_added_tlvs_replace_those_of_their_type() -> None:
    assert combined_tlvs([(1, b"new")], [(1, b"old"), (2, b"kept")]) == [(1, b"new"), (2, b"kept")]
