"""The answers of the DNS server, byte by byte and over sockets."""

from __future__ import annotations

import asyncio
import socket

import dns.asyncquery
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest

from tests.support.node_agent.name_server import TCP_BYTES, UDP_BYTES, answer, name_server
from tests.support.node_agent.zone import Records

MANY = tuple(f"10.244.7.{number}" for number in range(3, 103))
ZONE = {
    "cluster.local": Records(),
    "web.cluster.local": Records(addresses=("10.96.1.1",)),
    "many.cluster.local": Records(addresses=MANY),
    "alias.cluster.local": Records(alias="web.cluster.local"),
    "outside.cluster.local": Records(alias="pay.example"),
    "ring.cluster.local": Records(alias="ring.cluster.local"),
}


def ask(name: str, kind: str = "A", *, limit_bytes: int = TCP_BYTES, payload: int = 0) -> dns.message.Message:
    query = dns.message.make_query(name, kind, use_edns=payload > 0, payload=payload or None)
    reply = answer(query.to_wire(), ZONE, limit_bytes=limit_bytes)
    assert reply is not None
    message = dns.message.from_wire(reply)
    assert query.is_response(message)
    return message


def records(message: dns.message.Message) -> list[str]:
    return [f"{dns.rdatatype.to_text(rrset.rdtype)} {item}" for rrset in message.answer for item in rrset]


def test_a_name_has_its_address_in_any_case() -> None:
    for name in ("web.cluster.local.", "Web.CLUSTER.local."):
        message = ask(name)
        assert records(message) == ["A 10.96.1.1"]
        assert message.answer[0].name.to_text() == name
        assert message.flags & dns.flags.AA


@pytest.mark.parametrize(("name", "kind"), [("web.cluster.local", "AAAA"), ("cluster.local", "A")])
def test_a_name_without_such_records_has_an_empty_answer(name: str, kind: str) -> None:
    message = ask(name, kind)
    assert (message.rcode(), records(message)) == (dns.rcode.NOERROR, [])


@pytest.mark.parametrize("name", ["absent.cluster.local", "example.com", "3.7.244.10.in-addr.arpa", "."])
def test_an_unknown_name_is_denied(name: str) -> None:
    message = ask(name)
    assert (message.rcode(), records(message)) == (dns.rcode.NXDOMAIN, [])


def test_an_alias_is_followed() -> None:
    assert records(ask("alias.cluster.local")) == ["CNAME web.cluster.local.", "A 10.96.1.1"]
    outside = ask("outside.cluster.local")
    assert (outside.rcode(), records(outside)) == (dns.rcode.NXDOMAIN, ["CNAME pay.example."])


def test_aliases_in_a_ring_end() -> None:
    assert ask("ring.cluster.local").rcode() == dns.rcode.SERVFAIL


def test_an_answer_that_is_too_long_says_so() -> None:
    cut = ask("many.cluster.local", limit_bytes=UDP_BYTES)
    assert cut.flags & dns.flags.TC
    for whole in (ask("many.cluster.local"), ask("many.cluster.local", limit_bytes=UDP_BYTES, payload=4096)):
        assert not whole.flags & dns.flags.TC
        assert set(records(whole)) == {f"A {address}" for address in MANY}


def test_addresses_take_turns_in_being_the_first() -> None:
    assert len({records(ask("many.cluster.local"))[0] for _ in range(20)}) > 1


def test_an_invalid_question_gets_no_answer() -> None:
    query = dns.message.make_query("web.cluster.local", "A")
    for data in (b"", b"\0" * 5, query.to_wire()[:-3], dns.message.make_response(query).to_wire()):
        assert answer(data, ZONE, limit_bytes=UDP_BYTES) is None


def test_a_message_without_a_question_is_malformed() -> None:
    reply = answer(dns.message.Message().to_wire(), ZONE, limit_bytes=UDP_BYTES)
    assert reply is not None
    assert dns.message.from_wire(reply).rcode() == dns.rcode.FORMERR


async def test_it_serves_datagrams_and_streams_and_survives_nonsense() -> None:
    port = free_port()
    query = dns.message.make_query("web.cluster.local", "A")
    async with name_server("127.0.0.1", lambda: ZONE, port):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller:
            caller.sendto(b"nonsense", ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\0\x08nonsense")
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        for exchange in (dns.asyncquery.udp, dns.asyncquery.tcp):
            reply = await exchange(query, "127.0.0.1", 10, port)
            assert records(reply) == ["A 10.96.1.1"]


async def test_a_connection_carries_questions_one_after_another_until_the_server_ends() -> None:
    port = free_port()
    query = dns.message.make_query("web.cluster.local", "A").to_wire()
    async with name_server("127.0.0.1", lambda: ZONE, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write((len(query).to_bytes(2) + query) * 2)
        for _ in range(2):
            length = int.from_bytes(await reader.readexactly(2))
            assert records(dns.message.from_wire(await reader.readexactly(length))) == ["A 10.96.1.1"]
    # It has ended, though the caller has not.
    assert await reader.read() == b""
    writer.close()


def free_port() -> int:
    """For TCP; that UDP's of the same number is taken is unlikely."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
