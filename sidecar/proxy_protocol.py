"""The header of the PROXY protocol, versions 1 and 2: a proxy tells the server its client's address. No I/O.

Source: the HAProxy project's ``doc/proxy-protocol.txt``. Where it leaves a choice, the one of Envoy.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Collection, Iterable, Set
from typing import Final

from sidecar.config.endpoint import SocketAddress
from sidecar.config.proxy_protocol import Tlv

_V1: Final = b"PROXY"
_V1_UNKNOWN: Final = b"UNKNOWN"
_V1_FAMILIES: Final = {b"TCP4": socket.AF_INET, b"TCP6": socket.AF_INET6}
_V1_MAX_BYTES: Final = 108
_V1_FIELDS: Final = 6
_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_V2_HEAD: Final = struct.Struct("!12sBBH")  # signature, version and command, family and transport, length
_V2_VERSION: Final = 0x20
_LOCAL: Final = 0
_PROXY: Final = 1
_TRANSPORTS: Final = frozenset((1, 2))  # stream, datagram
_V2_ADDRESSES: Final = {
    1: (socket.AF_INET, struct.Struct("!4s4sHH")),
    2: (socket.AF_INET6, struct.Struct("!16s16sHH")),
}
_TLV_HEAD: Final = struct.Struct("!BH")
_MAX_V2_BODY_BYTES: Final = 65535
_MAX_PORT: Final = 65535
_MULTICAST_V4: Final = range(224, 240)
_NOBODY: Final = frozenset(("0.0.0.0", "255.255.255.255", "::"))


class ProxyProtocolError(Exception):
    """The header is invalid. ``version`` is 0 if the data begins with none."""

    def __init__(self, version: int, reason: str) -> None:
        super().__init__(reason)
        self.version = version


class ProxyHeader:
    """``source`` and ``destination`` are None in a header without addresses (UNKNOWN, LOCAL): those of the
    connection apply. ``size`` is in bytes."""

    __slots__ = ("destination", "size", "source", "tlvs", "version")

    def __init__(
        self,
        version: int,
        size: int,
        source: SocketAddress | None = None,
        destination: SocketAddress | None = None,
        tlvs: tuple[Tlv, ...] = (),
    ) -> None:
        self.version = version
        self.size = size
        self.source = source
        self.destination = destination
        self.tlvs = tlvs


def may_begin_header(data: bytes, versions: Set[int]) -> bool:
    """Whether data of any length agrees with the beginning of a header of one of these versions."""
    return (1 in versions and _V1.startswith(data[: len(_V1)])) or (
        2 in versions and _SIGNATURE.startswith(data[: len(_SIGNATURE)])
    )


def read_header(data: bytes) -> ProxyHeader | int:
    """The header at the beginning of ``data``, or how many bytes are needed, at most 64 KB. Raises
    `ProxyProtocolError`."""
    if len(data) >= _V2_HEAD.size:
        if data.startswith(_SIGNATURE):
            return _read_v2(data)
        if not data.startswith(_V1):
            raise ProxyProtocolError(0, "the connection does not begin with a PROXY header")
    if _SIGNATURE.startswith(data[: len(_SIGNATURE)]):  # which has line ends
        return _V2_HEAD.size
    end = data.find(b"\r\n", 0, _V1_MAX_BYTES)
    if end >= 0:
        return _read_v1(data[:end])
    if len(data) >= _V1_MAX_BYTES:
        raise ProxyProtocolError(0, f"the PROXY line is longer than {_V1_MAX_BYTES} bytes")
    return len(data) + 1


# Version 1: a line of text.


def _read_v1(line: bytes) -> ProxyHeader:
    fields, size = line.rstrip().split(b" "), len(line) + 2
    if fields[:2] == [_V1, _V1_UNKNOWN]:
        return ProxyHeader(1, size)
    family = _V1_FAMILIES.get(fields[1]) if len(fields) == _V1_FIELDS and fields[0] == _V1 else None
    if family is None:
        raise ProxyProtocolError(1, "the PROXY line is malformed")
    _, _, source, destination, source_port, destination_port = fields
    return ProxyHeader(
        1, size, _v1_address(family, source, source_port), _v1_address(family, destination, destination_port)
    )


def _v1_address(family: int, address: bytes, port: bytes) -> SocketAddress:
    if not port.isdigit() or len(port) > len(str(_MAX_PORT)) or int(port) > _MAX_PORT:
        raise ProxyProtocolError(1, "the PROXY line has an invalid port")
    try:
        packed = socket.inet_pton(family, address.decode("ascii"))
    except (OSError, ValueError):
        raise ProxyProtocolError(1, "the PROXY line has an invalid address") from None
    return _unicast(1, family, packed, int(port))


def _unicast(version: int, family: int, packed: bytes, port: int) -> SocketAddress:
    """TCP has no other addresses."""
    host = socket.inet_ntop(family, packed)
    multicast = packed[0] in _MULTICAST_V4 if family == socket.AF_INET else packed[0] == 0xFF
    if multicast or host in _NOBODY:
        raise ProxyProtocolError(version, f"the address {host} in the PROXY header is not of one host")
    return SocketAddress(host, port)


def write_v1(source: SocketAddress, destination: SocketAddress) -> bytes:
    is_ipv6 = ":" in source.host
    if (":" in destination.host) is not is_ipv6:
        return b"PROXY UNKNOWN\r\n"
    family = "TCP6" if is_ipv6 else "TCP4"
    line = f"PROXY {family} {source.host} {destination.host} {source.port} {destination.port}\r\n"
    return line.encode("ascii")


# Version 2: binary.


def _read_v2(data: bytes) -> ProxyHeader | int:
    version_and_command: int
    length: int
    _, version_and_command, family_and_transport, length = _V2_HEAD.unpack_from(data)
    if version_and_command & 0xF0 != _V2_VERSION:
        raise ProxyProtocolError(2, "the version of the binary PROXY header is not 2")
    size, command = _V2_HEAD.size + length, version_and_command & 0x0F
    if command == _LOCAL:
        return ProxyHeader(2, size) if len(data) >= size else size
    known = _V2_ADDRESSES.get(family_and_transport >> 4)
    if command != _PROXY or known is None or family_and_transport & 0x0F not in _TRANSPORTS:
        raise ProxyProtocolError(2, "the command or the address family of the PROXY header is not supported")
    family, addresses = known
    if length < addresses.size:
        raise ProxyProtocolError(2, "the PROXY header is too short for its addresses")
    if len(data) < size:
        return size
    source, destination, source_port, destination_port = addresses.unpack_from(data, _V2_HEAD.size)
    return ProxyHeader(
        2,
        size,
        _unicast(2, family, source, source_port),
        _unicast(2, family, destination, destination_port),
        _read_tlvs(data[_V2_HEAD.size + addresses.size : size]),
    )


def _read_tlvs(data: bytes) -> tuple[Tlv, ...]:
    found: list[Tlv] = []
    start = 0
    while start < len(data):
        value = start + _TLV_HEAD.size
        if value > len(data):
            raise ProxyProtocolError(2, "the PROXY header ends within a TLV")
        kind, length = _TLV_HEAD.unpack_from(data, start)
        start = value + length
        if start > len(data):
            raise ProxyProtocolError(2, "the PROXY header ends within a TLV")
        found.append((kind, data[value:start]))
    return tuple(found)


def write_v2(source: SocketAddress, destination: SocketAddress, tlvs: Iterable[Tlv] = ()) -> bytes:
    """With the first TLVs, as many as fit into a header."""
    is_ipv6 = ":" in source.host
    if (":" in destination.host) is not is_ipv6:
        return _V2_HEAD.pack(_SIGNATURE, _V2_VERSION | _LOCAL, 0, 0)
    family_number = 2 if is_ipv6 else 1
    family, addresses = _V2_ADDRESSES[family_number]
    body = addresses.pack(
        socket.inet_pton(family, source.host),
        socket.inet_pton(family, destination.host),
        source.port,
        destination.port,
    )
    for kind, value in tlvs:
        if len(body) + _TLV_HEAD.size + len(value) > _MAX_V2_BODY_BYTES:
            break
        body += _TLV_HEAD.pack(kind, len(value)) + value
    return _V2_HEAD.pack(_SIGNATURE, _V2_VERSION | _PROXY, family_number << 4 | 1, len(body)) + body


def combined_tlvs(added: Collection[Tlv], passed: Iterable[Tlv]) -> list[Tlv]:
    """``added``, and those of ``passed`` whose types are not among them."""
    types = {kind for kind, _ in added}
    return [*added, *(tlv for tlv in passed if tlv[0] not in types)]
