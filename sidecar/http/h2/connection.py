"""One side of an HTTP/2 connection, without I/O: bytes in, events out; the bytes to write are collected."""

from __future__ import annotations

from sidecar.config.http2 import Http2Options
from sidecar.http.h2.error_codes import NO_ERROR
from sidecar.http.h2.events import Http2Event
from sidecar.http.h2.settings import Http2Settings
from sidecar.http.h2.stream import Http2Stream
from sidecar.http.headers import Headers


class Http2Connection:
    """The owner gives received bytes to `receive`, handles its events, and writes `data_to_send`.

    `remote` are the settings of the peer. `streams` are those that are open, by their ids. Nothing raises for what
    the peer does.
    """

    def __init__(self, options: Http2Options, *, client: bool) -> None:
        self.remote = Http2Settings()
        self.streams: dict[int, Http2Stream] = {}
        raise NotImplementedError

    def start(self) -> None:
        """Collects the preface (of a client), SETTINGS, and the WINDOW_UPDATE of the connection."""
        raise NotImplementedError

    def receive(self, data: bytes) -> list[Http2Event]:
        """Returns what `data` completes. After `ConnectionFailed`, received bytes are ignored."""
        raise NotImplementedError

    def data_to_send(self) -> bytes:
        """Returns what has been collected since the last call; empty while writing is paused."""
        raise NotImplementedError

    @property
    def wants_write(self) -> bool:
        """Whether `data_to_send` would return something."""
        raise NotImplementedError

    def pause_writing(self) -> None:
        """The transport is full: DATA stays in the streams, and the limits of outbound frames apply to what is
        collected meanwhile."""
        raise NotImplementedError

    def resume_writing(self) -> list[Http2Event]:
        """The transport has room again. Frames what the streams have kept, in turns; returns `StreamWritable`s."""
        raise NotImplementedError

    @property
    def available_streams(self) -> int:
        """How many more streams a client may have open now, by the peer's limit; 0 after GOAWAY."""
        raise NotImplementedError

    def open_stream(self) -> Http2Stream:
        """Client only. The stream is open once its head is sent. Raises `Http2UnavailableError`."""
        raise NotImplementedError

    def send_head(self, stream: Http2Stream, headers: Headers, end_stream: bool) -> None:
        """A request, a response, or a 1xx response. `headers` begins with the pseudo-headers; fields of one hop
        that HTTP/2 does not have are left out."""
        raise NotImplementedError

    def send_data(self, stream: Http2Stream, data: bytes, end_stream: bool) -> None:
        """Frames as much as the windows allow; the stream keeps the rest. On a closed stream, does nothing."""
        raise NotImplementedError

    def send_trailers(self, stream: Http2Stream, trailers: Headers) -> None:
        """Ends the stream, after the bytes that it keeps. On a closed stream, does nothing."""
        raise NotImplementedError

    def reset(self, stream: Http2Stream, code: int) -> None:
        """Ends a stream at once. On a closed stream, or one that was never sent, sends nothing."""
        raise NotImplementedError

    def consumed(self, stream: Http2Stream, size: int) -> None:
        """The owner has taken `size` bytes of DATA: the windows open again, in large steps."""
        raise NotImplementedError

    def go_away(self, code: int = NO_ERROR, *, final: bool) -> None:
        """Refuses further streams. Not `final`: announces only that it will, for those under way (RFC 9113 6.8)."""
        raise NotImplementedError

    def ping(self, payload: bytes) -> None:
        """Sends 8 bytes, which the peer returns: `PongReceived`."""
        raise NotImplementedError
