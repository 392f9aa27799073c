"""The handler of a filter chain's connections: an HTTP connection manager or a TCP proxy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from sidecar.config.listener import HttpConnectionManager, Listener, TcpProxy
from sidecar.observability.stream_info import DownstreamConnection


class ConnectionHandler(Protocol):
    """The terminal network filter of one filter chain. Lives as long as the chain has connections."""

    @property
    def active_connections(self) -> int: ...

    def protocol(self, connection: DownstreamConnection) -> asyncio.Protocol:
        """The protocol of a new connection, whose client is already authenticated."""

    def drain(self) -> None:
        """Asks clients to disconnect, and continues to serve them."""

    def close(self) -> None:
        """Closes all connections."""


MakeHttp = Callable[[HttpConnectionManager, Listener], ConnectionHandler]
MakeTcp = Callable[[TcpProxy, Listener], ConnectionHandler]
