"""The connections of one HTTP server. uvicorn waits for a request for ever, and has no limit that spares the
other clients.

The ports are open to the cluster. A pod that opens connections without end must neither use up the memory nor
keep the API server out, which calls the webhooks.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """``request_timeout_s``: the head of a request must arrive in this time, or twice of it for a later one.
    ``most``: more than the requests that the API servers of a cluster send at once."""

    request_timeout_s: float = 10.0
    most: int = 2048


class Connections:
    """The open connections; the oldest come first."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits: Final = limits
        self._open: Final[dict[Connection, str]] = {}  # with the client's address

    def opened(self, connection: Connection) -> None:
        """Closes another connection if there are too many: of the client that has most of them, the oldest
        one without a request."""
        self._open[connection] = connection.client[0] if connection.client else ""
        if len(self._open) <= self.limits.most:
            return
        [(greediest, _)] = Counter(self._open.values()).most_common(1)
        of_it = (each for each, client in self._open.items() if client == greediest)
        victim = next((each for each in of_it if not each.is_busy), connection)
        del self._open[victim]
        victim.transport.abort()

    def closed(self, connection: Connection) -> None:
        self._open.pop(connection, None)


class Connection(HttpToolsProtocol):
    """uvicorn's protocol, within limits."""

    def __init__(self, *, connections_of_server: Connections, **settings: Any) -> None:
        super().__init__(**settings)
        self._all = connections_of_server
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._check_later(waits=False)
        self._all.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._all.closed(self)
        super().connection_lost(exc)

    def _check_later(self, *, waits: bool) -> None:
        self._timer = self.loop.call_later(self._all.limits.request_timeout_s, self._check, waits)

    def _check(self, waited: bool) -> None:
        """``waited``: a request had begun to arrive at the last check. Between two requests, uvicorn has a
        timer of its own."""
        waits = not self.is_busy and self.timeout_keep_alive_task is None
        if waits and (waited or self.cycle is None):
            self.transport.abort()
        else:
            self._check_later(waits=waits)
