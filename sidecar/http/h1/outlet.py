"""The output of a server's connection: writes at the pace of the client, and closes without losing the bytes
that were written last."""

from __future__ import annotations

import asyncio
from typing import Final

from sidecar.http.connection_manager import ManagedConnection
from sidecar.http.h1.timeouts import ConnectionTimeouts
from sidecar.transport.closing import Progress, reset
from sidecar.transport.plain import is_plain

# The longest interval between two checks whether a client still reads the remaining bytes.
_CHECK_INTERVAL_S: Final = 1.0


class Outlet:
    """Writes to the transport, and discards data after the transport is lost."""

    __slots__ = (
        "_connection",
        "_ended",
        "_flush",
        "_sent_bytes",
        "_timeouts",
        "_transport",
        "_written_bytes",
        "writable",
    )

    def __init__(self, connection: ManagedConnection, timeouts: ConnectionTimeouts) -> None:
        self.writable: asyncio.Future[None] | None = None  # set while the client is slow to read
        self._connection = connection
        self._timeouts = timeouts
        self._transport: asyncio.Transport | None = None
        self._written_bytes = 0
        self._sent_bytes = 0  # when the client became slow, or at the last check
        self._ended = False
        self._flush: Progress | None = None  # of the remaining bytes, while the connection closes

    def open(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def lose(self) -> None:
        self._transport = None
        self.resume()

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._connection.sent(len(data))
            self._written_bytes += len(data)
            self._transport.write(data)

    async def moved(self) -> None:
        """Restarts the stream idle timeout after a write. Returns when the transport accepts more data."""
        self.restart_idle_timeout()
        if self.writable is not None:
            await self.writable

    def restart_idle_timeout(self) -> None:
        """Restarts that of the stream."""
        self._timeouts.stream_moved()

    def pause(self) -> None:
        self.writable = asyncio.get_running_loop().create_future()
        self._sent_bytes = self._written_bytes - self.unsent_bytes

    def resume(self) -> None:
        writable, self.writable = self.writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    @property
    def unsent_bytes(self) -> int:
        """Bytes that were written but not sent yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def client_takes(self) -> bool:
        """Whether the client still reads: data is unsent or its EOF is awaited, and it has read some bytes
        since it became slow, or since the last call."""
        unsent_bytes = self.unsent_bytes
        before, self._sent_bytes = self._sent_bytes, self._written_bytes - unsent_bytes
        return (unsent_bytes > 0 or self._ended) and self._sent_bytes != before

    # Closing.

    def end(self) -> bool:
        """Ends our direction; the client may continue to send. Returns False if the transport cannot do
        that."""
        if self._transport is None or not self._transport.can_write_eof():
            return False
        self._ended = True
        self._sent_bytes = self._written_bytes - self.unsent_bytes
        self._transport.write_eof()
        return True

    def close(self) -> None:
        """Closes after the written bytes are sent. The transport alone would wait without a limit."""
        transport = self._transport
        if transport is not None:
            transport.close()
            if self.unsent_bytes or not is_plain(transport):  # else `connection_lost` comes next
                self._await_flush()

    def linger(self) -> None:
        """RFC 9112 9.6: closes in two steps, so that a reset does not destroy the reply to a client that is
        still sending. After all bytes are sent, the client has a limited time to close."""
        self.end()
        self._await_flush()

    def abort(self) -> None:
        """Resets the connection, and drops the bytes that were not sent."""
        if self._transport is not None:
            reset(self._transport)

    def flushes(self) -> bool:
        """Called when a timeout has expired. Returns whether the connection continues to flush. A client that
        has read nothing for the idle timeout is reset."""
        if self._flush is None or self._transport is None:
            return False
        unsent_bytes = self.unsent_bytes
        if not unsent_bytes:
            self._flush = None
            self._timeouts.linger()
        elif self._flush.stalled(-unsent_bytes, self._timeouts.now_s()):
            self.abort()
        else:
            self._check_again(self._flush)
        return True

    def _await_flush(self) -> None:
        unsent_bytes = self.unsent_bytes
        if unsent_bytes:
            timeouts = self._timeouts
            self._flush = Progress(timeouts.flush_timeout_s, -unsent_bytes, timeouts.now_s())
            self._check_again(self._flush)
        else:
            self._timeouts.linger()

    def _check_again(self, flush: Progress) -> None:
        self._timeouts.wait(min(flush.check_after_s or _CHECK_INTERVAL_S, _CHECK_INTERVAL_S))
