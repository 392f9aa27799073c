"""A TCP server of the agent's: a task for each connection, and none is left at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Converse = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def tcp_server(converse: Converse, address: str, port: int = 0) -> AsyncIterator[int]:
    """Gives the port. A connection ends when all is sent and its conversation returns, and without that
    where the conversation fails with an OSError, or the block ends."""
    conversations: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(converse, reader, writer), name=f"{address}:{port}")
        conversations.add(task)
        task.add_done_callback(conversations.discard)

    server = await asyncio.start_server(accept, address, port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in (ending := list(conversations)):
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)


async def serve(converse: Converse, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await converse(reader, writer)
        writer.close()
        await writer.wait_closed()
    except* OSError:
        pass  # the other side has closed the connection
    finally:
        writer.transport.abort()
