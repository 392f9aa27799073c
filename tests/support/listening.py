"""A listener manager on loopback, whose handlers answer with their arguments."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

from sidecar.config.endpoint import SocketAddress
from sidecar.config.listener import FilterChain, FilterChainMatch, HttpConnectionManager, Listener, TcpProxy
from sidecar.config.route import RouteConfiguration, WeightedCluster
from sidecar.config.snapshot import Snapshot
from sidecar.config.tls import DownstreamTls
from sidecar.identity.contexts import TlsContexts
from sidecar.listener.manager import ListenerManager, ListenerSettings
from sidecar.listener.original_dst import OriginalDestination, original_destination
from sidecar.observability.stats import Stats
from sidecar.observability.stream_info import DownstreamConnection
from sidecar.timers import Timers

DEFAULTS = ListenerSettings()
ANYTHING = FilterChainMatch()
LOOPBACK = SocketAddress("127.0.0.1", 0)


class EchoHandler:
    """A `ConnectionHandler`: greets with its name if required, then sends back the received bytes."""

    def __init__(self, name: str, *, speaks_first: bool = False) -> None:
        self.name = name
        self.speaks_first = speaks_first
        self.connections: list[DownstreamConnection] = []
        self.open: set[_Echo] = set()
        self.drained = False
        self.closed = False

    @property
    def active_connections(self) -> int:
        return len(self.open)

    def protocol(self, connection: DownstreamConnection) -> asyncio.Protocol:
        self.connections.append(connection)
        return _Echo(self)

    def drain(self) -> None:
        self.drained = True

    def close(self) -> None:
        self.closed = True
        for echo in tuple(self.open):
            echo.transport.close()


class _Echo(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, handler: EchoHandler) -> None:
        self._handler = handler

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._handler.open.add(self)
        if self._handler.speaks_first:
            transport.write(f"{self._handler.name} speaks first\n".encode())

    def data_received(self, data: bytes) -> None:
        self.transport.write(f"{self._handler.name}:".encode() + data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._handler.open.discard(self)


class Harness:
    """A manager, and the handlers it made by the stat prefix of their filter (the latest of that name)."""

    def __init__(
        self,
        contexts: TlsContexts,
        settings: ListenerSettings,
        redirects: OriginalDestination,
        *,
        speaks_first: bool,
    ) -> None:
        self.handlers: dict[str, EchoHandler] = {}
        self.made: list[EchoHandler] = []
        self.stats = Stats()
        self.timers = Timers(asyncio.get_running_loop())
        self.speaks_first = speaks_first
        self.manager = ListenerManager(
            contexts=contexts,
            make_http=self._make,
            make_tcp=self._make,
            stats=self.stats,
            timers=self.timers,
            settings=settings,
            original_destination=redirects,
        )

    def _make(self, config: HttpConnectionManager | TcpProxy, listener: Listener) -> EchoHandler:
        handler = self.handlers[config.stat_prefix] = EchoHandler(
            config.stat_prefix, speaks_first=self.speaks_first
        )
        self.made.append(handler)
        return handler

    def serve(self, *listeners: Listener) -> None:
        errors = self.manager.update(snapshot(*listeners))
        assert not errors, errors

    def port(self, name: str = "inbound") -> int:
        return next(status.address.port for status in self.manager.statuses() if status.name == name)

    async def connect(self, name: str = "inbound") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port(name))


@asynccontextmanager
async def listening(
    *listeners: Listener,
    contexts: TlsContexts | None = None,
    settings: ListenerSettings = DEFAULTS,
    redirects: OriginalDestination = original_destination,
    speaks_first: bool = False,
) -> AsyncIterator[Harness]:
    harness = Harness(contexts or TlsContexts(), settings, redirects, speaks_first=speaks_first)
    try:
        harness.serve(*listeners)
        yield harness
    finally:
        await harness.manager.close()
        await eventually(lambda: not any(handler.open for handler in harness.made))
        harness.timers.close()


def listener(*chains: FilterChain, name: str = "inbound", **options: Any) -> Listener:
    return Listener(name=name, address=options.pop("address", LOOPBACK), filter_chains=chains, **options)


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    """The bytes before the end of the connection; one that is closed with bytes unread ends by a reset."""
    try:
        return await asyncio.wait_for(reader.read(), 5)
    except ConnectionResetError:
        return b""


def snapshot(*listeners: Listener) -> Snapshot:
    return Snapshot(listeners={listener.name: listener for listener in listeners})


def http(name: str) -> HttpConnectionManager:
    return HttpConnectionManager(
        stat_prefix=name, route_config=RouteConfiguration(name=name, virtual_hosts=())
    )


def tcp(name: str) -> TcpProxy:
    return TcpProxy(stat_prefix=name, clusters=(WeightedCluster(name=name),))


def chain(
    name: str,
    match: FilterChainMatch = ANYTHING,
    tls: DownstreamTls | None = None,
) -> FilterChain:
    return FilterChain(name=name, match=match, tls=tls, filter=http(name))


async def as_soon_as(condition: Callable[[], bool], deadline_s: float = 5.0) -> None:
    """Like `eventually`, but looks in every turn of the loop: returns before what the condition announces can
    go much further."""
    async with asyncio.timeout(deadline_s):
        while not condition():
            await asyncio.sleep(0)


async def eventually(condition: Callable[[], bool], deadline_s: float = 10.0) -> None:
    """Waits until `condition` holds, which other callbacks of the loop bring about."""
    async with asyncio.timeout(deadline_s):
        while not condition():
            await asyncio.sleep(0.002)
