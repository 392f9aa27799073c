"""A name server, by default on loopback, whose answers a test controls: silent, slow, truncated or wrong."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

TYPES = {"A": dns.rdatatype.A, "AAAA": dns.rdatatype.AAAA}


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """``truncated``: the answer over UDP holds nothing, and says that there is more."""

    addresses: tuple[str, ...] = ()
    alias: str = ""
    ttl_s: int = 0
    rcode: dns.rcode.Rcode = dns.rcode.NOERROR
    truncated: bool = False


class NameServer:
    """Names are without the last dot; what was never `say`-d does not exist. ``asked`` holds each question as
    ``NAME TYPE``, those over TCP with `` tcp`` behind."""

    def __init__(self, datagrams: socket.socket, listening: socket.socket) -> None:
        self.asked: list[str] = []
        self._datagrams = datagrams
        self._listening = listening
        self._records: dict[str, Records] = {}
        self._silent: set[tuple[str, str]] = set()
        self._waiting: list[tuple[dns.message.Message, tuple[str, int]]] = []
        self._lock = threading.Lock()

    @property
    def port(self) -> int:
        return int(self._datagrams.getsockname()[1])

    def say(self, name: str, *addresses: str, **options: object) -> None:
        """From now on; those who wait for an answer get it now."""
        records = Records(addresses=addresses, **options)  # type: ignore[arg-type]
        with self._lock:
            self._records[name] = records
            self._silent -= {(name, rdtype) for rdtype in TYPES}
            waiting = [each for each in self._waiting if _name(each[0]) == name]
            self._waiting = [each for each in self._waiting if each not in waiting]
        for query, address in waiting:
            self._datagrams.sendto(self._reply(query).to_wire(max_size=65535), address)

    def forget(self, name: str) -> None:
        """It does not exist any more."""
        with self._lock:
            self._records.pop(name, None)

    def keep_silent(self, name: str, *rdtypes: str) -> None:
        """Until the next `say`; of all types where none is given."""
        with self._lock:
            self._silent |= {(name, rdtype) for rdtype in rdtypes or TYPES}

    def count(self, name: str) -> int:
        """How often it was asked for, whatever the type."""
        return sum(question.split(" ")[0] == name for question in tuple(self.asked))

    def serve_datagrams(self) -> None:
        with suppress(OSError):  # closed: the end
            while True:
                data, address = self._datagrams.recvfrom(4096)
                query = _parse(data)
                if query is None:
                    continue
                name, rdtype = _name(query), _type(query)
                self.asked.append(f"{name} {rdtype}")
                with self._lock:
                    if (name, rdtype) in self._silent:
                        self._waiting.append((query, address))
                        continue
                    truncated = name in self._records and self._records[name].truncated
                reply = self._reply(query)
                if truncated:
                    reply.answer.clear()
                    reply.flags |= dns.flags.TC
                self._datagrams.sendto(reply.to_wire(max_size=65535), address)

    def serve_streams(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        """Messages have their length in front (RFC 1035 4.2.2)."""
        with connection, suppress(OSError), connection.makefile("rb") as stream:
            while head := stream.read(2):
                query = _parse(stream.read(struct.unpack("!H", head)[0]))
                if query is None:
                    return
                self.asked.append(f"{_name(query)} {_type(query)} tcp")
                reply = self._reply(query).to_wire(max_size=65535)
                connection.sendall(struct.pack("!H", len(reply)) + reply)

    def _reply(self, query: dns.message.Message) -> dns.message.Message:
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.RA
        name = _name(query)
        with self._lock:
            records = self._records.get(name)
        if records is None:
            reply.set_rcode(dns.rcode.NXDOMAIN)
            return reply
        reply.set_rcode(records.rcode)
        owner = f"{name}."
        if records.alias:
            reply.answer.append(dns.rrset.from_text(owner, records.ttl_s, "IN", "CNAME", f"{records.alias}."))
            owner = f"{records.alias}."
        rdtype = _type(query)
        addresses = [each for each in records.addresses if (":" in each) == (rdtype == "AAAA")]
        if addresses and rdtype in TYPES:
            reply.answer.append(dns.rrset.from_text(owner, records.ttl_s, "IN", rdtype, *addresses))
        return reply


def _parse(data: bytes) -> dns.message.Message | None:
    try:
        query = dns.message.from_wire(data)
    except dns.exception.DNSException:
        return None
    return query if len(query.question) == 1 else None


def _name(query: dns.message.Message) -> str:
    return query.question[0].name.to_text(omit_final_dot=True).lower()


def _type(query: dns.message.Message) -> str:
    return dns.rdatatype.to_text(query.question[0].rdtype)


@contextmanager
def name_server(host: str = "127.0.0.1", port: int = 0) -> Iterator[NameServer]:
    """UDP and TCP; port 0 means a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with (
        socket.create_server((host, port), family=family) as listening,
        socket.socket(family, socket.SOCK_DGRAM) as datagrams,
    ):
        datagrams.bind(listening.getsockname())
        server = NameServer(datagrams, listening)
        for serve in (server.serve_datagrams, server.serve_streams):
            threading.Thread(target=serve, daemon=True).start()
        try:
            yield server
        finally:
            for waited in (datagrams, listening):
                with suppress(OSError):  # it wakes the thread, though a datagram socket complains
                    waited.shutdown(socket.SHUT_RDWR)
