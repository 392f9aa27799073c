"""Collects the frames to write. DATA waits for the windows of the peer (RFC 9113 5.2), and streams take
turns."""

from __future__ import annotations

from collections import OrderedDict

from sidecar.http.h2.error_codes import FLOW_CONTROL_ERROR, Http2ConnectionError
from sidecar.http.h2.floods import FloodLimits
from sidecar.http.h2.frames import (
    DATA,
    END_STREAM,
    MAX_PAYLOAD,
    MAX_WINDOW,
    frame_header,
    head_frames,
)
from sidecar.http.h2.hpack.encoder import HpackEncoder
from sidecar.http.h2.stream import Http2Stream
from sidecar.http.h2.stream_state import SEND_END
from sidecar.http.h2.stream_table import StreamTable
from sidecar.http.headers import Headers


class OutgoingFrames:
    """`window` is that of the connection. While it is `paused`, DATA stays in the streams. `drained` are the
    streams that keep nothing any longer since it was last emptied."""

    __slots__ = ("_limits", "_parts", "_table", "_turns", "drained", "encoder", "paused", "window")

    def __init__(self, table: StreamTable, limits: FloodLimits) -> None:
        self._table = table
        self._limits = limits
        self._parts: list[bytes | memoryview] = []
        self._turns: OrderedDict[int, Http2Stream] = OrderedDict()  # those that the connection holds up
        self.encoder = HpackEncoder()
        self.window = 65_535  # RFC 9113 6.9.2
        self.paused = False
        self.drained: list[Http2Stream] = []

    @property
    def empty(self) -> bool:
        return not self._parts

    def take(self) -> bytes:
        """Returns all collected frames."""
        parts = self._parts
        self._parts = []
        self._limits.frames = 0
        self._limits.control_frames = 0
        return b"".join(parts)

    def add_frame(self, frame: bytes) -> None:
        """A frame that is not DATA or HEADERS."""
        self._parts.append(frame)
        self._limits.frames += 1

    def add_control(self, frame: bytes) -> None:
        """One that the peer can provoke: an answer to PING or SETTINGS, or RST_STREAM."""
        self.add_frame(frame)
        self._limits.control_frames += 1

    def add_head(self, stream: Http2Stream, headers: Headers, end_stream: bool) -> None:
        self._parts.append(head_frames(stream.id, self.encoder.encode(headers), end_stream))
        self._limits.frames += 1
        if end_stream:
            self._table.advance(stream, SEND_END)

    def add_data(self, stream: Http2Stream, data: bytes, end_stream: bool) -> None:
        size = len(data)
        if (
            size <= MAX_PAYLOAD
            and stream.unsent_size == 0
            and ((size <= self.window and size <= stream.send_window and not self.paused) or not size)
        ):
            if size or end_stream:
                self._add_frame(stream, data, size, end_stream)
            return
        if size:
            stream.unsent.append(data)
            stream.unsent_size += size
        stream.unsent_end = end_stream
        self._wait(stream)
        self.take_turns()
        self.drained.clear()  # the owner sees it at once

    def add_trailers(self, stream: Http2Stream, trailers: Headers) -> None:
        if stream.unsent_size:
            stream.unsent_trailers = trailers
        elif trailers:
            self.add_head(stream, trailers, True)
        else:
            self._add_frame(stream, b"", 0, True)

    def forget(self, stream: Http2Stream) -> None:
        """The stream is reset: it sends nothing any longer."""
        stream.unsent = []
        stream.unsent_size = 0
        stream.unsent_end = False
        stream.unsent_trailers = None
        self._turns.pop(stream.id, None)

    # The windows.

    def open_window(self, size: int) -> None:
        """Raises `Http2ConnectionError`."""
        self.window += size
        if self.window > MAX_WINDOW:
            raise Http2ConnectionError(FLOW_CONTROL_ERROR, "the window of the connection exceeds its maximum")
        self.take_turns()

    def open_stream_window(self, stream: Http2Stream, size: int) -> bool:
        """`size` is negative if SETTINGS has made the window smaller. Returns False if it exceeds its
        maximum."""
        stream.send_window += size
        if stream.send_window > MAX_WINDOW:
            return False
        if stream.unsent_size:
            self._wait(stream)
            self.take_turns()
        return True

    def _wait(self, stream: Http2Stream) -> None:
        if stream.send_window > 0:
            self._turns[stream.id] = stream

    def take_turns(self) -> None:
        """Frames one piece of each waiting stream after the other, as long as the connection's window is
        open."""
        while self._turns and self.window > 0 and not self.paused:
            stream = self._turns.popitem(last=False)[1]
            if stream.send_window <= 0:
                continue  # SETTINGS has made it smaller
            self._send_piece(stream)
            if stream.unsent_size:
                self._wait(stream)
            else:
                self._end_kept(stream)

    def _send_piece(self, stream: Http2Stream) -> None:
        chunk = stream.unsent[0]
        start = stream.unsent_at
        size = min(len(chunk) - start, MAX_PAYLOAD, self.window, stream.send_window)
        end = start + size
        stream.unsent_size -= size
        if end == len(chunk):
            del stream.unsent[0]
            stream.unsent_at = 0
        else:
            stream.unsent_at = end
        ends = stream.unsent_size == 0 and stream.unsent_end
        self._add_frame(stream, memoryview(chunk)[start:end], size, ends)

    def _end_kept(self, stream: Http2Stream) -> None:
        trailers = stream.unsent_trailers
        if trailers is not None:
            stream.unsent_trailers = None
            self.add_trailers(stream, trailers)
        self.drained.append(stream)

    def _add_frame(self, stream: Http2Stream, data: bytes | memoryview, size: int, end_stream: bool) -> None:
        self._parts.append(frame_header(size, DATA, END_STREAM if end_stream else 0, stream.id))
        if size:
            self._parts.append(data)
            self.window -= size
            stream.send_window -= size
        self._limits.frames += 1
        self._limits.data_frames_sent += 1
        if end_stream:
            self._table.advance(stream, SEND_END)
