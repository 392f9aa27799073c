"""TCP keepalive of connections to hosts. Source: ``upstream_connection_options.tcp_keepalive`` of
``envoy.config.cluster.v3.Cluster``."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

from sidecar.config.cluster import TcpKeepalive

_MAX_INT: Final = 2**31 - 1  # the maximum of a socket option; Envoy's fields allow more


def set_tcp_keepalive(transport: asyncio.Transport, keepalive: TcpKeepalive) -> None:
    """Closes the connection and raises ``OSError`` if the kernel does not accept a value."""
    connection = transport.get_extra_info("socket")
    if connection is None:  # already closed: `connection_lost` was called
        return
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (
            (socket.TCP_KEEPCNT, keepalive.probes),
            (socket.TCP_KEEPIDLE, keepalive.time_s),
            (socket.TCP_KEEPINTVL, keepalive.interval_s),
        ):
            if value is not None:
                connection.setsockopt(socket.IPPROTO_TCP, option, min(value, _MAX_INT))
    except OSError:
        transport.abort()
        raise
