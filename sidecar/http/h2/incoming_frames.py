"""Reads the frames of the peer, and handles those that do not carry messages (RFC 9113 6)."""

from __future__ import annotations

from sidecar.config.http2 import Http2Options
from sidecar.http.h2.error_codes import (
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    Http2ConnectionError,
)
from sidecar.http.h2.events import GoAwayReceived, PongReceived, SettingsChanged, StreamReset, StreamWritable
from sidecar.http.h2.floods import FloodLimits
from sidecar.http.h2.frame_reader import FrameReader
from sidecar.http.h2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    GOAWAY,
    HEADERS,
    MAX_STREAM_ID,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    SETTINGS_ACK,
    WINDOW_UPDATE,
    check_dependency,
    ping_frame,
    read_number,
)
from sidecar.http.h2.incoming_messages import IncomingMessages
from sidecar.http.h2.outgoing_frames import OutgoingFrames
from sidecar.http.h2.settings import Http2Settings
from sidecar.http.h2.stream import Http2Stream
from sidecar.http.h2.stream_table import StreamTable


class IncomingFrames:
    """`messages` has the events."""

    __slots__ = (
        "_client",
        "_frame",
        "_greeted",
        "_limits",
        "_options",
        "_outgoing",
        "_remote",
        "_table",
        "messages",
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
        self._frame = FrameReader(preface=not client)
        self._greeted = False  # the peer has sent its first SETTINGS
        self.messages = IncomingMessages(options, table, outgoing, limits, remote, client=client)

    def read(self, data: bytes) -> None:
        """Raises `Http2ConnectionError`."""
        frame = self._frame
        messages = self.messages
        limits = self._limits
        frame.feed(data)
        while frame.next():
            kind = frame.kind
            if (messages.heads.stream_id and kind != CONTINUATION) or not self._greeted:
                self._check_order(frame)
            if kind == DATA:
                messages.on_data(frame)
            elif kind == HEADERS:
                messages.on_headers(frame)
            else:
                self._read_other(frame, kind)
            limits.check_outbound()

    def _check_order(self, frame: FrameReader) -> None:
        if not self._greeted and (frame.kind != SETTINGS or frame.flags & ACK):  # RFC 9113 3.4
            raise Http2ConnectionError(PROTOCOL_ERROR, "the first frame is not SETTINGS")
        if self.messages.heads.stream_id:  # RFC 9113 6.10
            raise Http2ConnectionError(PROTOCOL_ERROR, "a frame within a header block")
        self._greeted = True

    def _read_other(self, frame: FrameReader, kind: int) -> None:
        """Frames of unknown types are ignored (RFC 9113 4.1)."""
        if kind == WINDOW_UPDATE:
            self._on_window_update(frame)
        elif kind == RST_STREAM:
            self.messages.on_reset(frame)
        elif kind == CONTINUATION:
            self.messages.on_continuation(frame)
        elif kind == PRIORITY:
            self._on_priority(frame)
        elif kind == PUSH_PROMISE:
            raise Http2ConnectionError(PROTOCOL_ERROR, "PUSH_PROMISE, although push is not enabled")
        elif kind == SETTINGS:
            self._on_settings(frame)
        elif kind == PING:
            self._on_ping(frame)
        elif kind == GOAWAY:
            self._on_goaway(frame)

    def _on_window_update(self, frame: FrameReader) -> None:
        _check_size(frame, frame.size == 4, "WINDOW_UPDATE")
        self._limits.window_update()
        increment = read_number(frame.data, frame.at) & MAX_STREAM_ID
        if frame.stream_id == 0:
            if increment == 0:
                raise Http2ConnectionError(PROTOCOL_ERROR, "WINDOW_UPDATE by 0")
            self._outgoing.open_window(increment)
            self._report_drained()
            return
        self._table.check_not_idle(frame.stream_id, "WINDOW_UPDATE")
        stream = self._table.streams.get(frame.stream_id)
        if stream is None:
            return  # RFC 9113 5.1: it may have been sent before the peer knew
        if increment == 0:
            self._reset(stream, PROTOCOL_ERROR, "WINDOW_UPDATE by 0")
        elif not self._outgoing.open_stream_window(stream, increment):
            self._reset(stream, FLOW_CONTROL_ERROR, "the window of the stream exceeds its maximum")
        self._report_drained()

    def _reset(self, stream: Http2Stream, code: int, reason: str) -> None:
        self.messages.reset(stream, code)
        self.messages.events.append(StreamReset(stream, code, True, reason, ""))

    def _on_settings(self, frame: FrameReader) -> None:
        _check_connection(frame, "SETTINGS")
        if frame.flags & ACK:
            _check_size(frame, frame.size == 0, "an acknowledgement of SETTINGS")
            self.messages.heads.table.limit = self._options.hpack_table_size
            return
        remote = self._remote
        window = remote.initial_window_size
        remote.apply(frame.data, frame.at, frame.end, from_server=self._client)
        self._outgoing.encoder.resize(min(remote.header_table_size, self._options.hpack_table_size))
        self._outgoing.add_control(SETTINGS_ACK)
        change = remote.initial_window_size - window
        if change:  # RFC 9113 6.9.2
            for stream in list(self._table.streams.values()):
                if not self._outgoing.open_stream_window(stream, change):
                    raise Http2ConnectionError(
                        FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE makes a window too large"
                    )
        self.messages.events.append(SettingsChanged())
        self._report_drained()

    def _report_drained(self) -> None:
        drained = self._outgoing.drained
        if drained:
            self.messages.events += [StreamWritable(stream) for stream in drained]
            drained.clear()

    def _on_ping(self, frame: FrameReader) -> None:
        _check_connection(frame, "PING")
        _check_size(frame, frame.size == 8, "PING")
        payload = frame.data[frame.at : frame.end]
        if frame.flags & ACK:
            self.messages.events.append(PongReceived(payload))
        else:
            self._outgoing.add_control(ping_frame(payload, ack=True))

    def _on_goaway(self, frame: FrameReader) -> None:
        _check_connection(frame, "GOAWAY")
        _check_size(frame, frame.size >= 8, "GOAWAY")
        last = read_number(frame.data, frame.at) & MAX_STREAM_ID
        self._table.peer_refuses = True
        code, reason = read_number(frame.data, frame.at + 4), frame.data[frame.at + 8 : frame.end]
        self.messages.events.append(GoAwayReceived(last, code, reason))
        if self._client:  # RFC 9113 6.8: they were not processed
            for stream in [stream for stream in self._table.streams.values() if stream.id > last]:
                self.messages.peer_resets(stream, REFUSED_STREAM, "")

    def _on_priority(self, frame: FrameReader) -> None:
        """RFC 9113 5.3.2: it is verified, and ignored."""
        if frame.stream_id == 0:
            raise Http2ConnectionError(PROTOCOL_ERROR, "PRIORITY on stream 0")
        _check_size(frame, frame.size == 5, "PRIORITY")
        check_dependency(frame.data, frame.at, frame.stream_id)
        self._limits.priority_frame()


def _check_connection(frame: FrameReader, name: str) -> None:
    if frame.stream_id:
        raise Http2ConnectionError(PROTOCOL_ERROR, f"{name} on stream {frame.stream_id}")


def _check_size(frame: FrameReader, valid: bool, name: str) -> None:
    if not valid:
        raise Http2ConnectionError(FRAME_SIZE_ERROR, f"{name} of {frame.size} bytes")
