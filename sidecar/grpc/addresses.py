"""The addresses of a gRPC server that may have several replicas, in the order in which to try them.

A name server that does not answer does not keep a sidecar from a control plane that it has found before. A
replica that has failed is tried after the others.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from sidecar.config.endpoint import Endpoint, HealthStatus, SocketAddress
from sidecar.grpc.errors import GrpcError
from sidecar.grpc_status import GrpcStatus

LookUp = Callable[[SocketAddress], Awaitable[list[str]]]

# How long a look-up may take, or fail, before the last answer or the other names are used instead.
_PATIENCE_S: Final = 1.0
# How long a replica may take to answer before calls that begin meanwhile go to others. A request for a
# certificate is repeated after 1 s at the earliest (`RotationPolicy`).
_ANSWER_PATIENCE_S: Final = 0.5
# After this time, a replica that has failed is tried like the others again.
_FAILURE_S: Final = 60.0
_HEALTHY: Final = frozenset({HealthStatus.UNKNOWN, HealthStatus.HEALTHY})


@dataclass(frozen=True, slots=True)
class Replica:
    """``name`` is the endpoint's host in the configuration, which TLS expects in the certificate by
    default."""

    address: SocketAddress
    name: str


class Addresses:
    """Remembers the last answer for each name, and the addresses that have failed in the last minute: a
    sidecar calls only the servers in its configuration."""

    def __init__(
        self,
        look_up: LookUp,
        *,
        patience_s: float = _PATIENCE_S,
        answer_patience_s: float = _ANSWER_PATIENCE_S,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """``look_up`` raises ``OSError`` or ``ValueError`` for a name that cannot be resolved. ``clock`` is
        by default the time of the running loop."""
        self._look_up: Final = look_up
        self._patience_s: Final = patience_s
        self.answer_patience_s: Final = answer_patience_s
        self._clock: Final = clock
        self._known: Final[dict[SocketAddress, list[str]]] = {}
        self._asking: Final[dict[SocketAddress, asyncio.Future[list[str]]]] = {}
        self._failed_at_s: Final[dict[SocketAddress, float]] = {}

    # The replicas of a server.

    async def replicas(self, endpoints: Sequence[Endpoint]) -> list[Replica]:
        """Those that have not failed lately come first, then those that are healthy by the configuration,
        then those of the highest priority; otherwise the order is random. A name whose look-up takes long has
        the addresses of its last answer, and is left out without one, if there are others. Raises `GrpcError`
        if no endpoint has an address."""
        asked = [asyncio.ensure_future(self.of(endpoint.address)) for endpoint in endpoints]
        try:
            if asked:
                await self._some_answers(asked)
        finally:
            for each in asked:
                each.cancel()
        ranked: dict[Replica, tuple[float, bool, int]] = {}
        error = GrpcError(GrpcStatus.UNAVAILABLE, "the server has no address")
        for endpoint, answer in zip(endpoints, asked, strict=True):
            try:
                hosts = answer.result() if answer.done() else self._known.get(endpoint.address, [])
            except GrpcError as unresolved:
                error = unresolved
                continue
            for host in hosts:
                replica = Replica(SocketAddress(host, endpoint.address.port), endpoint.address.host)
                ranked.setdefault(replica, self._rank(replica.address, endpoint))
        if not ranked:
            raise error
        return sorted(random.sample(list(ranked), len(ranked)), key=ranked.__getitem__)

    async def _some_answers(self, asked: Sequence[asyncio.Future[list[str]]]) -> None:
        """Waits for all answers; when patience ends, for the first name that is resolved."""
        _, waiting = await asyncio.wait(asked, timeout=self._patience_s)
        while waiting and not any(each.done() and each.exception() is None for each in asked):
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)

    def _rank(self, address: SocketAddress, endpoint: Endpoint) -> tuple[float, bool, int]:
        self._forget_old_failures()
        return (
            self._failed_at_s.get(address, 0.0),
            endpoint.health not in _HEALTHY,
            endpoint.priority,
        )

    def failed(self, address: SocketAddress) -> None:
        """It could not be connected to, has not answered yet, or is about to end."""
        self._forget_old_failures()
        self._failed_at_s[address] = self._now_s()

    def answered(self, address: SocketAddress) -> None:
        self._failed_at_s.pop(address, None)

    def _forget_old_failures(self) -> None:
        oldest_s = self._now_s() - _FAILURE_S
        for address in [address for address, at_s in self._failed_at_s.items() if at_s < oldest_s]:
            del self._failed_at_s[address]

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time() if self._clock is None else self._clock()

    # The addresses of a name.

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
