"""The sidecar's DNS resolver through sockets: BIND's dig as a client, and resolvers that a test controls."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator
from contextlib import AsyncExitStack

import dns.flags
import dns.message
import dns.rcode
import pytest

from sidecar.config.name_table import NameTable
from sidecar.dns.forwarder import Patience
from tests.support.dns_messages import addresses, external, in_cluster, query, truncated
from tests.support.dns_server import NameServer, name_server
from tests.support.listening import eventually
from tests.support.running_resolver import running_resolver, wrong_server

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop", "asyncio"])

MANY = tuple(f"10.0.{number // 250}.{number % 250 + 1}" for number in range(500))
TABLE = NameTable(
    hosts={
        **in_cluster("reviews", "10.0.0.1", v6=("fd00::1",)),
        **in_cluster("kafka", *MANY),
        **external("api.example.com", "240.240.0.1"),
    }
)
EMPTY = NameTable()


@pytest.fixture
def names() -> Iterator[NameServer]:
    with name_server() as server:
        yield server


@pytest.fixture
def second() -> Iterator[NameServer]:
    with name_server() as server:
        yield server


def closed_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


class TestNames:
    async def test_dig_finds_them_over_both_protocols_and_families(self) -> None:
        async with running_resolver(table=TABLE) as resolver:
            for host in ("127.0.0.1", "::1"):
                for protocol in ("+notcp", "+tcp"):
                    found = await resolver.addresses(protocol, "reviews.default.svc.cluster.local", host=host)
                    assert found == ["10.0.0.1"]
            assert await resolver.addresses("AAAA", "reviews.default") == ["fd00::1"]
            assert await resolver.addresses("api.example.com.default.svc.cluster.local") == [
                "api.example.com.",
                "240.240.0.1",
            ]
            text = await resolver.dig("AAAA", "api.example.com")
            assert "status: NOERROR" in text
            assert "ANSWER: 0" in text

    async def test_dig_asks_again_over_tcp_for_an_answer_that_is_too_long(self) -> None:
        async with running_resolver(table=TABLE) as resolver:
            assert sorted(await resolver.addresses("kafka")) == sorted(MANY)
            assert len(await resolver.addresses("kafka", "+ignore", "+noedns")) == 29
            assert resolver.stats.requests_total == 3

    async def test_a_new_table_is_used_at_once(self) -> None:
        async with running_resolver(table=TABLE) as resolver:
            resolver.server.resolver.use(NameTable(hosts=external("api.example.com", "240.240.0.9")))
            assert await resolver.addresses("api.example.com") == ["240.240.0.9"]

    async def test_only_the_machine_itself_can_ask(self) -> None:
        async with running_resolver(table=TABLE) as resolver:
            other = ("127.0.0.2", resolver.port)  # as any address of the machine that is not bound
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(*other)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.settimeout(5)
                client.connect(other)
                client.send(query("reviews"))
                with pytest.raises(ConnectionRefusedError):
                    client.recv(100)

    async def test_before_the_first_table_every_query_fails(self, names: NameServer) -> None:
        names.say("www.example.com", "192.0.2.1")
        async with running_resolver(names.port, table=None, expects_names=True) as resolver:
            assert "status: SERVFAIL" in await resolver.dig("www.example.com")
            resolver.server.resolver.use(EMPTY)
            assert await resolver.addresses("www.example.com") == ["192.0.2.1"]

    async def test_without_a_control_plane_that_has_names_all_is_passed_on(self, names: NameServer) -> None:
        names.say("www.example.com", "192.0.2.1")
        async with running_resolver(names.port, table=None) as resolver:
            assert await resolver.addresses("www.example.com") == ["192.0.2.1"]


class TestOtherNames:
    async def test_the_answers_of_the_pods_resolver_come_back_unchanged(self, names: NameServer) -> None:
        names.say("www.example.com", "192.0.2.1", alias="cdn.example.net", ttl_s=7)
        names.say("broken.example.com", rcode=dns.rcode.YXDOMAIN)
        async with running_resolver(names.port, table=TABLE) as resolver:
            for name in ("www.example.com", "broken.example.com", "absent.example.com"):
                for protocol in ("+notcp", "+tcp"):
                    arguments = [protocol, "+noall", "+answer", "+comments", name]
                    ours = await resolver.dig(*arguments)
                    theirs = await resolver.dig("-p", str(names.port), *arguments)
                    assert without_id(ours) == without_id(theirs)
            assert names.asked[0] == "www.example.com A"
            assert "www.example.com A tcp" in names.asked
            assert resolver.stats.upstream_failures_total == 0
            assert resolver.stats.upstream_requests_total == resolver.stats.requests_total == 6
            assert resolver.stats.upstream_request_duration_seconds.count == 6

    async def test_other_types_of_names_in_the_table_are_passed_on(self, names: NameServer) -> None:
        async with running_resolver(names.port, table=TABLE) as resolver:
            assert "status: NXDOMAIN" in await resolver.dig("MX", "api.example.com")
            assert names.asked == ["api.example.com MX"]

    async def test_a_truncated_answer_makes_the_client_ask_over_tcp(self, names: NameServer) -> None:
        names.say("big.example.com", *MANY[:100], truncated=True)
        async with running_resolver(names.port, table=EMPTY) as resolver:
            assert truncated(await resolver.ask(query("big.example.com")))
            assert len(await resolver.addresses("big.example.com")) == 100
            assert names.asked[-1] == "big.example.com A tcp"

    async def test_the_next_resolver_is_asked_if_one_is_silent(
        self, names: NameServer, second: NameServer
    ) -> None:
        names.keep_silent("www.example.com")
        second.say("www.example.com", "192.0.2.1")
        async with running_resolver(names.port, second.port, table=EMPTY) as resolver:
            assert await resolver.addresses("www.example.com") == ["192.0.2.1"]

    async def test_a_resolver_may_answer_after_the_next_one_was_asked(
        self, names: NameServer, second: NameServer
    ) -> None:
        for server in (names, second):
            server.keep_silent("www.example.com")
        patience = Patience(resend_s=0.05, limit_s=20.0)
        async with running_resolver(names.port, second.port, table=EMPTY, patience=patience) as resolver:
            answer = asyncio.create_task(resolver.ask(query("www.example.com")))
            await eventually(lambda: second.count("www.example.com") == 2)
            names.say("www.example.com", "192.0.2.1")
            assert addresses(await answer) == ["192.0.2.1"]

    @pytest.mark.parametrize("rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTIMP])
    async def test_the_next_resolver_is_asked_if_one_cannot_answer(
        self, names: NameServer, second: NameServer, rcode: dns.rcode.Rcode
    ) -> None:
        names.say("www.example.com", rcode=rcode)
        second.say("www.example.com", "192.0.2.1")
        async with running_resolver(names.port, second.port, table=EMPTY) as resolver:
            for protocol in ("+notcp", "+tcp"):
                assert await resolver.addresses(protocol, "www.example.com") == ["192.0.2.1"]

    async def test_the_failure_of_all_resolvers_comes_back(self, names: NameServer) -> None:
        names.say("www.example.com", rcode=dns.rcode.REFUSED)
        async with running_resolver(names.port, closed_port(), table=EMPTY) as resolver:
            assert "status: REFUSED" in await resolver.dig("+notcp", "www.example.com")
            assert "status: REFUSED" in await resolver.dig("+tcp", "www.example.com")
            assert names.count("www.example.com") == 2, "each once"

    async def test_where_no_resolver_listens_the_query_fails_at_once(self) -> None:
        patience = Patience(resend_s=30.0, limit_s=60.0)
        async with running_resolver(closed_port(), closed_port(), table=EMPTY, patience=patience) as resolver:
            for protocol in ("+notcp", "+tcp"):
                assert "status: SERVFAIL" in await resolver.dig(protocol, "www.example.com")
            assert resolver.stats.upstream_failures_total == 2

    async def test_silence_ends_with_a_failure(self, names: NameServer) -> None:
        names.keep_silent("www.example.com")
        async with running_resolver(names.port, table=EMPTY) as resolver:
            response = await resolver.ask(query("www.example.com"))
            assert response.rcode() == dns.rcode.SERVFAIL
            assert response.question
            assert names.count("www.example.com") == 2

    async def test_without_resolvers_the_query_fails(self) -> None:
        async with running_resolver(table=EMPTY) as resolver:
            assert (await resolver.ask(query("www.example.com"))).rcode() == dns.rcode.SERVFAIL


def without_id(text: str) -> str:
    return "\n".join(
        line.partition(", id:")[0] for line in text.splitlines() if not line.startswith(";; Got")
    )


def forged(data: bytes, *, message_id: int = 0, name: str = "", flags: int = 0x8180) -> bytes:
    """An answer to a query with a wrong address, and perhaps another id, question or kind."""
    asked = dns.message.from_wire(data)
    if name:
        asked = dns.message.make_query(name, "A")
    reply = dns.message.make_response(dns.message.from_wire(asked.to_wire()))
    reply.id = dns.message.from_wire(data).id ^ message_id
    owner = asked.question[0].name
    reply.answer.append(dns.rrset.from_text(owner, 1, "IN", "A", "192.0.2.66"))
    reply.flags = flags
    return reply.to_wire()


def genuine(data: bytes) -> bytes:
    """In upper case, as some resolvers answer."""
    reply = dns.message.make_response(dns.message.from_wire(data))
    reply.answer.append(dns.rrset.from_text(reply.question[0].name, 1, "IN", "A", "192.0.2.1"))
    return reply.to_wire().replace(b"www", b"WWW")


class TestAttacks:
    async def test_forged_answers_are_ignored(self) -> None:
        wrong = (
            lambda data: b"",
            lambda data: data[:11],
            lambda data: data,  # the query itself
            lambda data: forged(data, message_id=1),
            lambda data: forged(data, name="evil.example.com"),
            lambda data: forged(data, flags=0x0100),
            lambda data: data[:2] + struct.pack("!HHHHH", 0x8180, 0, 0, 0, 0),
            lambda data: data[:2] + struct.pack("!HHHHH", 0x8180, 2, 0, 0, 0) + data[12:] * 2,
        )
        async with (
            wrong_server(*wrong, genuine) as (port, _),
            running_resolver(port, table=EMPTY) as resolver,
        ):
            assert addresses(await resolver.ask(query("www.example.com"))) == ["192.0.2.1"]

    async def test_each_query_has_a_random_id_and_port(self) -> None:
        async with wrong_server(genuine) as (port, server), running_resolver(port, table=EMPTY) as resolver:
            wire = query("www.example.com")
            for _ in range(20):
                assert (await resolver.ask(wire)).id == struct.unpack("!H", wire[:2])[0]
            assert len({each[:2] for each in server.queries}) > 15
            assert {each[2:] for each in server.queries} == {wire[2:]}

    async def test_a_flood_of_queries_is_bounded_and_leaves_no_trace(self, names: NameServer) -> None:
        names.keep_silent("www.example.com")
        names.say("other.example.com", "192.0.2.1")
        patience = Patience(resend_s=60.0, limit_s=60.0)
        async with running_resolver(
            names.port, table=TABLE, patience=patience, most_forwarded=10
        ) as resolver:
            waiting = [asyncio.create_task(resolver.ask(query("www.example.com"))) for _ in range(10)]
            await eventually(lambda: names.count("www.example.com") == 10)
            refused = await asyncio.gather(*(resolver.ask(query("www.example.com")) for _ in range(50)))
            assert {each.rcode() for each in refused} == {dns.rcode.SERVFAIL}
            assert names.count("www.example.com") == 10
            assert addresses(await resolver.ask(query("reviews"))) == ["10.0.0.1"], "names still resolve"
            names.say("www.example.com", "192.0.2.1")
            assert all(map(addresses, await asyncio.gather(*waiting)))
            assert addresses(await resolver.ask(query("other.example.com"))) == ["192.0.2.1"]

    async def test_nonsense_gets_no_answer_or_an_error_and_harms_nobody(self) -> None:
        async with running_resolver(table=TABLE) as resolver:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.connect(("127.0.0.1", resolver.port))
                for nonsense in (b"", b"\x00", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 9000, bytes(65000)):
                    client.send(nonsense)
            assert addresses(await resolver.ask(query("reviews"))) == ["10.0.0.1"]

    async def test_an_answer_is_no_query(self) -> None:
        """Two resolvers that answered each other's answers would never stop."""
        async with running_resolver(table=TABLE) as resolver:
            reply = dns.message.make_response(dns.message.from_wire(query("reviews"))).to_wire()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.setblocking(False)
                client.connect(("127.0.0.1", resolver.port))
                client.send(reply)
                assert addresses(await resolver.ask(query("reviews"))) == ["10.0.0.1"]
                with pytest.raises(BlockingIOError):
                    client.recv(100)


async def send_for_ever(client: socket.socket, data: bytes) -> None:
    async with asyncio.timeout(20):
        while True:
            await asyncio.get_running_loop().sock_sendall(client, data)


class TestStreams:
    async def test_many_queries_share_a_connection(self, names: NameServer) -> None:
        names.say("www.example.com", "192.0.2.1")
        async with (
            running_resolver(names.port, table=TABLE, patience=Patience()) as resolver,
            resolver.connect() as client,
        ):
            queries = [query("reviews" if number % 10 else "www.example.com") for number in range(300)]
            client.send(*queries)
            answers = [await client.receive() for _ in queries]
            sent = sorted(struct.unpack("!H", each[:2])[0] for each in queries)
            assert sorted(each.id for each in answers) == sent
            assert all(map(addresses, answers))

    async def test_queries_may_come_byte_by_byte(self) -> None:
        async with running_resolver(table=TABLE) as resolver, resolver.connect() as client:
            wire = query("reviews")
            for byte in struct.pack("!H", len(wire)) + wire:
                client.writer.write(bytes([byte]))
                await client.writer.drain()
            assert addresses(await client.receive()) == ["10.0.0.1"]

    async def test_a_client_that_sends_no_more_gets_its_answers(self, names: NameServer) -> None:
        names.say("www.example.com", "192.0.2.1")
        async with running_resolver(names.port, table=TABLE) as resolver, resolver.connect() as client:
            client.send(query("www.example.com"), query("reviews"))
            client.writer.write_eof()
            assert len([await client.receive() for _ in range(2)]) == 2
            assert await client.ended()

    @pytest.mark.parametrize(
        "sent", [b"", b"\x00", b"\x00\x20half"], ids=["nothing", "half a length", "half a query"]
    )
    async def test_an_idle_connection_is_closed(self, sent: bytes) -> None:
        async with (
            running_resolver(table=TABLE, idle_timeout_s=0.05) as resolver,
            resolver.connect() as client,
        ):
            client.writer.write(sent)
            assert await client.ended()

    async def test_a_connection_that_waits_for_an_answer_is_not_idle(self, names: NameServer) -> None:
        names.keep_silent("www.example.com")
        patience = Patience(resend_s=0.3, limit_s=0.3)
        async with (
            running_resolver(names.port, table=TABLE, idle_timeout_s=0.05, patience=patience) as resolver,
            resolver.connect() as client,
        ):
            client.send(query("www.example.com"))
            assert await client.receive()
            assert await client.ended()

    async def test_the_number_of_connections_is_bounded(self) -> None:
        async with running_resolver(table=TABLE, most_connections=3) as resolver:
            async with AsyncExitStack() as opened:
                clients = [await opened.enter_async_context(resolver.connect()) for _ in range(3)]
                for client in clients:
                    client.send(query("reviews"))
                    assert addresses(await client.receive()) == ["10.0.0.1"]
                async with resolver.connect() as one_more:
                    assert await one_more.ended()
            await eventually(lambda: not resolver.server.connections.open)
            assert await resolver.addresses("+tcp", "reviews") == ["10.0.0.1"]

    async def test_a_client_that_does_not_read_is_closed(self) -> None:
        async with running_resolver(table=TABLE, idle_timeout_s=0.2) as resolver:
            with socket.socket() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(client, ("127.0.0.1", resolver.port))
                wire = query("kafka")
                framed = struct.pack("!H", len(wire)) + wire
                with pytest.raises((ConnectionResetError, BrokenPipeError)):
                    await send_for_ever(client, framed * 100)
            assert addresses(await resolver.ask(query("reviews"))) == ["10.0.0.1"]

    async def test_nonsense_ends_the_connection_alone(self) -> None:
        async with running_resolver(table=TABLE) as resolver, resolver.connect() as client:
            client.send(b"")
            assert await client.ended()
            assert await resolver.addresses("+tcp", "reviews") == ["10.0.0.1"]
