"""What serves a filter chain's connections: an HTTP connection manager or a TCP proxy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from sidecar.config.listener import HttpConnectionManager, Listener, TcpProxy
from sidecar.observability.stream_info import DownstreamConnection


class ConnectionHandler(Protocol):
    """The terminal network filter of one filter chain, for as long as that chain has connections."""

    @property
    def active_connections(self) -> int: ...

    def protocol(self, connection: DownstreamConnection) -> asyncio.Protocol:
        """What the transport of a new connection, already authenticated, calls."""

    def drain(self) -> None:
        """Lets clients know that they should leave, and goes on serving them."""

    def close(self) -> None:
        """Closes what is left."""


MakeHttp = Callable[[HttpConnectionManager, Listener], ConnectionHandler]
MakeTcp = Callable[[TcpProxy, Listener], ConnectionHandler]
