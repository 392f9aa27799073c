"""Connections that are passed on, and their ends."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.node_agent.forwarder import tcp_forwarder

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connect(target: str) -> Streams:
    host, _, port = target.rpartition(":")
    return await asyncio.open_connection(host, int(port))


def address_of(server: asyncio.Server) -> str:
    return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers when the caller has ended its side."""
    writer.write((await reader.read()).upper())
    writer.close()


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Then waits for the caller's end."""
    writer.write(b"hello")
    await reader.read()
    writer.close()


async def test_bytes_pass_both_ways_and_so_does_the_end_of_either() -> None:
    async with (
        await asyncio.start_server(shout, "127.0.0.1", 0) as server,
        tcp_forwarder("127.0.0.1", address_of(server)) as address,
    ):
        sent = b"all of it " * 100_000
        assert await exchange(address, sent) == sent.upper()


async def test_connections_end_at_once_until_the_target_is_back() -> None:
    server = await asyncio.start_server(shout, "127.0.0.1", 0)
    target = address_of(server)
    server.close()
    await server.wait_closed()
    async with tcp_forwarder("127.0.0.1", target) as address:
        assert await exchange(address, b"") == b""
        port = int(target.rpartition(":")[2])
        async with await asyncio.start_server(shout, "127.0.0.1", port):
            assert await exchange(address, b"back") == b"BACK"


async def test_at_the_end_all_connections_are_over() -> None:
    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        async with tcp_forwarder("127.0.0.1", address_of(server)) as address:
            reader, writer = await connect(address)
            assert await reader.readexactly(5) == b"hello"
        assert await reader.read() == b""
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await connect(address)


async def exchange(target: str, sent: bytes) -> bytes:
    reader, writer = await connect(target)
    writer.write(sent)
    writer.write_eof()
    received = await reader.read()
    writer.close()
    await writer.wait_closed()
    return received
