"""Makes events of the frames that carry messages: HEADERS, CONTINUATION, DATA, RST_STREAM (RFC 9113 8.1)."""

from __future__ import annotations

from typing import Final

from sidecar.config.http2 import Http2Options
from sidecar.http.h2.error_codes import (
    ENHANCE_YOUR_CALM,
    FRAME_SIZE_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
    Http2ConnectionError,
    Http2StreamError,
)
from sidecar.http.h2.events import (
    DataReceived,
    HeadReceived,
    Http2Event,
    InterimReceived,
    StreamReset,
    TrailersReceived,
)
from sidecar.http.h2.floods import FloodLimits
from sidecar.http.h2.frame_reader import FrameReader
from sidecar.http.h2.frames import (
    END_HEADERS,
    END_STREAM,
    after_priority,
    read_number,
    reset_frame,
    unpadded,
)
from sidecar.http.h2.head_reader import HeadReader
from sidecar.http.h2.head_rules import UNKNOWN_LENGTH, PathError, malformed
from sidecar.http.h2.outgoing_frames import OutgoingFrames
from sidecar.http.h2.receive_windows import ReceiveWindows
from sidecar.http.h2.settings import Http2Settings
from sidecar.http.h2.stream import Http2Stream
from sidecar.http.h2.stream_state import (
    CLOSED,
    HALF_CLOSED_REMOTE,
    RECEIVE_END,
    RECEIVE_HEAD,
    RECEIVE_RESET,
    SEND_RESET,
)
from sidecar.http.h2.stream_table import StreamTable

_NO_BODY: Final = frozenset((204, 304))  # RFC 9110 6.4.1


class IncomingMessages:
    """`events` are those since they were last taken. The methods for frames raise `Http2ConnectionError`."""

    __slots__ = (
        "_client",
        "_limits",
        "_options",
        "_outgoing",
        "_remote",
        "_table",
        "events",
        "heads",
        "windows",
    )

    def __init__(
        self,
        options: Http2Options,
        table: StreamTable,
        outgoing: OutgoingFrames,
        limits: FloodLimits,
        remote: Http2Settings,
        *,
        client: bool,
    ) -> None:
        self._options = options
        self._table = table
        self._outgoing = outgoing
        self._limits = limits
        self._remote = remote
        self._client = client
        self.heads = HeadReader(options, client=client)
        self.windows = ReceiveWindows(options, outgoing)
        self.events: list[Http2Event] = []

    # Heads and trailers.

    def on_headers(self, frame: FrameReader) -> None:
        at, end = unpadded(frame.data, frame.at, frame.end, frame.flags)
        at = after_priority(frame.data, at, end, frame.flags, frame.stream_id)
        ends_stream = frame.flags & END_STREAM != 0
        self._count_frame(at == end and not ends_stream)
        if frame.stream_id == 0:
            raise Http2ConnectionError(PROTOCOL_ERROR, "HEADERS on stream 0")
        part = frame.data[at:end]
        if frame.flags & END_HEADERS:
            self._on_block(frame.stream_id, part, ends_stream)
        else:
            self.heads.begin(frame.stream_id, part, ends_stream)

    def on_continuation(self, frame: FrameReader) -> None:
        heads = self.heads
        if frame.stream_id != heads.stream_id or not frame.stream_id:
            raise Http2ConnectionError(
                PROTOCOL_ERROR, f"CONTINUATION on stream {frame.stream_id} without HEADERS"
            )
        self._count_frame(frame.at == frame.end)
        heads.add(frame.data[frame.at : frame.end])
        if frame.flags & END_HEADERS:
            self._on_block(frame.stream_id, heads.end(), heads.ends_stream)

    def _on_block(self, stream_id: int, block: bytes, ends_stream: bool) -> None:
        stream = self._table.streams.get(stream_id)
        if stream is None:
            stream = self._begin_stream(stream_id)
            if stream is None:
                self.heads.skip(block)
                return
        if not self._table.advance(stream, RECEIVE_HEAD):
            raise Http2ConnectionError(
                STREAM_CLOSED, f"HEADERS on stream {stream_id}, which the peer has ended"
            )
        try:
            if stream.head_received:
                self._on_trailers(stream, block, ends_stream)
            else:
                self._on_head(stream, block, ends_stream)
        except Http2StreamError as error:
            self._fail_stream(stream, error)

    def _begin_stream(self, stream_id: int) -> Http2Stream | None:
        """Returns None if the frame is to be ignored."""
        table = self._table
        if self._client or stream_id & 1 == 0:
            table.check_not_idle(stream_id, "HEADERS")
        if stream_id <= table.last_peer_id or self._client:
            if table.ignores(stream_id):
                return None
            raise Http2ConnectionError(STREAM_CLOSED, f"HEADERS on stream {stream_id}, which is closed")
        table.last_peer_id = stream_id
        if table.ignores(stream_id):
            return None
        self._limits.opened_streams += 1
        stream = Http2Stream(
            stream_id, self._remote.initial_window_size, self._options.initial_stream_window_size
        )
        if len(table.streams) >= self._options.max_concurrent_streams:  # RFC 9113 5.1.2
            stream.state = CLOSED
            table.remember_reset(stream_id)
            self._outgoing.add_control(reset_frame(stream_id, REFUSED_STREAM))
            self.events.append(
                StreamReset(stream, REFUSED_STREAM, True, "too many streams", "stream_refused_errors")
            )
            return None
        table.streams[stream_id] = stream
        return stream

    def _on_head(self, stream: Http2Stream, block: bytes, ends_stream: bool) -> None:
        path_error = ""
        try:
            head = self.heads.read_head(block)
        except PathError as error:
            head, path_error = error.head, error.reason
        if 0 < head.status < 200:
            if ends_stream:
                raise malformed(f"a {head.status} response that ends the stream")
            self._bound_interim(stream, head.size)
            self.events.append(InterimReceived(stream, head.status, head.headers.copy()))
            return
        stream.expected = 0 if stream.bodiless or head.status in _NO_BODY else head.length
        if stream.tunnel and head.status < 300:  # RFC 9110 9.3.6: to be ignored
            stream.expected = UNKNOWN_LENGTH
        if ends_stream:
            self._end(stream)
        stream.head_received = True
        event = HeadReceived(stream, head.headers.copy(), ends_stream)
        event.status = head.status
        event.method = head.method
        event.scheme = head.scheme
        event.authority = head.authority
        event.path = head.path
        event.path_error = path_error
        event.protocol = head.protocol
        event.expect = head.expect
        event.size = head.size
        self.events.append(event)

    def _bound_interim(self, stream: Http2Stream, size: int) -> None:
        """Bounds all interim responses together like one head, since they are written without
        backpressure."""
        stream.interim_bytes += size
        limit = self._options.max_headers_bytes
        if stream.interim_bytes > limit:
            raise Http2StreamError(ENHANCE_YOUR_CALM, f"more than {limit} bytes of interim responses")

    def _on_trailers(self, stream: Http2Stream, block: bytes, ends_stream: bool) -> None:
        received = UNKNOWN_LENGTH if stream.expected >= 0 else -1 - stream.expected
        trailers = self.heads.read_trailers(block, received)
        if not ends_stream:  # RFC 9113 8.1
            raise malformed("trailers that do not end the stream")
        self._end(stream)
        self.events.append(TrailersReceived(stream, trailers))

    # Bodies.

    def on_data(self, frame: FrameReader) -> None:
        """One frame, or a piece of one."""
        at, end = unpadded(frame.data, frame.at, frame.end, frame.flags)
        size = end - at
        ends_stream = frame.ends_stream
        self._count_frame(size == 0 and not ends_stream)
        self.windows.receive(frame.size)
        stream = self._table.streams.get(frame.stream_id)
        if stream is None or stream.state == HALF_CLOSED_REMOTE:
            self._on_stray_data(frame)
            return
        self.windows.receive_on(stream, frame.size)
        stream.unconsumed += frame.end - frame.at
        if frame.end - frame.at > size:
            self.windows.consumed(stream, frame.end - frame.at - size)
        try:
            self._on_body(stream, size, ends_stream)
        except Http2StreamError as error:
            self._reset_invalid(stream, error.code, error.reason, "")
            return
        if size or ends_stream:
            self.events.append(DataReceived(stream, frame.data[at:end], ends_stream))

    def _on_body(self, stream: Http2Stream, size: int, ends_stream: bool) -> None:
        if not stream.head_received:
            raise malformed("DATA before the head of the response")
        if size:
            if 0 <= stream.expected < size:
                raise malformed("a body that is longer than its Content-Length, or must not be there")
            stream.expected -= size
        if ends_stream:
            self._end(stream)

    def _on_stray_data(self, frame: FrameReader) -> None:
        """DATA on a stream that is not open, or that the peer has ended."""
        continues = frame.size == 0 and frame.end > frame.at  # the frame began when it was open
        if not continues:
            self._table.check_not_idle(frame.stream_id, "DATA")
            if not self._table.ignores(frame.stream_id):
                raise Http2ConnectionError(
                    STREAM_CLOSED, f"DATA on stream {frame.stream_id}, which the peer has ended"
                )
        self.windows.credit(frame.end - frame.at)

    def _end(self, stream: Http2Stream) -> None:
        """The peer ends the stream."""
        if stream.expected > 0:
            raise malformed("a body that is shorter than its Content-Length")
        self._table.advance(stream, RECEIVE_END)

    def _count_frame(self, empty: bool) -> None:
        if empty:
            self._limits.empty_frame()
        else:
            self._limits.filled_frame()

    # Resets.

    def on_reset(self, frame: FrameReader) -> None:
        if frame.size != 4:
            raise Http2ConnectionError(FRAME_SIZE_ERROR, f"RST_STREAM of {frame.size} bytes")
        self._table.check_not_idle(frame.stream_id, "RST_STREAM")
        stream = self._table.streams.get(frame.stream_id)
        if stream is not None:
            self.peer_resets(stream, read_number(frame.data, frame.at), "rx_reset")

    def peer_resets(self, stream: Http2Stream, code: int, counter: str) -> None:
        self._table.advance(stream, RECEIVE_RESET)
        self._drop(stream)
        self.events.append(StreamReset(stream, code, False, "", counter))

    def reset(self, stream: Http2Stream, code: int) -> None:
        """This side resets an open stream."""
        self._table.advance(stream, SEND_RESET)
        self._table.remember_reset(stream.id)
        self._drop(stream)
        self._outgoing.add_control(reset_frame(stream.id, code))

    def _drop(self, stream: Http2Stream) -> None:
        self._outgoing.forget(stream)
        self.windows.release(stream)

    def _fail_stream(self, stream: Http2Stream, error: Http2StreamError) -> None:
        """As in Envoy, an invalid head, or trailers, end the connection, unless the options say otherwise. A
        body of another length than announced ends only its stream."""
        if error.code == PROTOCOL_ERROR and not self._options.stream_error_on_invalid_message:
            raise Http2ConnectionError(error.code, error.reason, error.counter)
        self._reset_invalid(stream, error.code, error.reason, error.counter)

    def _reset_invalid(self, stream: Http2Stream, code: int, reason: str, counter: str) -> None:
        self.reset(stream, code)
        self.events.append(StreamReset(stream, code, True, reason, counter))
