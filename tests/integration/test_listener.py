"""Listeners with real sockets: which filter chain serves whom, and what an update does to connections."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import resource
import socket
import ssl
from typing import Any

import pytest

from sidecar.config.endpoint import SocketAddress
from sidecar.config.listener import FilterChainMatch, Listener, TrafficDirection
from sidecar.config.snapshot import Snapshot
from sidecar.config.tls import DownstreamTls, TlsParameters
from sidecar.listener.faults import quiet_peer_faults
from sidecar.listener.listen_socket import ListenSocket
from sidecar.listener.manager import ListenerSettings, ListenerState
from tests.support.listening import LOOPBACK, chain, eventually, http, listening, snapshot

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])


def listener(*chains, name="inbound", **options) -> Listener:
    return Listener(name=name, address=options.pop("address", LOOPBACK), filter_chains=chains, **options)


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    """What came before the connection ended; one that is closed with bytes unread ends by a reset."""
    try:
        return await asyncio.wait_for(reader.read(), 5)
    except ConnectionResetError:
        return b""


SNIFFING = listener(
    chain("tls", FilterChainMatch(transport_protocol="tls")),
    chain("plain", FilterChainMatch(application_protocols=("http/1.1", "http/1.0"))),
    chain("h2", FilterChainMatch(application_protocols=("h2c",))),
    chain("raw"),
    tls_inspector=True,
    http_inspector=True,
)


def client_hello(server_name: str = "reviews", alpn: tuple[str, ...] = ()) -> bytes:
    context = ssl.create_default_context()
    if alpn:
        context.set_alpn_protocols(list(alpn))
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=server_name).do_handshake()
    return outgoing.read()


@pytest.mark.parametrize(
    ("first_bytes", "expected"),
    [
        (b"GET / HTTP/1.1\r\n", b"plain"),
        (b"GET / HTTP/1.0\r\n", b"plain"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"h2"),
        (b"\x00\x01binary", b"raw"),
        (b"get key\r\n", b"raw"),
        (client_hello(), b"tls"),
    ],
)
async def test_first_bytes_choose_the_filter_chain_and_reach_it_whole(
    first_bytes: bytes, expected: bytes
) -> None:
    async with listening(SNIFFING) as harness:
        reader, writer = await harness.connect()
        writer.write(first_bytes)
        assert await reader.readexactly(len(expected) + 1 + len(first_bytes)) == expected + b":" + first_bytes
        writer.close()


@pytest.mark.parametrize("first_bytes", [client_hello(), b"GET /reviews HTTP/1.1\r\n"])
async def test_first_bytes_that_come_one_by_one_are_waited_for(first_bytes: bytes) -> None:
    async with listening(SNIFFING) as harness:
        reader, writer = await harness.connect()
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in first_bytes[:200]:
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        writer.write(first_bytes[200:] or b"")
        answer = await asyncio.wait_for(reader.readuntil(b":"), 5)
        assert answer == (b"tls:" if first_bytes[0] == 0x16 else b"plain:")
        writer.close()


async def test_a_client_that_stops_within_its_first_bytes_and_ends_is_raw() -> None:
    async with listening(SNIFFING) as harness:
        reader, writer = await harness.connect()
        writer.write(client_hello()[:40])
        writer.write_eof()
        assert await reader.read(4) == b"raw:"
        writer.close()


async def test_a_slow_client_hello_is_timed_out_and_counted() -> None:
    slow = dataclasses.replace(SNIFFING, listener_filters_timeout_s=0.1)
    async with listening(slow) as harness:
        reader, writer = await harness.connect()
        writer.write(client_hello()[:40])
        assert await read_to_end(reader) == b""
        stats = harness.stats.listener("127.0.0.1_0")
        assert (stats.downstream_pre_cx_timeout, stats.downstream_pre_cx_active) == (1, 0)
        writer.close()


async def test_a_silent_client_goes_on_as_raw_bytes_where_the_listener_says_so() -> None:
    patient = dataclasses.replace(
        SNIFFING, listener_filters_timeout_s=0.1, continue_on_listener_filters_timeout=True
    )
    async with listening(patient, speaks_first=True) as harness:
        reader, writer = await harness.connect()
        assert await asyncio.wait_for(reader.readline(), 5) == b"raw speaks first\n"
        writer.close()


async def test_a_server_that_speaks_first_is_not_kept_waiting_on_a_port_that_needs_no_sniffing() -> None:
    mixed = listener(
        chain("mysql", FilterChainMatch(destination_port=3306)),
        chain("default"),
        chain("tls", FilterChainMatch(destination_port=443, transport_protocol="tls")),
        tls_inspector=True,
        http_inspector=True,
    )
    async with listening(mixed, speaks_first=True) as harness:
        reader, writer = await harness.connect()
        assert await asyncio.wait_for(reader.readline(), 5) == b"default speaks first\n"
        writer.close()


async def test_no_filter_chain_closes_the_connection_and_is_counted() -> None:
    only_tls = listener(chain("tls", FilterChainMatch(transport_protocol="tls")), tls_inspector=True)
    async with listening(only_tls) as harness:
        reader, writer = await harness.connect()
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await read_to_end(reader) == b""
        assert harness.stats.listener("127.0.0.1_0").no_filter_chain_match == 1
        writer.close()


async def test_the_handler_learns_both_addresses() -> None:
    async with listening(listener(chain("only"))) as harness:
        reader, writer = await harness.connect()
        writer.write(b"x")
        await reader.readexactly(6)
        (connection,) = harness.handlers["only"].connections
        assert connection.local_address == SocketAddress("127.0.0.1", harness.port())
        assert connection.remote_address == SocketAddress(*writer.get_extra_info("sockname"))
        assert connection.original_destination is None
        writer.close()


async def test_a_thousand_connections_are_served_and_forgotten() -> None:
    async with listening(listener(chain("only"))) as harness:
        streams = await asyncio.gather(*(harness.connect() for _ in range(1000)))
        for _, writer in streams:
            writer.write(b"x")
        answers = await asyncio.gather(*(reader.readexactly(6) for reader, _ in streams))
        assert set(answers) == {b"only:x"}
        assert harness.manager.active_connections == 1000
        for _, writer in streams:
            writer.close()
        await eventually(lambda: harness.manager.active_connections == 0)
        harness.manager.refresh_stats()
        stats = harness.stats.listener("127.0.0.1_0")
        assert (stats.downstream_cx_total, stats.downstream_cx_active, stats.downstream_cx_destroy) == (
            1000,
            0,
            1000,
        )


async def test_clients_that_reset_at_once_leave_no_trace() -> None:
    faults: list[object] = []
    async with listening(SNIFFING) as harness:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        for first_bytes in (b"", b"\x16\x03", b"GET /"):
            client = socket.create_connection(("127.0.0.1", harness.port()))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            client.send(first_bytes)
            client.close()
        await eventually(lambda: harness.stats.listener("127.0.0.1_0").downstream_cx_total == 3)
        await eventually(lambda: harness.manager.active_connections == 0)
    assert not faults


# Updates.


async def test_an_update_keeps_the_socket_and_the_connections_of_unchanged_chains() -> None:
    stays = chain("stays")
    async with listening(listener(stays, chain("goes", FilterChainMatch(destination_port=1)))) as harness:
        port = harness.port()
        reader, writer = await harness.connect()
        writer.write(b"1")
        assert await reader.readexactly(7) == b"stays:1"
        before = harness.handlers["stays"]
        harness.serve(listener(stays, chain("comes", FilterChainMatch(destination_port=1))))
        assert harness.port() == port
        assert harness.handlers["stays"] is before
        assert not before.drained
        assert harness.handlers["goes"].drained
        assert harness.handlers["goes"].closed, "it has no connection left"
        writer.write(b"2")
        assert await reader.readexactly(7) == b"stays:2"
        writer.close()


async def test_new_connections_get_the_new_chain_while_old_ones_go_on_with_theirs() -> None:
    settings = ListenerSettings(drain_time_s=0.3)
    async with listening(listener(chain("old")), settings=settings) as harness:
        old_reader, old_writer = await harness.connect()
        old_writer.write(b"1")
        await old_reader.readexactly(5)
        harness.serve(listener(chain("new")))
        assert harness.handlers["old"].drained
        assert ListenerState.DRAINING in {status.state for status in harness.manager.statuses()}
        new_reader, new_writer = await harness.connect()
        new_writer.write(b"1")
        assert await new_reader.readexactly(5) == b"new:1"
        old_writer.write(b"2")
        assert await old_reader.readexactly(5) == b"old:2"
        assert not harness.handlers["old"].closed
        assert await asyncio.wait_for(old_reader.read(), 5) == b"", "cut when the drain time is over"
        assert harness.handlers["old"].closed
        assert {status.state for status in harness.manager.statuses()} == {ListenerState.ACTIVE}
        for writer in (old_writer, new_writer):
            writer.close()


async def test_a_removed_listener_refuses_connections_and_serves_the_ones_it_has() -> None:
    async with listening(listener(chain("only"))) as harness:
        port = harness.port()
        reader, writer = await harness.connect()
        writer.write(b"1")
        await reader.readexactly(6)
        harness.serve()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"2")
        assert await reader.readexactly(6) == b"only:2"
        again = SocketAddress("127.0.0.1", port)
        harness.serve(listener(chain("again"), address=again))
        new_reader, new_writer = await harness.connect()
        new_writer.write(b"3")
        assert await new_reader.readexactly(7) == b"again:3"
        for each in (writer, new_writer):
            each.close()


async def test_a_port_in_use_is_named_and_harms_no_other_listener() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = SocketAddress(*taken.getsockname())
        async with listening() as harness:
            errors = harness.manager.update(
                snapshot(
                    listener(chain("a"), name="blocked", address=address), listener(chain("b"), name="free")
                )
            )
            assert list(errors) == ["blocked"]
            text = str(errors["blocked"])
            assert "'blocked'" in text
            assert str(address) in text
            assert "Address already in use" in text
            reader, writer = await harness.connect("free")
            writer.write(b"x")
            assert await reader.readexactly(3) == b"b:x"
            writer.close()


async def test_two_listeners_cannot_have_one_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = SocketAddress(*probe.getsockname())
    async with listening() as harness:
        errors = harness.manager.update(
            snapshot(
                listener(chain("a"), name="first", address=address),
                listener(chain("b"), name="second", address=address),
            )
        )
        assert list(errors) == ["second"]
        assert "'first'" in str(errors["second"])


async def test_a_broken_change_leaves_the_listener_as_it_was() -> None:
    async with listening(listener(chain("good"))) as harness:
        without_certificate = chain("x", tls=DownstreamTls(parameters=TlsParameters()))
        errors = harness.manager.update(snapshot(listener(without_certificate)))
        assert "a TLS server needs a certificate" in str(errors["inbound"])
        reader, writer = await harness.connect()
        writer.write(b"x")
        assert await reader.readexactly(6) == b"good:x"
        writer.close()


async def test_a_renamed_listener_takes_the_socket_over_without_a_refused_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = SocketAddress(*probe.getsockname())
    async with listening(listener(chain("a"), name="before", address=address)) as harness:
        backlog = [socket.create_connection((address.host, address.port)) for _ in range(20)]
        harness.serve(listener(chain("b"), name="after", address=address))
        reader, writer = await harness.connect("after")
        writer.write(b"x")
        assert await reader.readexactly(3) == b"b:x"
        await eventually(lambda: harness.manager.active_connections == 21)
        writer.close()
        for client in backlog:
            client.close()


async def test_listeners_can_swap_their_addresses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        first, second = SocketAddress(*one.getsockname()), SocketAddress(*two.getsockname())
    a, b = chain("a"), chain("b")
    async with listening(
        listener(a, name="a", address=first), listener(b, name="b", address=second)
    ) as harness:
        harness.serve(listener(a, name="a", address=second), listener(b, name="b", address=first))
        reader, writer = await asyncio.open_connection(first.host, first.port)
        writer.write(b"x")
        assert await reader.readexactly(3) == b"b:x"
        writer.close()


async def test_a_listener_warms_until_its_routes_are_there() -> None:
    warming = listener(
        dataclasses.replace(
            chain("rds"), filter=dataclasses.replace(http("rds"), route_config=None, rds_name="9080")
        )
    )
    async with listening() as harness:
        assert not harness.manager.update(snapshot(warming))
        assert [status.state for status in harness.manager.statuses()] == [ListenerState.WARMING]
        routes = {"9080": http("9080").route_config}
        harness.manager.update(Snapshot(listeners={"inbound": warming}, routes=routes))
        assert [status.state for status in harness.manager.statuses()] == [ListenerState.ACTIVE]
        _, writer = await harness.connect()
        writer.close()


# Hand-over by original destination.


async def test_a_redirected_connection_is_handed_to_the_listener_of_its_destination(monkeypatch) -> None:
    destination = SocketAddress("10.96.0.7", 9080)
    monkeypatch.setattr(
        "sidecar.listener.active_listener.original_destination", lambda sock, local: destination
    )
    virtual = listener(chain("passthrough"), name="virtualOutbound", use_original_dst=True)
    exact = listener(chain("exact"), name="10.96.0.7_9080", address=destination, bind_to_port=False)
    wildcard = listener(
        chain("wildcard"), name="0.0.0.0_9080", address=SocketAddress("0.0.0.0", 9080), bind_to_port=False
    )

    async def who_answers(harness) -> bytes:
        reader, writer = await harness.connect("virtualOutbound")
        writer.write(b"x")
        name = await reader.readuntil(b":")
        writer.close()
        return name

    async with listening(virtual, exact, wildcard) as harness:
        assert await who_answers(harness) == b"exact:"
        (connection,) = harness.handlers["exact"].connections
        assert connection.original_destination == destination
        harness.serve(virtual, wildcard)
        assert await who_answers(harness) == b"wildcard:"
        harness.serve(virtual)
        assert await who_answers(harness) == b"passthrough:"


# Draining.


async def test_drain_tells_the_handlers_and_goes_on_accepting() -> None:
    async with listening(listener(chain("only"))) as harness:
        harness.manager.drain()
        assert harness.handlers["only"].drained
        reader, writer = await harness.connect()
        writer.write(b"x")
        assert await reader.readexactly(6) == b"only:x"
        writer.close()


async def test_stopping_one_direction_closes_its_listeners_alone() -> None:
    inbound = listener(chain("in"), direction=TrafficDirection.INBOUND)
    outbound = listener(chain("out"), name="outbound", direction=TrafficDirection.OUTBOUND)
    async with listening(inbound, outbound) as harness:
        port = harness.port()
        harness.manager.stop((TrafficDirection.INBOUND,))
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        _, writer = await harness.connect("outbound")
        writer.close()


async def test_close_ends_connections_that_are_still_being_set_up() -> None:
    async with listening(SNIFFING) as harness:
        reader, writer = await harness.connect()
        await eventually(lambda: harness.manager.active_connections == 1)
        await harness.manager.close()
        assert await read_to_end(reader) == b""
        writer.close()


async def test_connections_beyond_the_limit_of_descriptors_are_closed_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (4, 4))
    async with listening(listener(chain("only"))) as harness:
        reader, writer = await harness.connect()
        assert await read_to_end(reader) == b""
        stats = harness.stats.listener("127.0.0.1_0")
        assert (stats.downstream_cx_overflow, stats.downstream_cx_total) == (1, 0)
        writer.close()


async def test_accepting_pauses_when_descriptors_run_out_and_comes_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Exhausted(socket.socket):
        """Has no descriptor left when it is asked for the first time."""

        asked = 0

        def accept(self) -> tuple[socket.socket, Any]:
            self.asked += 1
            if self.asked == 1:
                raise OSError(errno.EMFILE, "Too many open files")
            return super().accept()

    accepted: list[socket.socket] = []
    with Exhausted() as listening_socket:
        listening_socket.bind(("127.0.0.1", 0))
        listening_socket.listen()
        listening_socket.setblocking(False)
        bound = ListenSocket(listening_socket, lambda sock, _: accepted.append(sock), exhausted_pause_s=0.05)
        with socket.create_connection(listening_socket.getsockname()):
            await eventually(lambda: len(accepted) == 1)
        assert listening_socket.asked == 3, "a failure, the connection, and no other"
        bound.close()
    accepted[0].close()
    assert "accepting pauses" in caplog.text


async def test_faults_of_peers_do_not_reach_the_error_log(caplog) -> None:
    loop = asyncio.get_running_loop()
    quiet_peer_faults(loop)
    loop.call_exception_handler(
        {"message": "SSL error", "exception": ssl.SSLError(1, "bad record mac"), "transport": object()}
    )
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    loop.call_exception_handler({"message": "a bug", "exception": ValueError("ours")})
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_a_manager_knows_the_addresses_that_lead_back_to_it() -> None:
    unbound = listener(chain("u"), name="unbound", bind_to_port=False, address=SocketAddress("127.0.0.1", 7))
    async with listening(listener(chain("a")), unbound) as harness:
        port = harness.port()
        for host in ("127.0.0.1", "::1", "0.0.0.0"):
            assert harness.manager.listens_on(SocketAddress(host, port))
        assert not harness.manager.listens_on(SocketAddress("127.0.0.1", 7)), "that is the application's"
        assert not harness.manager.listens_on(SocketAddress("192.0.2.1", port)), "that is another machine's"
