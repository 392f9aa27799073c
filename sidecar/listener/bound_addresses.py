"""The listening sockets of all listeners, by address. A socket stays open when another listener takes over
the address of a removed one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sidecar.config.endpoint import SocketAddress
from sidecar.config.listener import Listener
from sidecar.errors import ConfigError
from sidecar.listener.listen_socket import ListenSocket, OnAccept, OpenSocket

BindKey = tuple[str, SocketAddress, bool, bool]
"""Listeners with the same key use the same socket."""


class Claims:
    """Finds listeners of one snapshot with the same address."""

    def __init__(self) -> None:
        self._owners: dict[BindKey, str] = {}

    def add(self, listener: Listener) -> None:
        """Raises `ConfigError` when another listener has the address."""
        owner = self._owners.setdefault(bind_key(listener), listener.name)
        if owner != listener.name:
            raise ConfigError(
                "address",
                f"listener {listener.name!r}: {listener.address} is also the address of {owner!r}",
            )


class BoundAddresses:
    """``open_socket`` returns the socket of an address that is not bound yet."""

    def __init__(self, open_socket: OpenSocket) -> None:
        self._open_socket: Final = open_socket
        self._sockets: dict[BindKey, ListenSocket] = {}

    def listen(self, listener: Listener, on_accept: OnAccept) -> None:
        """Binds, or takes over the socket that is already bound. Raises `ConfigError`."""
        bound = self._sockets.get(bind_key(listener))
        if bound is not None:
            bound.on_accept = on_accept
        else:
            sock = self._open_socket(listener)
            self._sockets[bind_key(listener)] = ListenSocket(sock, listener, on_accept)

    def address_of(self, listener: Listener) -> SocketAddress:
        """Returns the address, with the real port if the configured one is 0."""
        bound = self._sockets.get(bind_key(listener)) if listener.bind_to_port else None
        return listener.address if bound is None else bound.address

    def keep_only(self, listeners: Iterable[Listener]) -> None:
        """Closes the sockets of all others."""
        kept = {bind_key(listener) for listener in listeners if listener.bind_to_port}
        for key in self._sockets.keys() - kept:
            self._sockets.pop(key).close()


def bind_key(listener: Listener) -> BindKey:
    """Port 0 means a different port for each listener. The options of a bound socket cannot change."""
    name = "" if listener.address.port else listener.name
    return (name, listener.address, listener.transparent, listener.ipv4_compat)
