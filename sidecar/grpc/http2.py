"""One exchange on an HTTP/2 connection of its own, the client's side. No I/O."""

from __future__ import annotations

from typing import Final, Protocol

from sidecar.config.http2 import Http2Options
from sidecar.grpc.errors import Http2Error
from sidecar.http.h2.connection import Http2Connection
from sidecar.http.h2.error_codes import CANCEL, NO_ERROR
from sidecar.http.h2.events import (
    ConnectionFailed,
    DataReceived,
    GoAwayReceived,
    HeadReceived,
    Http2Event,
    StreamReset,
    TrailersReceived,
)
from sidecar.http.headers import Headers

WINDOW: Final = 1024 * 1024
"""How many bytes the server may send before they are granted again."""

_OPTIONS: Final = Http2Options(
    max_concurrent_streams=1,
    initial_stream_window_size=WINDOW,
    initial_connection_window_size=WINDOW,
)


class Receiver(Protocol):
    """Is told about the response."""

    def head(self, status: int, headers: Headers, ended: bool) -> None: ...

    def data(self, data: bytes) -> None:
        """The receiver grants these bytes again when it has handled them."""

    def trailers(self, headers: Headers) -> None: ...

    def end(self) -> None:
        """The response ended, without trailers."""

    def reset(self, code: int) -> None:
        """The server ended the stream with an error."""

    def draining(self) -> None:
        """The server is about to close the connection; it finishes the exchange before."""

    def going_away(self, code: int, reason: bytes) -> None:
        """The server ended the connection, and with it the exchange."""


class Http2Exchange:
    """`receive` the server's bytes; after each call, write `take_output`."""

    def __init__(self, headers: Headers, receiver: Receiver) -> None:
        self._receiver: Final = receiver
        self._open = True
        self._h2: Final = Http2Connection(_OPTIONS, client=True)
        self._h2.start()
        self._stream: Final = self._h2.open_stream()
        self._h2.send_head(self._stream, headers, False)

    # To the server.

    def take_output(self) -> bytes:
        return self._h2.data_to_send()

    def send(self, data: bytes, *, end: bool = False) -> None:
        """Bytes for which the server has no room are sent later."""
        self._h2.send_data(self._stream, data, end)

    def grant(self, count: int) -> None:
        """Lets the server send so many bytes more."""
        if count and self._open:
            self._h2.consumed(self._stream, count)

    def ping(self) -> None:
        self._h2.ping(bytes(8))

    def close(self) -> bool:
        """Tells the server that the exchange and the connection end. Returns False if they have ended."""
        if not self._open:
            return False
        self._open = False
        self._h2.reset(self._stream, CANCEL)
        self._h2.go_away(NO_ERROR, final=True)
        return True

    # From the server.

    def receive(self, data: bytes) -> None:
        """Raises `Http2Error`, after which the connection cannot be used."""
        for event in self._h2.receive(data):
            if not self._open:
                return
            self._tell(event)

    def _tell(self, event: Http2Event) -> None:
        receiver = self._receiver
        match event:
            case HeadReceived():
                self._open = not event.end_stream
                receiver.head(event.status, event.headers, event.end_stream)
            case DataReceived():
                self._open = not event.end_stream
                receiver.data(event.data)
                if event.end_stream:
                    receiver.end()
            case TrailersReceived():
                self._open = False
                receiver.trailers(event.trailers)
            case StreamReset():
                self._open = False
                if event.local:
                    raise Http2Error(event.reason, event.counter)
                receiver.reset(event.code)
            case GoAwayReceived():
                self._going_away(event)
            case ConnectionFailed():
                self._open = False
                raise Http2Error(event.error.reason, event.error.counter)

    def _going_away(self, event: GoAwayReceived) -> None:
        """A server that shuts down gracefully finishes the exchange."""
        if event.last_stream_id < self._stream.id or event.code != NO_ERROR:
            self._open = False
            self._receiver.going_away(event.code, event.reason)
        else:
            self._receiver.draining()
