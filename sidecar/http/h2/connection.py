"""One side of an HTTP/2 connection, without I/O: bytes in, events out; the bytes to write are collected."""

from __future__ import annotations

from typing import Final

from sidecar.config.http2 import Http2Options
from sidecar.http.h2.error_codes import NO_ERROR, Http2ConnectionError, Http2UnavailableError
from sidecar.http.h2.events import ConnectionFailed, Http2Event, StreamWritable
from sidecar.http.h2.floods import FloodLimits
from sidecar.http.h2.frames import (
    MAX_STREAM_ID,
    PREFACE,
    goaway_frame,
    ping_frame,
    settings_frame,
    window_update_frame,
)
from sidecar.http.h2.incoming_frames import IncomingFrames
from sidecar.http.h2.outgoing_frames import OutgoingFrames
from sidecar.http.h2.receive_windows import INITIAL_CONNECTION_WINDOW
from sidecar.http.h2.settings import Http2Settings, announced
from sidecar.http.h2.stream import Http2Stream
from sidecar.http.h2.stream_state import CLOSED, HALF_CLOSED_REMOTE, IDLE, OPEN, SEND_HEAD
from sidecar.http.h2.stream_table import StreamTable
from sidecar.http.headers import Headers

_HEAD: Final = (b":method", b"HEAD")


class Http2Connection:
    """The owner gives received bytes to `receive`, handles its events, and writes `data_to_send`.

    `remote` are the settings of the peer. `streams` are those that are open, by their ids. Nothing raises for
    what the peer does.
    """

    __slots__ = (
        "_client",
        "_failed",
        "_incoming",
        "_limits",
        "_options",
        "_outgoing",
        "_table",
        "remote",
        "streams",
    )

    def __init__(self, options: Http2Options, *, client: bool) -> None:
        self._options = options
        self._client = client
        self._failed = False
        self.remote = Http2Settings()
        self._limits = FloodLimits(options)
        self._table = StreamTable(client=client)
        self.streams = self._table.streams
        self._outgoing = OutgoingFrames(self._table, self._limits)
        self._incoming = IncomingFrames(
            options, self._table, self._outgoing, self._limits, self.remote, client=client
        )

    def start(self) -> None:
        """Collects the preface (of a client), SETTINGS, and the WINDOW_UPDATE of the connection."""
        beginning = settings_frame(announced(self._options, client=self._client))
        increment = self._options.initial_connection_window_size - INITIAL_CONNECTION_WINDOW
        if increment > 0:
            beginning += window_update_frame(0, increment)
        self._outgoing.add_frame(PREFACE + beginning if self._client else beginning)

    def receive(self, data: bytes) -> list[Http2Event]:
        """Returns what `data` completes. After `ConnectionFailed`, received bytes are ignored."""
        if self._failed:
            return []
        messages = self._incoming.messages
        try:
            self._incoming.read(data)
        except Http2ConnectionError as error:
            self._fail(error)
        events = messages.events
        messages.events = []
        return events

    def _fail(self, error: Http2ConnectionError) -> None:
        self._failed = True
        last = min(self._table.last_peer_id, self._table.accepts_up_to)
        self._outgoing.add_frame(goaway_frame(last, error.code, error.reason))
        messages = self._incoming.messages
        in_head = messages.heads.stream_id > self._table.last_peer_id
        for stream in self.streams.values():
            in_head = in_head or not stream.head_received
            stream.state = CLOSED
            self._outgoing.forget(stream)
        self.streams.clear()
        messages.events.append(ConnectionFailed(error, in_head and not self._client))

    # Writing.

    @property
    def wants_write(self) -> bool:
        """Whether `data_to_send` would return something."""
        return not self._outgoing.empty and not self._outgoing.paused

    def data_to_send(self) -> bytes:
        """Returns what has been collected since the last call; empty while writing is paused."""
        return b"" if self._outgoing.paused or self._outgoing.empty else self._outgoing.take()

    def pause_writing(self) -> None:
        """The transport is full: DATA stays in the streams, and the limits of outbound frames apply to what
        is collected meanwhile."""
        self._outgoing.paused = True

    def resume_writing(self) -> list[Http2Event]:
        """The transport has room again. Frames what the streams have kept, in turns. Returns
        `StreamWritable`s."""
        outgoing = self._outgoing
        outgoing.paused = False
        outgoing.take_turns()
        events: list[Http2Event] = [StreamWritable(stream) for stream in outgoing.drained]
        outgoing.drained.clear()
        return events

    # Streams.

    @property
    def available_streams(self) -> int:
        """How many more streams a client may have open now, by the peer's limit; 0 after its GOAWAY."""
        if self._failed or self._table.peer_refuses:
            return 0
        ids_left = (MAX_STREAM_ID - self._table.last_own_id) // 2
        return max(0, min(self.remote.max_concurrent_streams - len(self.streams), ids_left))

    def open_stream(self) -> Http2Stream:
        """For a client. The stream is open, and has an id, once its head is sent. Raises
        `Http2UnavailableError`: the peer has sent GOAWAY, or the ids are used up. The peer's limit of streams
        is the caller's matter."""
        if self._failed or self._table.peer_refuses or self._table.last_own_id + 2 > MAX_STREAM_ID:
            raise Http2UnavailableError("the connection accepts no more streams")
        return Http2Stream(0, self.remote.initial_window_size, self._options.initial_stream_window_size)

    def send_head(self, stream: Http2Stream, headers: Headers, end_stream: bool) -> None:
        """A request, a response, or a 1xx response. `headers` begins with the pseudo-headers; fields of one
        hop that HTTP/2 does not have are left out. On a closed stream, does nothing."""
        if stream.state == IDLE and self._client and not self._failed:
            stream.id = self._table.last_own_id = self._table.last_own_id + 2
            stream.send_window = self.remote.initial_window_size
            stream.bodiless = headers[0] == _HEAD
            self.streams[stream.id] = stream
            self._limits.opened_streams += 1
        if self._table.advance(stream, SEND_HEAD):
            self._outgoing.add_head(stream, headers, end_stream)

    def send_data(self, stream: Http2Stream, data: bytes, end_stream: bool) -> None:
        """Frames as much as the windows allow; the stream keeps the rest. On a closed stream, does
        nothing."""
        if stream.state in (OPEN, HALF_CLOSED_REMOTE) and not stream.unsent_end:
            self._outgoing.add_data(stream, data, end_stream)

    def send_trailers(self, stream: Http2Stream, trailers: Headers) -> None:
        """Ends the stream, after the bytes that it keeps. On a closed stream, does nothing."""
        if stream.state in (OPEN, HALF_CLOSED_REMOTE) and not stream.unsent_end:
            self._outgoing.add_trailers(stream, trailers)

    def reset(self, stream: Http2Stream, code: int) -> None:
        """Ends a stream at once. On a closed stream, or one that was never sent, sends nothing."""
        if stream.state == IDLE:
            stream.state = CLOSED
        elif stream.state != CLOSED:
            self._incoming.messages.reset(stream, code)

    def consumed(self, stream: Http2Stream, size: int) -> None:
        """The owner has taken `size` bytes of DATA: the windows open again, in large steps."""
        if not self._failed:
            self._incoming.messages.windows.consumed(stream, size)

    # The connection.

    def go_away(self, code: int = NO_ERROR, *, final: bool) -> None:
        """Refuses further streams. Not `final`: announces only that it will, for those under way (RFC 9113
        6.8)."""
        if self._failed or self._table.accepts_up_to < MAX_STREAM_ID:
            return
        last = self._table.last_peer_id if final else MAX_STREAM_ID
        self._table.accepts_up_to = last
        self._outgoing.add_frame(goaway_frame(last, code, ""))

    def ping(self, payload: bytes) -> None:
        """Sends 8 bytes, which the peer returns: `PongReceived`."""
        self._outgoing.add_frame(ping_frame(payload, ack=False))
