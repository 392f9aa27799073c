"""Listeners with real sockets: which filter chain serves a connection, and how connections end."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import resource
import socket
import ssl

import pytest

from sidecar.config.endpoint import SocketAddress
from sidecar.config.listener import FilterChainMatch
from sidecar.listener.faults import quiet_peer_faults
from tests.support.listening import (
    Harness,
    chain,
    eventually,
    listener,
    listening,
    read_to_end,
)

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])


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


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.2"])
async def test_the_local_address_is_the_one_that_the_client_has_called(host: str) -> None:
    async with listening(listener(chain("only"), address=SocketAddress(host, 0))) as harness:
        called = ["127.0.0.1", "127.0.0.2", "127.0.0.1"] if host == "0.0.0.0" else [host, host]
        writers = []
        for address in called:
            reader, writer = await asyncio.open_connection(address, harness.port())
            writers.append(writer)
            writer.write(b"x")
            await reader.readexactly(6)
        learned = [connection.local_address for connection in harness.handlers["only"].connections]
        assert learned == [SocketAddress(address, harness.port()) for address in called]
        for writer in writers:
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


async def test_a_redirected_connection_is_handed_to_the_listener_of_its_destination() -> None:
    destination = SocketAddress("10.96.0.7", 9080)
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

    async with listening(virtual, exact, wildcard, redirects=lambda sock, local: destination) as harness:
        assert await who_answers(harness) == b"exact:"
        (connection,) = harness.handlers["exact"].connections
        assert connection.original_destination == destination
        harness.serve(virtual, wildcard)
        assert await who_answers(harness) == b"wildcard:"
        harness.serve(virtual)
        assert await who_answers(harness) == b"passthrough:"


# Draining.


async def test_close_ends_connections_that_are_still_being_set_up() -> None:
    async with listening(SNIFFING) as harness:
        reader, writer = await harness.connect()
        await eventually(lambda: harness.manager.active_connections == 1)
        await harness.manager.close()
        assert await read_to_end(reader) == b""
        writer.close()


async def test_connections_beyond_the_limit_of_descriptors_are_closed_counted_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (4, 4))
    async with listening(listener(chain("only"))) as harness:
        reader, writer = await harness.connect()
        assert await read_to_end(reader) == b""
        stats = harness.stats.listener("127.0.0.1_0")
        assert (stats.downstream_cx_overflow, stats.downstream_cx_total) == (1, 0)
        assert "is refused: too few file descriptors" in caplog.text
        writer.close()


async def test_clients_are_refused_while_descriptors_run_out_and_served_again_later() -> None:
    async with listening(listener(chain("only"))) as harness:
        loop = asyncio.get_running_loop()
        assert await is_served(harness)
        await eventually(lambda: harness.manager.active_connections == 0)
        await asyncio.sleep(0)  # in which the loop closes the descriptor
        with socket.socket() as refused:
            refused.setblocking(False)
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free_descriptor(), hard))
            try:
                await loop.sock_connect(refused, ("127.0.0.1", harness.port()))
                assert await asyncio.wait_for(loop.sock_recv(refused, 1), 5) == b""
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert await is_served(harness)


async def is_served(harness: Harness) -> bool:
    reader, writer = await harness.connect()
    writer.write(b"x")
    answer = await asyncio.wait_for(reader.readexactly(6), 5)
    writer.close()
    return answer == b"only:x"


def lowest_free_descriptor() -> int:
    with socket.socket() as probe:
        return probe.fileno()


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


@pytest.mark.parametrize(("ports", "chosen"), [(range(65536), b"raw:"), (range(1), b"plain:")])
async def test_inspectors_do_not_look_at_connections_to_ports_for_which_they_are_disabled(
    ports: range, chosen: bytes
) -> None:
    disabled = dataclasses.replace(
        SNIFFING, ports_without_tls_inspector=(ports,), ports_without_http_inspector=(range(0), ports)
    )
    async with listening(disabled) as harness:
        reader, writer = await harness.connect()
        writer.write(b"GET / HTTP/1.1\r\n")
        assert await asyncio.wait_for(reader.readexactly(len(chosen)), 5) == chosen
        writer.close()
