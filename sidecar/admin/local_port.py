"""A port of the sidecar itself (admin, readiness, metrics), served by the data path's codec."""

from __future__ import annotations

import asyncio
from itertools import count
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

_HEADERS_TIMEOUT_S = 10.0
_IDLE_TIMEOUT_S = 120.0


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
        self._server: asyncio.Server | None = None

    async def open(self, address: SocketAddress) -> SocketAddress:
        """Returns the bound address; port 0 means any free port. Raises `BootstrapError`."""
        try:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: _Arrival(self._manager, next(self._ids)), address.host, address.port
            )
        except OSError as error:
            raise BootstrapError(f"{self._name}: cannot listen on {address}: {error.strerror}") from error
        host, port = self._server.sockets[0].getsockname()[:2]
        return SocketAddress(host, port)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._manager.close()
            await self._manager.wait_closed()


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
