"""Passes TCP connections on to where the pods' network does not lead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.node_agent.tcp_server import tcp_server

CHUNK_BYTES = 65536


@asynccontextmanager
async def tcp_forwarder(address: str, target: str) -> AsyncIterator[str]:
    """Listens at a free port of the address, and gives `address:port`. A connection ends at once
    where the target, given as `host:port`, refuses one."""
    host, _, target_port = target.rpartition(":")

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward_reader, onward_writer = await asyncio.open_connection(host, int(target_port))
        try:
            async with asyncio.TaskGroup() as both_ways:
                both_ways.create_task(pump(reader, onward_writer))
                both_ways.create_task(pump(onward_reader, writer))
        finally:
            onward_writer.transport.abort()

    async with tcp_server(relay, address) as port:
        yield f"{address}:{port}"


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
