"""A port of the sidecar itself (admin, readiness, metrics), served by the data path's codec."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import math
import os
import socket
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Final, cast

from sidecar.config.endpoint import SocketAddress
from sidecar.config.listener import HttpConnectionManager
from sidecar.errors import BootstrapError
from sidecar.http.codec import server_codec
from sidecar.http.connection_manager import ConnectionManager
from sidecar.http.message import Service
from sidecar.observability.stats import HttpConnectionManagerStats
from sidecar.observability.stream_info import DownstreamConnection, StreamInfo
from sidecar.timers import Timers

_LOG = logging.getLogger(__name__)

# Of each port; kubelets and Prometheus need a few.
MAX_CONNECTIONS: Final = 100
_REQUEST_TIMEOUT_S: Final = 10.0
_IDLE_TIMEOUT_S: Final = 120.0
_LOG_INTERVAL_S: Final = 60.0
_NO_SUCH_FAMILY: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})


class LocalPort:
    """`open` and `close` it. Its requests are not counted in the mesh's metrics.

    At `MAX_CONNECTIONS`, a new connection closes the oldest one: whoever opens many cannot keep the kubelet's
    next probe out. `overflow` counts the connections that were closed for that.
    """

    def __init__(self, name: str, service: Service, timers: Timers) -> None:
        self.name = name
        self.overflow = 0
        config = HttpConnectionManager(
            stat_prefix=name,
            server_name="outrigger",
            request_headers_timeout_s=_REQUEST_TIMEOUT_S,
            request_timeout_s=_REQUEST_TIMEOUT_S,
            idle_timeout_s=_IDLE_TIMEOUT_S,
        )
        self._manager = ConnectionManager(
            config,
            service,
            HttpConnectionManagerStats(),
            codec=server_codec,
            timers=timers,
            clock=timers.now_s,
            on_disconnect=(self._forget,),
        )
        self._ids = count(1)
        self._connections: dict[int, asyncio.Transport] = {}  # by id, in the order of their arrival
        self._log_after_s = -math.inf
        self._servers: list[asyncio.Server] = []

    async def open(self, *addresses: SocketAddress) -> SocketAddress:
        """Returns the first bound address; port 0 means any free port, the same for all. An address of a
        family that the machine does not have is left out, unless it is the only one. Raises
        `BootstrapError`."""
        bound: list[SocketAddress] = []
        for address in addresses:
            port = address.port or (bound[0].port if bound else 0)
            try:
                sock = _bind(SocketAddress(address.host, port))
            except OSError as error:
                if error.errno in _NO_SUCH_FAMILY and (bound or address is not addresses[-1]):
                    continue
                if bound and not address.port:  # the free port of one family is in use in the other
                    continue
                await self.close()
                raise BootstrapError(
                    f"{self.name}: cannot listen on {address}: {error.strerror or error}"
                ) from error
            server = await asyncio.get_running_loop().create_server(lambda: _Arrival(self._accept), sock=sock)
            self._servers.append(server)
            bound.append(SocketAddress(*sock.getsockname()[:2]))
        return bound[0]

    def _accept(self, transport: asyncio.Transport) -> asyncio.Protocol:
        """Returns the protocol of a new connection."""
        if len(self._connections) >= MAX_CONNECTIONS:
            self._close_oldest()
        remote, local = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        connection = DownstreamConnection(
            id=next(self._ids),
            remote_address=SocketAddress(remote[0], remote[1]),
            local_address=SocketAddress(local[0], local[1]),
        )
        self._connections[connection.id] = transport
        return self._manager.protocol(connection)

    def _close_oldest(self) -> None:
        self._connections.pop(next(iter(self._connections))).abort()
        self.overflow += 1
        now_s = self._manager.clock()
        if now_s >= self._log_after_s:
            self._log_after_s = now_s + _LOG_INTERVAL_S
            _LOG.warning(
                "%s: more than %d connections: the oldest is closed (%d so far)",
                self.name,
                MAX_CONNECTIONS,
                self.overflow,
            )

    def _forget(self, info: StreamInfo) -> None:
        self._connections.pop(info.connection.id, None)

    async def close(self) -> None:
        if self._servers:
            for server in self._servers:
                server.close()
            self._manager.close()
            await self._manager.wait_closed()


def everywhere(port: int | None) -> list[SocketAddress]:
    """All addresses of both families; none for None."""
    return [] if port is None else [SocketAddress("0.0.0.0", port), SocketAddress("::", port)]


def report_addresses(opened: Mapping[str, str], file: Path | None) -> None:
    """Logs the addresses by the names of the ports, and writes them to the file in one step. Raises
    `BootstrapError`."""
    _LOG.info("open: %s", ", ".join(f"{name} on {address}" for name, address in opened.items()))
    if file is None:
        return
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        unfinished.write_text(json.dumps(opened) + "\n")
        unfinished.replace(file)
    except OSError as error:
        raise BootstrapError(f"addresses file {file}: cannot be written: {error.strerror}") from error


def _bind(address: SocketAddress) -> socket.socket:
    """Raises `OSError`."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # IPv4 has a socket of its own
        sock.bind((address.host, address.port))
    except BaseException:
        sock.close()
        raise
    return sock


class _Arrival(asyncio.Protocol):
    """The protocol of a new connection until its addresses are known."""

    def __init__(self, accept: Callable[[asyncio.Transport], asyncio.Protocol]) -> None:
        self._accept = accept

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        protocol = self._accept(cast(asyncio.Transport, transport))
        cast(asyncio.Transport, transport).set_protocol(protocol)
        protocol.connection_made(transport)
