"""A c-ares channel on the event loop: its sockets and its timeouts.

c-ares reads ``/etc/resolv.conf``, ``/etc/nsswitch.conf`` and ``/etc/hosts`` when a channel is made, and then
caches answers for their TTL, which its Python binding cannot turn off. A channel therefore serves the
look-ups of one second, and none for a name that it has in its cache; the next channel reads the files again.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, TypeAlias

import pycares

from sidecar.config.dns import DnsResolver
from sidecar.errors import NameResolutionError

Found: TypeAlias = pycares.AddrInfoResult | NameResolutionError | None
"""None: the name does not exist, or has no address of the family."""

_NOT_THERE = frozenset((pycares.errno.ARES_ENODATA, pycares.errno.ARES_ENOTFOUND))
# Far above any useful value, and within the range of a C int.
_MAX_QUERY_TIMEOUT_S = 3600.0
_MAX_TRIES = 1000
# The servers of c-ares if the system configures none.
NO_SERVERS = ["127.0.0.1:53"]


class Channel:
    """A context manager for each look-up. After `retire`, the end of the last one closes it. Raises
    `NameResolutionError` if c-ares refuses the settings."""

    def __init__(self, config: DnsResolver, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pending = 0
        self._users = 0
        self._retired = False
        self._closed = False
        self._known: set[str] = set()
        self._readers: set[int] = set()
        self._writers: set[int] = set()
        self._timer: asyncio.TimerHandle | None = None
        try:
            self._ares = pycares.Channel(
                flags=_flags(config),
                timeout=min(config.query_timeout_s, _MAX_QUERY_TIMEOUT_S),
                tries=min(config.query_tries, _MAX_TRIES),
                rotate=config.rotate,
                sock_state_cb=self._watch,
            )
            self._ares.servers = servers(config, self._ares.servers)
        except pycares.AresError as error:
            raise NameResolutionError(f"the resolver cannot be set up: {error}") from error

    def __enter__(self) -> Channel:
        self._users += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._users -= 1
        if self._retired and not self._users:
            self.close()

    def look_up(self, name: str, family: socket.AddressFamily, flags: int) -> asyncio.Future[Found]:
        """The future never has an exception: its caller may have been cancelled, and would not retrieve
        it."""
        future: asyncio.Future[Found] = self._loop.create_future()

        def ended(result: pycares.AddrInfoResult | None, error: int | None) -> None:
            self._pending -= 1
            self._known.add(name)
            if future.done():
                pass  # the caller was cancelled
            elif error is None or error in _NOT_THERE:
                future.set_result(result)
            else:
                future.set_result(NameResolutionError(pycares.errno.strerror(error)))

        if self._closed:
            future.set_result(NameResolutionError("the proxy is being stopped"))
            return future
        if "\0" in name:  # c-ares would take the part before it for the name
            future.set_result(NameResolutionError(f"{name!r} is not a host name"))
            return future
        self._pending += 1
        try:
            self._ares.getaddrinfo(name, None, family=family, flags=flags, callback=ended)
        except ValueError as error:  # a name that cannot be encoded
            self._pending -= 1
            if not future.done():
                future.set_result(NameResolutionError(f"{name!r} is not a host name: {error}"))
        self._schedule()
        return future

    def knows(self, name: str) -> bool:
        """Whether c-ares may answer without asking a server."""
        return name in self._known

    def retire(self) -> None:
        """Closes the channel as soon as no look-up uses it. Look-ups that were given up end with it."""
        self._retired = True
        if not self._users:
            self.close()

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Active look-ups fail."""
        if self._closed:
            return
        # Here, because the thread of `pycares` would call back from that thread.
        self._ares.cancel()
        self._closed = True
        for fd in self._readers:
            self._loop.remove_reader(fd)
        for fd in self._writers:
            self._loop.remove_writer(fd)
        if self._timer is not None:
            self._timer.cancel()
        self._ares.close()

    def _watch(self, fd: int, readable: int, writable: int) -> None:
        """c-ares calls this when it has to read from or write to a socket, or neither before it closes it. It
        passes the integers 0 and 1."""
        if self._closed:
            return
        _follow(fd, readable, self._readers, self._loop.add_reader, self._loop.remove_reader, self._read)
        _follow(fd, writable, self._writers, self._loop.add_writer, self._loop.remove_writer, self._write)

    def _read(self, fd: int) -> None:
        self._ares.process_fd(fd, pycares.ARES_SOCKET_BAD)
        self._schedule()

    def _write(self, fd: int) -> None:
        self._ares.process_fd(pycares.ARES_SOCKET_BAD, fd)
        self._schedule()

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pending and not self._closed:
            self._timer = self._loop.call_later(max(self._next_timeout_s(), 0.001), self._time_out)

    def _next_timeout_s(self) -> float:
        return float(self._ares.timeout())  # type: ignore[no-untyped-call]

    def _time_out(self) -> None:
        self._timer = None
        self._ares.process_fd(pycares.ARES_SOCKET_BAD, pycares.ARES_SOCKET_BAD)
        self._schedule()


def servers(config: DnsResolver, of_system: list[str]) -> list[str]:
    """The name servers, as ``ADDRESS:PORT``."""
    if not config.servers or (config.servers_are_fallback and of_system != NO_SERVERS):
        return of_system
    return [str(server) for server in config.servers]


def _flags(config: DnsResolver) -> int:
    flags = int(pycares.ARES_FLAG_EDNS)  # the default of c-ares
    if config.use_tcp:
        flags |= int(pycares.ARES_FLAG_USEVC)
    if not config.search:
        flags |= int(pycares.ARES_FLAG_NOSEARCH)
    return flags


def _follow(
    fd: int,
    wanted: int,
    watched: set[int],
    add: Callable[..., Any],
    remove: Callable[[int], Any],
    callback: Callable[[int], None],
) -> None:
    if wanted and fd not in watched:
        watched.add(fd)
        add(fd, callback, fd)
    elif not wanted and fd in watched:
        watched.discard(fd)
        remove(fd)
