"""The open streams: who each one is, and the narrow door through which its responses leave."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final

import grpc

from controlplane.errors import ControlPlaneError, ProxyError
from controlplane.model.proxy import Proxy
from controlplane.xds.stream import Stream
from protos import type_urls

# As long as a proxy that does not read may hold up the worker that pushes to it.
WRITE_TIMEOUT_S: Final = 20.0


class ConnectionClosedError(ControlPlaneError):
    """The stream ended while something was to be sent on it."""


class WriteTimeoutError(ConnectionClosedError):
    """The proxy did not read what it was sent, and the stream was ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a stream ends, as the proxy is told."""

    code: grpc.StatusCode
    details: str = ""


class Connection:
    """One stream of one proxy. At most one response waits here, beside the one that is being written: a proxy
    that reads slowly holds up its own pushes and no memory."""

    def __init__(
        self,
        *,
        connection_id: str,
        proxy: Proxy,
        version: str,
        peer: str,
        stream: Stream[Any, Any],
        clock: Callable[[], float] = time.monotonic,
        write_timeout_s: float = WRITE_TIMEOUT_S,
    ) -> None:
        self.id: Final = connection_id
        self.proxy: Final = proxy
        self.version: Final = version
        self.peer: Final = peer
        self.stream: Final = stream
        self.connected_at: Final = clock()
        self.ended: Final[asyncio.Future[End]] = asyncio.get_running_loop().create_future()
        self.wake_up: asyncio.TimerHandle | None = None
        self._outbox: Final[asyncio.Queue[Any]] = asyncio.Queue(maxsize=1)
        self._write_timeout_s: Final = write_timeout_s
        self._hostnames: frozenset[str] | None = None

    async def send(self, response: object) -> None:
        """Hands a response over to the stream's writer. Raises `ConnectionClosedError` if nobody will ever read
        it."""
        if self.ended.done():
            raise ConnectionClosedError(f"{self.id}: the stream has ended")
        try:
            async with asyncio.timeout(self._write_timeout_s):
                await self._outbox.put(response)
        except TimeoutError:
            reason = f"{self.id} read nothing for {self._write_timeout_s:g} s"
            self.end(End(code=grpc.StatusCode.DEADLINE_EXCEEDED, details=reason))
            raise WriteTimeoutError(reason) from None

    async def next_response(self) -> object:
        return await self._outbox.get()

    def end(self, end: End) -> None:
        """The first reason counts."""
        if self.ended.done():
            return
        self.ended.set_result(end)
        if self.wake_up is not None:
            self.wake_up.cancel()
        # Makes room, so that a push that waits to hand over its response does not wait for its timeout.
        while not self._outbox.empty():
            self._outbox.get_nowait()

    def subscription_changed(self) -> None:
        self._hostnames = None

    def follows_any(self, hostnames: Collection[str], hostname_of: Callable[[str], str]) -> bool:
        """Is it subscribed to the endpoints of any of these services?"""
        if self._hostnames is None:
            endpoints = self.stream.watches.get(type_urls.ENDPOINT)
            names = endpoints.names if endpoints else ()
            self._hostnames = frozenset(map(hostname_of, names))
        return not self._hostnames.isdisjoint(hostnames)


class Connections:
    """Every open stream. A proxy may have several for a moment: it has reconnected before the old one was
    seen to be dead."""

    def __init__(self) -> None:
        self._by_id: Final[dict[str, Connection]] = {}
        self._opened = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Connection]:
        return iter(tuple(self._by_id.values()))

    def next_id(self, proxy: Proxy) -> str:
        self._opened += 1
        return f"{proxy.id}-{self._opened}"

    def add(self, connection: Connection) -> None:
        self._by_id[connection.id] = connection

    def remove(self, connection: Connection) -> None:
        self._by_id.pop(connection.id, None)

    def of_proxy(self, proxy_id: str) -> Connection:
        """A proxy's latest stream. Raises `ProxyError` if it has none."""
        for connection in reversed(self._by_id.values()):
            if proxy_id in (connection.proxy.id, connection.id):
                return connection
        raise ProxyError(f"no proxy {proxy_id!r} is connected")
