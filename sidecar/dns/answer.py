"""The answer to a query from the name table. Pure.

dnspython reads queries and encodes names. The records are written here: an address is 16 or 28 bytes, and the
library would take ten times as long for them as for all the rest.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import dns.flags
import dns.rcode
from dns.rdataclass import IN
from dns.rdatatype import AAAA, CNAME, OPT, A

from sidecar.dns.names import Found, Names
from sidecar.dns.query import HEADER, Edns, Query, response_flags

# Istio's. It is short, because a client that honours it sees a new address only after it.
TTL_S: Final = 30

_MAX_STREAM_BYTES: Final = 65535
_OWN_LIMIT_BYTES: Final = 4096  # of datagrams: only a statement
_POINTER: Final = 0xC000  # to an offset (RFC 1035 section 4.1.4)
_RECORD: Final = struct.Struct("!HHHIH")  # the owner as a pointer, type, class, TTL, length
_OPT: Final = struct.Struct("!BHHIH")  # RFC 6891 section 6.1.2


def answer(query: Query, names: Names, *, stream: bool, turn: int) -> bytes | None:
    """The response, or None if the query is for the resolvers of the pod. ``stream``: it came over TCP.
    ``turn`` rotates the addresses. Raises `DnsQueryError`."""
    if query.rdclass != IN or query.rdtype not in (A, AAAA):
        return None
    found = names.find(query.host)
    if found is None:
        return None
    edns = query.edns()
    if edns.version > 0:
        return _response(query, edns, rcode=dns.rcode.BADVERS)
    limit = _MAX_STREAM_BYTES if stream else edns.limit_bytes
    room = limit - HEADER.size - len(query.question) - _OPT.size
    records, truncated = _records(query, found, turn, room)
    return _response(query, edns, records, truncated=truncated)


def _response(
    query: Query,
    edns: Edns,
    records: Sequence[bytes] = (),
    *,
    truncated: bool = False,
    rcode: dns.rcode.Rcode = dns.rcode.NOERROR,
) -> bytes:
    flags = response_flags(query.flags) | int(dns.flags.AA) | rcode & 0xF
    if truncated:
        flags |= int(dns.flags.TC)
    has_opt = edns.version >= 0
    header = HEADER.pack(query.id, flags, 1, len(records), 0, has_opt)
    opt = _OPT.pack(0, OPT, _OWN_LIMIT_BYTES, rcode >> 4 << 24 | edns.flags, 0) if has_opt else b""
    return b"".join((header, query.question, *records, opt))


def _records(query: Query, found: Found, turn: int, room_bytes: int) -> tuple[list[bytes], bool]:
    """As many addresses as fit, so that a client without TCP has some; and whether there are more."""
    owner = HEADER.size
    records: list[bytes] = []
    if found.alias:
        head = _RECORD.pack(_POINTER | owner, CNAME, IN, TTL_S, len(found.alias))
        records.append(head + found.alias)
        owner += len(query.question) + _RECORD.size  # the name in this record
        room_bytes -= len(records[0])
    addresses = _rotated(found.info.v4 if query.rdtype == A else found.info.v6, turn)
    size = 4 if query.rdtype == A else 16
    most = max(room_bytes // (_RECORD.size + size), 0)
    head = _RECORD.pack(_POINTER | owner, query.rdtype, IN, TTL_S, size)
    records.extend(head + _packed(address, query.rdtype) for address in addresses[:most])
    return records, most < len(addresses)


def _rotated(addresses: Sequence[str], turn: int) -> Sequence[str]:
    if len(addresses) < 2:
        return addresses
    first = turn % len(addresses)
    return [*addresses[first:], *addresses[:first]]


def _packed(address: str, rdtype: int) -> bytes:
    return IPv4Address(address).packed if rdtype == A else IPv6Address(address).packed
