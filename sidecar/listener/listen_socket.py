"""A bound socket and its accept loop."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable
from typing import Final

from sidecar.config.endpoint import SocketAddress
from sidecar.config.listener import Listener
from sidecar.errors import ConfigError
from sidecar.listener.original_dst import plain_address
from sidecar.transport.transparent import make_transparent

_LOG = logging.getLogger(__name__)

_BACKLOG: Final = 4096  # limited by net.core.somaxconn
# One wake-up accepts a burst, but leaves time for the open connections.
_ACCEPTS_PER_WAKE_UP: Final = 64
# Out of descriptors or memory: the clients wait in the backlog.
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


OpenSocket = Callable[[Listener], socket.socket]
"""Returns a bound socket. Raises `ConfigError` that names the listener and the address."""
OnAccept = Callable[[socket.socket, SocketAddress], None]


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
    """Accepts until closed, and passes each connection to ``on_accept``, which may be replaced."""

    def __init__(
        self,
        sock: socket.socket,
        listener: Listener,
        on_accept: OnAccept,
        *,
        exhausted_pause_s: float = 1.0,
    ) -> None:
        """``exhausted_pause_s``: how long nothing is accepted after descriptors or memory ran out. Raises
        `ConfigError` if the bound socket cannot listen; then it is closed."""
        try:
            _listen(sock, listener)
        except ConfigError:
            sock.close()
            raise
        self._sock: Final = sock
        self._exhausted_pause_s: Final = exhausted_pause_s
        self._loop: Final = asyncio.get_running_loop()
        self._paused: asyncio.TimerHandle | None = None
        self.on_accept = on_accept
        host, port = sock.getsockname()[:2]
        self.address: Final = SocketAddress(host, port)
        self._loop.add_reader(sock.fileno(), self._accept)

    def close(self) -> None:
        if self._sock.fileno() < 0:
            return
        if self._paused is not None:
            self._paused.cancel()
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_PER_WAKE_UP):
            try:
                sock, remote = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                continue  # the client left before it was accepted
            except OSError as error:
                self._pause(error)
                return
            sock.setblocking(False)
            self.on_accept(sock, plain_address(*remote[:2]))

    def _pause(self, error: OSError) -> None:
        if error.errno not in _EXHAUSTED:
            raise error
        pause_s = self._exhausted_pause_s
        _LOG.warning("%s: accepting pauses for %.0f s: %s", self.address, pause_s, error.strerror)
        self._loop.remove_reader(self._sock.fileno())
        self._paused = self._loop.call_later(pause_s, self._resume)

    def _resume(self) -> None:
        self._paused = None
        self._loop.add_reader(self._sock.fileno(), self._accept)


def is_local(host: str) -> bool:
    """Whether an IP address belongs to this machine: a socket can be bound only to such an address."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True
