"""The addresses of a gRPC server. A name server that does not answer does not keep a sidecar from a control
plane that it has found before."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from sidecar.config.endpoint import SocketAddress
from sidecar.grpc.errors import GrpcError
from sidecar.grpc_status import GrpcStatus

LookUp = Callable[[SocketAddress], Awaitable[list[str]]]

# How long a look-up may take, or fail, before the last answer is used instead.
_PATIENCE_S: Final = 1.0


class Addresses:
    """Remembers the last answer for each name: a sidecar calls only the servers in its configuration."""

    def __init__(self, look_up: LookUp, *, patience_s: float = _PATIENCE_S) -> None:
        """``look_up`` raises ``OSError`` or ``ValueError`` for a name that cannot be resolved."""
        self._look_up: Final = look_up
        self._patience_s: Final = patience_s
        self._known: Final[dict[SocketAddress, list[str]]] = {}
        self._asking: Final[dict[SocketAddress, asyncio.Future[list[str]]]] = {}

    async def of(self, address: SocketAddress) -> list[str]:
        """Raises `GrpcError` for a name that cannot be resolved, and never was."""
        known = self._known.get(address)
        asked = self._ask(address)
        try:
            async with asyncio.timeout(None if known is None else self._patience_s):
                return await asyncio.shield(asked)
        except (OSError, ValueError) as error:  # a `TimeoutError` is an `OSError`
            if known is not None:
                return known
            raise GrpcError(GrpcStatus.UNAVAILABLE, f"cannot resolve {address.host}: {error}") from None

    def _ask(self, address: SocketAddress) -> asyncio.Future[list[str]]:
        """One look-up at a time for each name: each takes a thread, which cannot be stopped."""
        asked = self._asking.get(address)
        if asked is None or asked.get_loop() is not asyncio.get_running_loop():
            asked = self._asking[address] = asyncio.ensure_future(self._look_up(address))
            asked.add_done_callback(lambda done: self._note(address, done))
        return asked

    def _note(self, address: SocketAddress, asked: asyncio.Future[list[str]]) -> None:
        if self._asking.get(address) is asked:
            del self._asking[address]
        if not asked.cancelled() and asked.exception() is None:
            self._known[address] = asked.result()


async def system_look_up(address: SocketAddress) -> list[str]:
    """The system's resolver. Raises ``OSError`` and ``ValueError``."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(each[4][0]) for each in found))
