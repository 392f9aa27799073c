"""The sidecar's DNS resolver on free ports, with resolvers that a test controls, and real clients for it."""

from __future__ import annotations

import asyncio
import shutil
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import dns.message
import pytest

from sidecar.config.name_table import NameTable
from sidecar.dns.forwarder import Patience, QuestionForwarder
from sidecar.dns.resolv_conf import upstreams
from sidecar.dns.resolver import Resolver
from sidecar.dns.server import DnsServer
from sidecar.dns.stats import DnsStats
from sidecar.dns.streams import StreamConnections
from tests.support.dns_messages import AROUND

IMPATIENT = Patience(resend_s=0.1, limit_s=0.5)
WAIT_S = 10.0


@dataclass(frozen=True, slots=True)
class RunningResolver:
    server: DnsServer
    port: int

    @property
    def stats(self) -> DnsStats:
        return self.server.resolver.stats

    async def ask(self, query: bytes, *, host: str = "127.0.0.1") -> dns.message.Message:
        """Over UDP."""
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.connect((host, self.port))
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(client, query)
            async with asyncio.timeout(WAIT_S):
                return dns.message.from_wire(await loop.sock_recv(client, 65535))

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Stream]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield Stream(reader, writer)
        finally:
            writer.transport.abort()

    async def dig(self, *arguments: str, host: str = "127.0.0.1") -> str:
        """The standard output of BIND's client."""
        program = shutil.which("dig")
        if program is None:
            pytest.fail("dig is not installed: apt-get install bind9-dnsutils")
        process = await asyncio.create_subprocess_exec(
            program, f"@{host}", "-p", str(self.port), *arguments, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()
        return output.decode()

    async def addresses(self, *arguments: str, host: str = "127.0.0.1") -> list[str]:
        return (await self.dig("+short", *arguments, host=host)).split()


@dataclass(frozen=True, slots=True)
class Stream:
    """A connection of a client (RFC 1035 section 4.2.2)."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, *queries: bytes) -> None:
        self.writer.write(b"".join(struct.pack("!H", len(query)) + query for query in queries))

    async def receive(self) -> dns.message.Message:
        async with asyncio.timeout(WAIT_S):
            (length,) = struct.unpack("!H", await self.reader.readexactly(2))
            return dns.message.from_wire(await self.reader.readexactly(length))

    async def ended(self) -> bool:
        """Waits for the end of the connection."""
        async with asyncio.timeout(WAIT_S):
            try:
                return await self.reader.read(1) == b""
            except ConnectionResetError:
                return True


@asynccontextmanager
async def running_resolver(
    *ports: int,
    table: NameTable | None,
    patience: Patience = IMPATIENT,
    expects_names: bool = False,
    most_forwarded: int = 256,
    idle_timeout_s: float = 10.0,
    most_connections: int = 32,
) -> AsyncIterator[RunningResolver]:
    """``ports``: those of the pod's resolvers, on 127.0.0.1."""
    stats = DnsStats()
    forwarder = QuestionForwarder(
        upstreams([("127.0.0.1", port) for port in ports]), stats, patience=patience
    )
    resolver = Resolver(
        forwarder, stats, AROUND, expects_names=lambda: expects_names, most_forwarded=most_forwarded
    )
    resolver.use(table)
    connections = StreamConnections(
        resolver, idle_timeout_s=idle_timeout_s, most_connections=most_connections
    )
    server = DnsServer(resolver, connections)
    port = await server.open(0)
    try:
        yield RunningResolver(server, port)
    finally:
        await server.close()


class WrongServer(asyncio.DatagramProtocol):
    """Answers each query with all ``answers``, made from it; for wrong answers."""

    def __init__(self, answers: Sequence[object]) -> None:
        self.answers = answers
        self.queries: list[bytes] = []
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self.queries.append(data)
        assert self.transport is not None
        for answer in self.answers:
            self.transport.sendto(answer(data), address)  # type: ignore[operator]


@asynccontextmanager
async def wrong_server(*answers: object) -> AsyncIterator[tuple[int, WrongServer]]:
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: WrongServer(answers), local_addr=("127.0.0.1", 0)
    )
    try:
        yield transport.get_extra_info("sockname")[1], protocol
    finally:
        transport.close()
