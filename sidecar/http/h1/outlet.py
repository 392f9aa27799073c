"""The way out of a server's connection: bytes, at the pace at which the client reads, and an end that does
not cost the client what was written last."""

from __future__ import annotations

import asyncio
from typing import Final

from sidecar.http.connection_manager import ManagedConnection
from sidecar.http.h1.timeouts import ConnectionTimeouts
from sidecar.transport.closing import Progress, reset

# How often it is looked whether a client still takes what is left, at least.
_CHECK_INTERVAL_S: Final = 1.0


class Outlet:
    """Writes to the transport that it was opened with; once that is lost, to nowhere."""

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
        self._sent_bytes = 0  # when the client fell behind, or that was last looked at
        self._ended = False
        self._flush: Progress | None = None  # of what is left, once the connection is to end

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
        """Something was written: the stream is not idle; returns when the client has room for more."""
        self._timeouts.stream_moved()
        if self.writable is not None:
            await self.writable

    def pause(self) -> None:
        self.writable = asyncio.get_running_loop().create_future()
        self._sent_bytes = self._written_bytes - self.unsent_bytes

    def resume(self) -> None:
        writable, self.writable = self.writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    @property
    def unsent_bytes(self) -> int:
        """Written, and not yet taken by the client."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def client_takes(self) -> bool:
        """Whether bytes wait for the client, or for its end, and it has taken some since it fell behind, or
        since this was last asked."""
        unsent_bytes = self.unsent_bytes
        before, self._sent_bytes = self._sent_bytes, self._written_bytes - unsent_bytes
        return (unsent_bytes > 0 or self._ended) and self._sent_bytes != before

    # Ends.

    def end(self) -> bool:
        """Nothing more follows what was written; the client may go on. Whether its connection can end so."""
        if self._transport is None or not self._transport.can_write_eof():
            return False
        self._ended = True
        self._sent_bytes = self._written_bytes - self.unsent_bytes
        self._transport.write_eof()
        return True

    def close(self) -> None:
        """What was written still goes out, while the client takes it; the transport would wait for ever."""
        if self._transport is not None:
            self._transport.close()
            self._await_flush()

    def linger(self) -> None:
        """RFC 9112 9.6: closes in two steps, so that no reset takes the reply from a client that is still
        sending. The client has a while to leave, from when it has taken all."""
        self.end()
        self._await_flush()

    def abort(self) -> None:
        """What was written and not sent is dropped, and the client sees that."""
        if self._transport is not None:
            reset(self._transport)

    def flushes(self) -> bool:
        """Asked when a wait is over: whether it goes on, or the connection ends with it. A client that has
        taken nothing for the idle timeout loses what is left, and is reset."""
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
