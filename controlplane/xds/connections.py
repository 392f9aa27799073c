"""The open streams: the proxy of each one and the responses that wait to be written."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import grpc

from controlplane.errors import ProxyError
from controlplane.model.proxy import Proxy
from controlplane.xds.identification import Claims, Identified
from controlplane.xds.stream import Stream

_LOG = logging.getLogger(__name__)

_MAX_UNSERVED: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The gRPC status with which a stream ends."""

    code: grpc.StatusCode
    details: str = ""


class Connection:
    """One stream of one proxy. It queues the responses of one push; the next push starts after they are
    written. A proxy that reads slowly therefore delays only its own pushes."""

    def __init__(
        self,
        *,
        connection_id: str,
        claims: Claims,
        identified: Identified,
        version: str,
        peer: str,
        stream: Stream[Any, Any],
        now: float,
    ) -> None:
        self.id: Final = connection_id
        self.claims: Final = claims
        self.identified = identified
        self.version: Final = version
        self.peer: Final = peer
        self.stream: Final = stream
        self.connected_at: Final = now
        self.ended: Final[asyncio.Future[End]] = asyncio.get_running_loop().create_future()
        self.wake_up: asyncio.TimerHandle | None = None
        # The generation of the last snapshot that the proxy has acknowledged completely; 0 if none.
        self.acknowledged_generation = 0
        # The generation of the last snapshot of which it has acknowledged or rejected all responses.
        self.answered_generation = 0
        self._outbox: Final[asyncio.Queue[Any]] = asyncio.Queue()
        self._unwritten = 0
        self._unserved: Final[set[str]] = set()

    @property
    def proxy(self) -> Proxy:
        return self.identified.proxy

    @property
    def drained(self) -> bool:
        """Whether all posted responses are written."""
        return self._unwritten == 0

    def post(self, response: object) -> None:
        if self.ended.done():
            return
        self._unwritten += 1
        self._outbox.put_nowait(response)

    async def next_response(self) -> object:
        """Waits for the next response, for the stream's single writer, which must call `written` afterwards.
        Returns None when the stream has ended."""
        return await self._outbox.get()

    def written(self) -> None:
        self._unwritten -= 1

    def end(self, end: End) -> None:
        """Ends the stream and discards the responses that are not written. Later calls have no effect."""
        if self.ended.done():
            return
        self.ended.set_result(end)
        while not self._outbox.empty():
            self._outbox.get_nowait()
        self._outbox.put_nowait(None)

    def warn_once(self, type_url: str) -> None:
        """Logs once that the proxy subscribes to a type that is not served. It gets no response, as the xDS
        protocol requires."""
        if type_url not in self._unserved and len(self._unserved) < _MAX_UNSERVED:
            self._unserved.add(type_url)
            _LOG.warning("%s subscribes to %r, which is not served", self.id, type_url)


class Connections:
    """All open streams. A proxy can have several for a moment, if it reconnects before its old connection is
    found to be dead."""

    def __init__(self) -> None:
        self._by_id: Final[dict[str, Connection]] = {}
        self._opened = 0

    def __contains__(self, connection: Connection) -> bool:
        return connection.id in self._by_id

    def __iter__(self) -> Iterator[Connection]:
        # A copy: streams open and close during the iteration, and the debug API reads from another thread.
        return iter(tuple(self._by_id.values()))

    def next_id(self, proxy: Proxy) -> str:
        self._opened += 1
        return f"{proxy.id}-{self._opened}"

    def add(self, connection: Connection) -> None:
        self._by_id[connection.id] = connection

    def remove(self, connection: Connection) -> None:
        self._by_id.pop(connection.id, None)

    def of_proxy(self, proxy_id: str) -> Connection:
        """Returns a proxy's latest stream. Raises `ProxyError` if it has none."""
        for connection in reversed(tuple(self._by_id.values())):
            if proxy_id in (connection.proxy.id, connection.id):
                return connection
        raise ProxyError(f"no proxy {proxy_id!r} is connected")

    def rejecting(self, type_url: str) -> int:
        """Returns the number of streams that reject their resources of a type."""
        watches = (connection.stream.watches.get(type_url) for connection in self)
        return sum(1 for watch in watches if watch is not None and watch.acks.rejection is not None)
