"""The sockets of the DNS resolver, which only this pod can reach."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

from sidecar.dns.names import short_names
from sidecar.dns.resolver import Resolver
from sidecar.dns.streams import StreamConnections
from sidecar.errors import BootstrapError
from sidecar.observability.report import DnsReport, ResolvedHost

_LOG = logging.getLogger(__name__)

# Not a wildcard: it would answer from another address of the pod than the one that a query is redirected to,
# and the client would not accept the answer.
_LOOPBACK: Final = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
_NO_IPV6: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_TRIES: Final = 20
_BACKLOG: Final = 64


class DnsServer:
    """`open` and `close` it. It listens on both loopback addresses, over UDP and TCP, if the machine has
    them."""

    def __init__(self, resolver: Resolver, connections: StreamConnections | None = None) -> None:
        self.resolver: Final = resolver
        self.connections: Final = connections or StreamConnections(resolver)
        self._datagrams: list[asyncio.BaseTransport] = []
        self._streams: list[asyncio.Server] = []

    async def open(self, port: int) -> int:
        """Returns the port; 0 means any free one. Raises `BootstrapError`."""
        loop = asyncio.get_running_loop()
        port, bound = _bind(port)
        for datagrams, listening in bound:
            transport, _ = await loop.create_datagram_endpoint(
                partial(_Datagrams, self.resolver), sock=datagrams
            )
            self._datagrams.append(transport)
            self._streams.append(await loop.create_server(self.connections, sock=listening, backlog=_BACKLOG))
        passed_to = ", ".join(map(str, self.resolver.forwarder.upstreams))
        _LOG.info("DNS on port %d; other names are passed to %s", port, passed_to)
        return port

    def report(self) -> DnsReport:
        """For the admin interface."""
        resolver = self.resolver
        return DnsReport(
            has_table=resolver.names is not None,
            upstreams=tuple(map(str, resolver.forwarder.upstreams)),
            suffix=resolver.around.suffix,
            hosts=_hosts(resolver),
        )

    async def close(self) -> None:
        for transport in self._datagrams:
            transport.close()
        for server in self._streams:
            server.close()
        self.connections.close()
        await self.resolver.close()


def _hosts(resolver: Resolver) -> Iterator[ResolvedHost]:
    table = resolver.names.table.hosts if resolver.names is not None else {}
    for name, info in sorted(table.items()):
        yield ResolvedHost(
            name=name,
            addresses=info.v4 + info.v6,
            registry=info.registry,
            short_names=tuple(short_names(name, info, resolver.around)),
        )


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        self._resolver.receive(data, partial(self._reply, address), stream=False)

    def _reply(self, address: Any, response: bytes) -> None:
        if response and self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(response, address)

    def error_received(self, error: Exception) -> None:
        _LOG.debug("an answer could not be sent: %s", error)


_Pair = tuple[socket.socket, socket.socket]  # for datagrams, and for connections


def _bind(port: int) -> tuple[int, list[_Pair]]:
    """A free port must be free on each address, over UDP and TCP."""
    for tries_left in reversed(range(_TRIES if port == 0 else 1)):
        with ExitStack() as opened:
            try:
                pairs = list(_pairs(port, opened))
            except OSError as error:
                if tries_left:
                    continue
                raise BootstrapError(
                    f"DNS: cannot listen on port {port} of loopback: {error.strerror}"
                ) from error
            opened.pop_all()
            return int(pairs[0][0].getsockname()[1]), pairs
    raise AssertionError("the last try returns or raises")


def _pairs(port: int, opened: ExitStack) -> Iterator[_Pair]:
    for family, address in _LOOPBACK:
        try:
            datagrams = _bound(family, socket.SOCK_DGRAM, address, port)
        except OSError as error:
            if family is socket.AF_INET6 and error.errno in _NO_IPV6:
                return
            raise
        opened.callback(datagrams.close)
        port = datagrams.getsockname()[1]
        listening = _bound(family, socket.SOCK_STREAM, address, port)
        opened.callback(listening.close)
        yield datagrams, listening


def _bound(family: socket.AddressFamily, kind: socket.SocketKind, address: str, port: int) -> socket.socket:
    """Raises ``OSError``."""
    with ExitStack() as opened:
        made = opened.enter_context(socket.socket(family, kind))
        made.setblocking(False)
        if kind is socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        opened.pop_all()
        return made
