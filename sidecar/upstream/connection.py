"""What a pool keeps: a connection to a host, whatever protocol it speaks."""

from __future__ import annotations

from typing import Any, Protocol


class ConnectionObserver(Protocol):
    """The pool's ear. A codec tells it once for every exchange that has ended and left the connection fit for
    another one, and once when the connection is gone."""

    def connection_idle(self, connection: Connection) -> None: ...

    def connection_closed(self, connection: Connection) -> None: ...


class Connection(Protocol):
    """`active` exchanges are under way of the `capacity` that it may carry at once (1 for HTTP/1.1).
    `closed` is true from the moment that the peer's EOF or a fault was seen: it is never lent again; by then
    `cut_short` says how many exchanges were under way, and `closed_by_peer` who closed it. Implementations
    call the observer; the pool sets it. The byte counts are of its whole life."""

    closed: bool
    closed_by_peer: bool
    cut_short: int
    active: int
    capacity: int
    received_bytes: int
    sent_bytes: int
    observer: ConnectionObserver | None

    def close(self) -> None:
        """Closes the transport at once; exchanges under way fail."""

    async def send(self, request: Any, /) -> Any:
        """One exchange: a request of the HTTP layer, which this one cannot see, for its response. When it is
        cancelled the exchange is given up, and the connection too if it cannot be told apart from it."""
