"""The output of an HTTP/2 connection: one write for all that one read, or one turn of the loop, produces."""

from __future__ import annotations

import asyncio
from typing import Final

from sidecar.http.connection_manager import ManagedConnection
from sidecar.http.h2.connection import Http2Connection
from sidecar.http.h2.events import Http2Event

# A body keeps no more for its reader: the windows, which are shared, hold the rest back.
BODY_BYTES: Final = 16 * 1024


class Http2Output:
    """Writes the frames that the codec has collected. `sent_bytes` counts them."""

    __slots__ = (
        "_codec",
        "_connection",
        "_flush_due",
        "_held",
        "_loop",
        "_paused",
        "sent_bytes",
        "transport",
    )

    def __init__(
        self,
        codec: Http2Connection,
        loop: asyncio.AbstractEventLoop,
        connection: ManagedConnection | None = None,
    ) -> None:
        """`connection`, of a server, is told how many bytes are written."""
        self._codec = codec
        self._connection = connection
        self._loop = loop
        self._held = False  # while the events of a read are handled
        self._flush_due = False
        self._paused = False
        self.transport: asyncio.Transport | None = None
        self.sent_bytes = 0

    def hold(self) -> None:
        """A read begins: `release` writes what it produces."""
        self._held = True

    def release(self) -> None:
        self._held = False
        self.flush()

    def flush_soon(self) -> None:
        """Call it after each frame that no read has produced."""
        if not self._held and not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        self.flush()

    def flush(self) -> None:
        transport = self.transport
        if transport is None or self._paused:
            return
        data = self._codec.data_to_send()
        if data:
            self.sent_bytes += len(data)
            if self._connection is not None:
                self._connection.sent(len(data))
            transport.write(data)

    def end(self) -> bool:
        """Writes the rest, and nothing more. Returns False if the connection is closing. It closes at once if
        the peer is slow to read: as in Envoy, one that lets too much wait is disconnected."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return False
        if self._paused:
            transport.abort()
            return False
        self.flush()
        if transport.can_write_eof():
            transport.write_eof()
        return True

    def pause(self) -> None:
        """The peer is slow to read."""
        self._paused = True
        self._codec.pause_writing()

    def resume(self) -> list[Http2Event]:
        """The caller handles the events, and flushes."""
        self._paused = False
        return self._codec.resume_writing()

    @property
    def unsent_bytes(self) -> int:
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    def lose(self) -> None:
        self.transport = None
