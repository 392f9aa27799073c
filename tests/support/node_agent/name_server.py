"""A DNS server for a zone that may change at any time. A name outside of the zone does not exist: no other
server is asked, because traffic stays on this machine."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import cast

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from tests.support.node_agent.tcp_server import tcp_server
from tests.support.node_agent.zone import Records, Zone

PORT = 53
TTL_S = 5
MAX_ALIASES = 8
UDP_BYTES = 512  # where the question does not allow more (RFC 1035 4.2.1)
TCP_BYTES = 65535


@asynccontextmanager
async def name_server(address: str, zone: Callable[[], Zone], port: int = PORT) -> AsyncIterator[None]:
    """Answers over UDP and TCP until the block ends."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Messages have their length in front (RFC 1035 4.2.2)."""
        with suppress(asyncio.IncompleteReadError):
            while True:
                length = int.from_bytes(await reader.readexactly(2))
                reply = answer(await reader.readexactly(length), zone(), limit_bytes=TCP_BYTES)
                if reply is None:
                    return
                writer.write(len(reply).to_bytes(2) + reply)
                await writer.drain()

    async with tcp_server(converse, address, port):
        loop = asyncio.get_running_loop()
        datagrams, _ = await loop.create_datagram_endpoint(lambda: Datagrams(zone), (address, port))
        try:
            yield
        finally:
            datagrams.close()


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, zone: Callable[[], Zone]) -> None:
        self._zone = zone
        self._transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # its class does not say so

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        reply = answer(data, self._zone(), limit_bytes=UDP_BYTES)
        if reply is not None:
            self._transport.sendto(reply, addr)


def answer(question: bytes, zone: Zone, *, limit_bytes: int) -> bytes | None:
    """The reply's bytes, up to the limit or what the question allows (EDNS); None for an invalid question."""
    try:
        query = dns.message.from_wire(question)
        reply = dns.message.make_response(query)
    except dns.exception.DNSException:
        return None
    fill(reply, zone)
    return reply.to_wire(max_size=max(limit_bytes, query.payload), prefer_truncation=True)


def fill(reply: dns.message.Message, zone: Zone) -> None:
    """A name that exists but has no such records gets an empty answer, another NXDOMAIN (RFC 2308 2). Neither
    has a time to live, so it is not cached."""
    reply.flags |= dns.flags.AA | dns.flags.RA
    if len(reply.question) != 1:
        reply.set_rcode(dns.rcode.FORMERR)
        return
    asked = reply.question[0]
    name = asked.name.to_text(omit_final_dot=True)
    for _ in range(MAX_ALIASES):
        records = zone.get(name.lower())
        if records is None:
            reply.set_rcode(dns.rcode.NXDOMAIN)
            return
        if records.alias is None:
            add_addresses(reply, name, asked.rdtype, records)
            return
        reply.answer.append(dns.rrset.from_text(f"{name}.", TTL_S, "IN", "CNAME", f"{records.alias}."))
        name = records.alias
    reply.set_rcode(dns.rcode.SERVFAIL)  # the aliases form a ring


def add_addresses(reply: dns.message.Message, name: str, rdtype: int, records: Records) -> None:
    """In another order each time: many callers take the first one."""
    if rdtype == dns.rdatatype.A and records.addresses:
        shuffled = random.sample(records.addresses, len(records.addresses))
        reply.answer.append(dns.rrset.from_text(f"{name}.", TTL_S, "IN", "A", *shuffled))
