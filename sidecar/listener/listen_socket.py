"""A bound socket and its accept loop."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Final, cast

from sidecar.config.endpoint import SocketAddress
from sidecar.config.listener import Listener
from sidecar.errors import ConfigError
from sidecar.transport.transparent import make_transparent

_BACKLOG: Final = 4096  # limited by net.core.somaxconn


OpenSocket = Callable[[Listener], socket.socket]
"""Returns a bound socket. Raises `ConfigError` that names the listener and the address."""
OnAccept = Callable[[asyncio.Transport], None]


def bind(listener: Listener) -> socket.socket:
    """A bound socket. Raises `ConfigError`."""
    return _bind(listener, listener.address.port, share_port=False)


def bind_for_each(listener: Listener, processes: int) -> list[socket.socket]:
    """A bound socket for each of several processes. The kernel spreads connections over the sockets; if the
    listener does not have ``reuse_port``, the processes accept from one socket. Raises `ConfigError`."""
    if not listener.reuse_port:
        return [bind(listener)] * processes
    port = listener.address.port
    if port:
        # The kernel would also share the port with another program of this user, in silence.
        with bind(listener) as probe:
            _listen(probe, listener)
    sockets: list[socket.socket] = []
    try:
        for _ in range(processes):
            sockets.append(_bind(listener, port, share_port=True))
            port = sockets[0].getsockname()[1]
    except ConfigError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _bind(listener: Listener, port: int, *, share_port: bool) -> socket.socket:
    host = listener.address.host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not listener.ipv4_compat)
        if listener.transparent:
            make_transparent(sock)
        sock.bind((host, port))
    except (OSError, OverflowError) as error:
        sock.close()
        raise _cannot_bind(listener, error) from error
    return sock


def _listen(sock: socket.socket, listener: Listener) -> None:
    try:
        sock.listen(_BACKLOG)
    except OSError as error:
        raise _cannot_bind(listener, error) from error


def _cannot_bind(listener: Listener, error: OSError | OverflowError) -> ConfigError:
    reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    if listener.transparent and isinstance(error, PermissionError):
        reason += "; a transparent listener needs the capability NET_ADMIN"
    return ConfigError("address", f"listener {listener.name!r}: cannot bind {listener.address}: {reason}")


class ListenSocket:
    """Accepts until closed, and passes each connection to ``on_accept``, which may be replaced, and which
    gives it a protocol or aborts it. When the process has no descriptor left, libuv closes the connections
    that wait: clients are refused, as they are beyond the limit of the listeners."""

    def __init__(
        self,
        sock: socket.socket,
        listener: Listener,
        on_accept: OnAccept,
    ) -> None:
        """Raises `ConfigError` if the bound socket cannot listen; then it is closed."""
        try:
            _listen(sock, listener)
        except ConfigError:
            sock.close()
            raise
        self._sock: Final = sock
        self._server: asyncio.Server | None = None
        self.on_accept = on_accept
        host, port = sock.getsockname()[:2]
        self.address: Final = SocketAddress(host, port)
        self._starting: Final = asyncio.get_running_loop().create_task(self._start(), name="accept")

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        arrival = cast("asyncio.Protocol", _FirstProtocol(self))
        self._server = await loop.create_server(lambda: arrival, sock=self._sock, backlog=_BACKLOG)

    def close(self) -> None:
        self._starting.cancel()
        if self._server is not None:
            self._server.close()
        self._sock.close()


class _FirstProtocol:
    """The first protocol of each connection. It has no state, so one object serves all of a socket."""

    __slots__ = ("_socket",)

    def __init__(self, listen_socket: ListenSocket) -> None:
        self._socket = listen_socket

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._socket.on_accept(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection was refused."""

    def data_received(self, data: bytes) -> None:
        """Never called: the connection has another protocol by then, or is closed."""

    def eof_received(self) -> None:
        """As `data_received`."""


def is_local(host: str) -> bool:
    """Whether an IP address belongs to this machine: a socket can be bound only to such an address."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True
