"""One side of a carried connection: what it reads is written to its peer, no faster than that takes it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast


class Relay(asyncio.Protocol):
    """Passes nothing on before `start`. ``on_eof`` and ``on_lost`` are told which side it was.

    What comes earlier is kept, and reading paused, at the first bytes: a transport of uvloop that is paused
    while it is made starts to read all the same.

    A side that is written to faster than it sends pauses the other's reading, so that memory stays bounded by
    the transports' high-water marks.
    """

    __slots__ = (
        "_clock",
        "_early",
        "_on_eof",
        "_on_lost",
        "_on_made",
        "_peer_is_behind",
        "_started",
        "_transport",
        "ended",
        "last_read_s",
        "peer",
        "received_bytes",
    )

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        on_eof: Callable[[Relay], None],
        on_lost: Callable[[Relay], None],
        on_made: Callable[[], None] | None = None,
    ) -> None:
        self._clock = clock
        self._on_made = on_made
        self._on_eof = on_eof
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._started = False
        self._early: list[bytes] = []
        self._peer_is_behind = False
        self.peer: Relay | None = None
        self.received_bytes = 0
        self.last_read_s = 0.0
        self.ended = False

    # Called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are so by shape alone
        if self._on_made is not None:
            self._on_made()

    def data_received(self, data: bytes) -> None:
        self.received_bytes += len(data)
        self.last_read_s = self._clock()
        if not self._started:
            self._early.append(data)
            self._apply()
            return
        assert self.peer is not None
        self.peer.write(data)

    def eof_received(self) -> bool:
        self.ended = True
        if self._started:
            self._on_eof(self)
        # Keeps a plain connection open for the other direction; TLS streams would only warn about it.
        return self._can_half_close()

    def pause_writing(self) -> None:
        assert self.peer is not None
        self.peer.pause_reading_for_peer()

    def resume_writing(self) -> None:
        assert self.peer is not None
        self.peer.resume_reading_for_peer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.ended = True
        self._on_lost(self)

    # Called by the other side and by the session.

    @property
    def connected(self) -> bool:
        return self._transport is not None

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def write_eof(self) -> bool:
        """Whether the client or host could be told that nothing more follows."""
        if self._transport is None or not self._can_half_close():
            return False
        self._transport.write_eof()
        return True

    def start(self) -> None:
        """The peer can be written to."""
        self._started = True
        if self._early:
            assert self.peer is not None
            self.peer.write(b"".join(self._early))
            self._early.clear()
        if self.ended:
            self._on_eof(self)
        else:
            self._apply()

    def pause_reading_for_peer(self) -> None:
        self._peer_is_behind = True
        self._apply()

    def resume_reading_for_peer(self) -> None:
        self._peer_is_behind = False
        self._apply()

    def close(self) -> bool:
        """Whether bytes are still on their way out; `abort` ends that."""
        if self._transport is None:
            return False
        self._transport.close()
        return self._transport.get_write_buffer_size() > 0

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _apply(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._started and not self._peer_is_behind:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def _can_half_close(self) -> bool:
        return self._transport is not None and self._transport.can_write_eof()
