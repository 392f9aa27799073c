"""The listening sockets of all listeners, by address. A socket stays open when another listener takes over
the address of a removed one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sidecar.config.endpoint import SocketAddress
from sidecar.config.listener import Listener
from sidecar.errors import ConfigError
from sidecar.listener.listen_socket import ListenSocket, OnAccept, bind

_Key = tuple[str, SocketAddress, bool, bool]


class Claims:
    """Finds listeners of one snapshot with the same address."""

    def __init__(self) -> None:
        self._owners: dict[_Key, str] = {}

    def add(self, listener: Listener) -> None:
        """Raises `ConfigError` when another listener has the address."""
        owner = self._owners.setdefault(_key(listener), listener.name)
        if owner != listener.name:
            raise ConfigError(
                "address",
                f"listener {listener.name!r}: {listener.address} is also the address of {owner!r}",
            )


class BoundAddresses:
    """``share_ports``: several processes listen on each port, if the listener has ``reuse_port``."""

    def __init__(self, *, share_ports: bool) -> None:
        self._share_ports: Final = share_ports
        self._sockets: dict[_Key, ListenSocket] = {}

    def listen(self, listener: Listener, on_accept: OnAccept) -> None:
        """Binds, or takes over the socket that is already bound. Raises `ConfigError`."""
        bound = self._sockets.get(_key(listener))
        if bound is not None:
            bound.on_accept = on_accept
        else:
            sock = bind(listener, share_port=self._share_ports and listener.reuse_port)
            self._sockets[_key(listener)] = ListenSocket(sock, on_accept)

    def address_of(self, listener: Listener) -> SocketAddress:
        """Returns the address, with the real port if the configured one is 0."""
        bound = self._sockets.get(_key(listener)) if listener.bind_to_port else None
        return listener.address if bound is None else bound.address

    def keep_only(self, listeners: Iterable[Listener]) -> None:
        """Closes the sockets of all others."""
        kept = {_key(listener) for listener in listeners if listener.bind_to_port}
        for key in self._sockets.keys() - kept:
            self._sockets.pop(key).close()


def _key(listener: Listener) -> _Key:
    """Port 0 means a different port for each listener. The options of a bound socket cannot change."""
    name = "" if listener.address.port else listener.name
    return (name, listener.address, listener.transparent, listener.ipv4_compat)
