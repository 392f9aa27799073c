"""The flow control of what is received (RFC 9113 5.2, 6.9). A window opens again when the owner has taken the
bytes, in steps of half its size, so that updates are rare."""

from __future__ import annotations

from typing import Final

from sidecar.config.http2 import Http2Options
from sidecar.http.h2.error_codes import FLOW_CONTROL_ERROR, Http2ConnectionError
from sidecar.http.h2.frames import window_update_frame
from sidecar.http.h2.outgoing_frames import OutgoingFrames
from sidecar.http.h2.stream import Http2Stream

INITIAL_CONNECTION_WINDOW: Final = 65_535  # RFC 9113 6.9.2


class ReceiveWindows:
    __slots__ = ("_available", "_connection_step", "_outgoing", "_stream_step", "_uncredited")

    def __init__(self, options: Http2Options, outgoing: OutgoingFrames) -> None:
        self._outgoing = outgoing
        self._available = max(options.initial_connection_window_size, INITIAL_CONNECTION_WINDOW)
        self._connection_step = self._available // 2
        self._stream_step = max(options.initial_stream_window_size // 2, 1)
        self._uncredited = 0  # taken, and not returned to the peer

    def receive(self, size: int) -> None:
        """A DATA frame of any stream, padding included. Raises `Http2ConnectionError`."""
        self._available -= size
        if self._available < 0:
            raise Http2ConnectionError(FLOW_CONTROL_ERROR, "DATA exceeds the window of the connection")

    def receive_on(self, stream: Http2Stream, size: int) -> None:
        """The same frame, if its stream is open. Raises `Http2ConnectionError`, as Envoy ends the
        connection."""
        stream.receive_window -= size
        if stream.receive_window < 0:
            raise Http2ConnectionError(FLOW_CONTROL_ERROR, f"DATA exceeds the window of stream {stream.id}")

    def credit(self, size: int) -> None:
        """Bytes are gone that count only for the connection."""
        self._uncredited += size
        if self._uncredited >= self._connection_step:
            self._outgoing.add_frame(window_update_frame(0, self._uncredited))
            self._available += self._uncredited
            self._uncredited = 0

    def consumed(self, stream: Http2Stream, size: int) -> None:
        """The owner has taken bytes of a stream; not more than it was given."""
        size = min(size, stream.unconsumed)
        stream.unconsumed -= size
        self.credit(size)
        if stream.received_end:
            return
        stream.uncredited += size
        if stream.uncredited >= self._stream_step:
            self._outgoing.add_frame(window_update_frame(stream.id, stream.uncredited))
            stream.receive_window += stream.uncredited
            stream.uncredited = 0

    def release(self, stream: Http2Stream) -> None:
        """The stream is reset: what the owner has not taken will not be."""
        self.credit(stream.unconsumed)
        stream.unconsumed = 0
