"""An event loop for clusters without sockets: connections lead nowhere, time passes when a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tests.support.upstreams import FakeConnection
from tests.support.virtual_time import VirtualTime


class FakeNetwork(asyncio.AbstractEventLoop):
    """Every host accepts connections at once, unless it is in `refused`. `connections` are all that were
    opened: `codec` makes them."""

    def __init__(self, *, capacity: int = 1) -> None:
        self.capacity = capacity
        self.connections: list[FakeConnection] = []
        self.refused: set[tuple[str, int]] = set()
        self.clock = VirtualTime()
        self._loop = asyncio.get_running_loop()

    def codec(self, alpn: str) -> FakeConnection:
        connection = FakeConnection(self.capacity)
        self.connections.append(connection)
        return connection

    async def create_connection(
        self, protocol_factory: Callable[[], Any], host: Any = None, port: Any = None, **options: Any
    ) -> Any:
        if (host, port) in self.refused:
            raise ConnectionRefusedError
        return _Transport(), protocol_factory()

    def create_future(self) -> asyncio.Future[Any]:
        return self._loop.create_future()

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        return self._loop.create_task(coro, **options)

    def time(self) -> float:
        return self.clock.time()


class _Transport(asyncio.Transport):
    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("10.0.0.1", 40000) if name == "sockname" else default
