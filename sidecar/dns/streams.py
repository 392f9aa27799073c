"""DNS over TCP (RFC 1035 section 4.2.2, RFC 7766): many queries on a connection, answered in any order."""

from __future__ import annotations

import asyncio
import struct
from typing import Final, cast

from sidecar.dns.resolver import Resolver

IDLE_TIMEOUT_S: Final = 10.0
MOST_CONNECTIONS: Final = 32
# Further queries of a connection wait in its socket.
MOST_PENDING: Final = 16

_LENGTH: Final = struct.Struct("!H")


class StreamConnections:
    """All connections of a resolver. Above the limit, new ones are closed at once."""

    def __init__(
        self,
        resolver: Resolver,
        *,
        idle_timeout_s: float = IDLE_TIMEOUT_S,
        most_connections: int = MOST_CONNECTIONS,
    ) -> None:
        self.resolver: Final = resolver
        self.idle_timeout_s: Final = idle_timeout_s
        self.most_connections: Final = most_connections
        self.open: Final[set[StreamConnection]] = set()

    def __call__(self) -> StreamConnection:
        return StreamConnection(self)

    def close(self) -> None:
        for connection in tuple(self.open):
            connection.abort()


class StreamConnection(asyncio.Protocol):
    """One connection. It is closed when it is idle for too long: it sends no complete query while no answer
    is due, or does not read its answers."""

    def __init__(self, connections: StreamConnections) -> None:
        self._connections: Final = connections
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._pending = 0
        self._blocked = False  # the client does not read
        self._ended = False  # the client sends no more
        self._taking: asyncio.Handle | None = None
        self._idle: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if len(self._connections.open) >= self._connections.most_connections:
            self._transport.abort()
            return
        self._connections.open.add(self)
        self._restart_timer()

    def connection_lost(self, error: Exception | None) -> None:
        del error
        self._transport = None
        self._connections.open.discard(self)
        for handle in (self._idle, self._taking):
            if handle is not None:
                handle.cancel()

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._take()

    def eof_received(self) -> bool:
        """The answers that are due are still written."""
        self._ended = True
        return bool(self._pending or self._taking)

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False
        self._take()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _take(self) -> None:
        """Takes some of the complete queries; the others, and those of other clients, have their turn
        afterwards."""
        self._taking = None
        for _ in range(MOST_PENDING):
            query = self._next_query()
            if query is None:
                break
            self._pending += 1
            self._restart_timer()
            self._connections.resolver.receive(query, self._reply, stream=True)
        else:
            self._take_soon()
        self._read_on()

    def _take_soon(self) -> None:
        if self._taking is None:
            self._taking = asyncio.get_running_loop().call_soon(self._take)

    def _next_query(self) -> bytes | None:
        if self._is_full or self._transport is None or len(self._received) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._received)
        end = _LENGTH.size + length
        if len(self._received) < end:
            return None
        query = bytes(self._received[_LENGTH.size : end])
        del self._received[:end]
        return query

    @property
    def _is_full(self) -> bool:
        return self._blocked or self._pending >= MOST_PENDING

    def _read_on(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._is_full or self._taking is not None:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _reply(self, response: bytes) -> None:
        """An empty response means that the message gets none: over TCP, its sender is not a DNS client."""
        self._pending -= 1
        if self._transport is None or self._transport.is_closing():
            return
        if not response:
            self._transport.abort()
            return
        self._transport.write(_LENGTH.pack(len(response)) + response)
        self._restart_timer()
        if self._received:
            self._take_soon()
        elif self._ended and not self._pending:
            self._transport.close()
        else:
            self._read_on()

    def _restart_timer(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(self._connections.idle_timeout_s, self._time_out)

    def _time_out(self) -> None:
        if self._pending and not self._blocked:
            self._restart_timer()
        else:
            self.abort()
