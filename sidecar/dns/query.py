"""A query as a client sent it, and its parts that matter for an answer of our own."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import dns.exception
import dns.flags
import dns.name
import dns.opcode
import dns.rcode
import dns.wire
from dns.rdatatype import OPT

from sidecar.errors import DnsQueryError

HEADER: Final = struct.Struct("!HHHHHH")  # RFC 1035 section 4.1.1
_IS_RESPONSE: Final = int(dns.flags.QR)
_OF_QUERY: Final = 0x7800 | int(dns.flags.RD | dns.flags.CD)  # with the opcode
# OPT and TSIG. More would only be work.
_MOST_ADDITIONAL: Final = 2
_AFTER_NAME_BYTES: Final = 4  # type and class
# RFC 1035 section 4.2.1: the largest response over UDP for a client that does not announce a size.
_MIN_LIMIT_BYTES: Final = 512


@dataclass(frozen=True, slots=True)
class Edns:
    """The OPT record of a query (RFC 6891). ``limit_bytes`` is the largest response over UDP that the client
    accepts. ``version`` -1: there is no such record."""

    version: int
    flags: int
    limit_bytes: int


NO_EDNS: Final = Edns(version=-1, flags=0, limit_bytes=_MIN_LIMIT_BYTES)


@dataclass(frozen=True, slots=True)
class Query:
    """``host`` is the name in lower case without its last dot; empty if it cannot be a host name.
    ``question`` are the bytes of the question, and ``additional`` counts the records after it."""

    data: bytes
    id: int
    flags: int
    host: bytes
    rdtype: int
    rdclass: int
    question: bytes
    additional: int

    def edns(self) -> Edns:
        """Raises `DnsQueryError`."""
        parser = dns.wire.Parser(self.data, HEADER.size + len(self.question))
        try:
            for _ in range(self.additional):
                parser.get_name()
                rdtype, payload, ttl, length = parser.get_struct("!HHIH")
                parser.get_bytes(length)
                if rdtype == OPT:
                    return Edns(ttl >> 16 & 0xFF, ttl & int(dns.flags.DO), max(payload, _MIN_LIMIT_BYTES))
        except (dns.exception.DNSException, struct.error):
            raise DnsQueryError(error_response(self.id, self.flags, dns.rcode.FORMERR)) from None
        return NO_EDNS


def parse_query(data: bytes) -> Query:
    """Raises `DnsQueryError`."""
    if len(data) < HEADER.size:
        raise DnsQueryError
    query_id, flags, questions, answers, authorities, additional = HEADER.unpack_from(data)
    if flags & _IS_RESPONSE:
        raise DnsQueryError  # an answer to it could be the start of an endless exchange
    if dns.opcode.from_flags(flags) != dns.opcode.QUERY:
        raise DnsQueryError(error_response(query_id, flags, dns.rcode.NOTIMP))
    if questions != 1 or answers or authorities or additional > _MOST_ADDITIONAL:
        raise DnsQueryError(error_response(query_id, flags, dns.rcode.FORMERR))
    parser = dns.wire.Parser(data, HEADER.size)
    try:
        name = parser.get_name()
        rdtype, rdclass = parser.get_struct("!HH")
    except (dns.exception.DNSException, struct.error):
        raise DnsQueryError(error_response(query_id, flags, dns.rcode.FORMERR)) from None
    question = data[HEADER.size : parser.current]
    if len(question) != sum(len(label) + 1 for label in name.labels) + _AFTER_NAME_BYTES:
        # A pointer, which would mean another name in a response.
        raise DnsQueryError(error_response(query_id, flags, dns.rcode.FORMERR))
    return Query(data, query_id, flags, _host(name), rdtype, rdclass, question, additional)


def error_response(query_id: int, flags: int, rcode: int, question: bytes = b"") -> bytes:
    return HEADER.pack(query_id, response_flags(flags) | rcode, bool(question), 0, 0, 0) + question


def response_flags(flags: int) -> int:
    return _IS_RESPONSE | flags & _OF_QUERY | int(dns.flags.RA)


def _host(name: dns.name.Name) -> bytes:
    labels = name.labels[:-1]
    host = b".".join(labels).lower()
    return host if host.count(b".") == len(labels) - 1 else b""  # a dot inside a label
