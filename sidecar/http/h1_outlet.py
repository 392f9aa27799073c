"""The way out of a server's connection: bytes, at the pace at which the client reads, and an end that does
not cost the client what was written last."""

from __future__ import annotations

import asyncio

from sidecar.http.h1_timeouts import ConnectionTimeouts
from sidecar.observability.stats import HttpConnectionManagerStats
from sidecar.observability.stream_info import StreamInfo


class Outlet:
    """Writes to the transport that it was opened with; once that is lost, to nowhere."""

    __slots__ = ("_info", "_stats", "_timeouts", "_transport", "_unflushed_bytes", "lingering", "writable")

    def __init__(
        self, stats: HttpConnectionManagerStats, timeouts: ConnectionTimeouts, info: StreamInfo
    ) -> None:
        self.writable: asyncio.Future[None] | None = None  # set while the client is slow to read
        self.lingering = False
        self._stats = stats
        self._info = info
        self._timeouts = timeouts
        self._transport: asyncio.Transport | None = None
        self._unflushed_bytes = 0  # when the flush of a connection that closes was last looked at

    def open(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def lose(self) -> None:
        self._transport = None
        self.resume()

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._stats.downstream_cx_tx_bytes_total += len(data)
            self._info.bytes_sent += len(data)
            self._transport.write(data)

    async def moved(self) -> None:
        """Something was written: the stream is not idle; returns when the client has room for more."""
        self._timeouts.stream_moved()
        if self.writable is not None:
            await self.writable

    def pause(self) -> None:
        self.writable = asyncio.get_running_loop().create_future()

    def resume(self) -> None:
        writable, self.writable = self.writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    # Ends.

    @property
    def closing(self) -> bool:
        return self._transport is not None and self._transport.is_closing()

    def close(self) -> None:
        """What was written still goes out, while the client takes it; the transport would wait for ever."""
        if self._transport is not None:
            self._transport.close()
            self._unflushed_bytes = self._transport.get_write_buffer_size()
            self._timeouts.linger()

    def check_flush(self) -> None:
        """The time for closing is over, unless the client has taken some of what was left."""
        assert self._transport is not None
        left_bytes = self._transport.get_write_buffer_size()
        if left_bytes < self._unflushed_bytes:
            self._unflushed_bytes = left_bytes
            self._timeouts.linger()
        else:
            self._transport.abort()

    def linger(self) -> None:
        """RFC 9112 9.6: closes in two steps, lest a reset takes the reply from a client still sending."""
        assert self._transport is not None
        self.lingering = True
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._timeouts.linger()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
