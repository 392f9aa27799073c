"""A port of the sidecar itself (admin, readiness, metrics), served by the data path's codec."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import socket
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import cast

from sidecar.config.endpoint import SocketAddress
from sidecar.config.listener import HttpConnectionManager
from sidecar.errors import BootstrapError
from sidecar.http.codec import server_codec
from sidecar.http.connection_manager import ConnectionManager
from sidecar.http.message import Service
from sidecar.observability.stats import HttpConnectionManagerStats
from sidecar.observability.stream_info import DownstreamConnection
from sidecar.timers import Timers

_LOG = logging.getLogger(__name__)

_HEADERS_TIMEOUT_S = 10.0
_IDLE_TIMEOUT_S = 120.0
_NO_SUCH_FAMILY = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})


class LocalPort:
    """`open` and `close` it. Its requests are not counted in the mesh's metrics."""

    def __init__(self, name: str, service: Service, timers: Timers) -> None:
        self._name = name
        config = HttpConnectionManager(
            stat_prefix=name,
            server_name="outrigger",
            request_headers_timeout_s=_HEADERS_TIMEOUT_S,
            idle_timeout_s=_IDLE_TIMEOUT_S,
        )
        self._manager = ConnectionManager(
            config, service, HttpConnectionManagerStats(), codec=server_codec, timers=timers
        )
        self._ids = count(1)
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
                    f"{self._name}: cannot listen on {address}: {error.strerror or error}"
                ) from error
            server = await asyncio.get_running_loop().create_server(
                lambda: _Arrival(self._manager, next(self._ids)), sock=sock
            )
            self._servers.append(server)
            bound.append(SocketAddress(*sock.getsockname()[:2]))
        return bound[0]

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

    def __init__(self, manager: ConnectionManager, connection_id: int) -> None:
        self._manager = manager
        self._id = connection_id

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        remote, local = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        protocol = self._manager.protocol(
            DownstreamConnection(
                id=self._id,
                remote_address=SocketAddress(remote[0], remote[1]),
                local_address=SocketAddress(local[0], local[1]),
            )
        )
        cast(asyncio.Transport, transport).set_protocol(protocol)
        protocol.connection_made(transport)
