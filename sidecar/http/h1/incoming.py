"""The messages that a reader returns, and the rules that differ between requests and responses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import httptools

from sidecar.http.body import EMPTY, Body, BodyStream
from sidecar.http.h1.reader_state import Event
from sidecar.http.headers import Headers

if TYPE_CHECKING:
    from sidecar.http.h1.message_reader import MessageReader


class IncomingMessage:
    """`complete` is True when the body has ended; a tunnel's body ends with the tunnel. `stream` is the body
    if it was not complete together with the head. `received_bytes` counts the body."""

    __slots__ = ("body", "complete", "headers", "keep_alive", "received_bytes", "stream")

    def __init__(self, headers: Headers, *, keep_alive: bool) -> None:
        self.headers = headers
        self.body: Body = EMPTY
        self.stream: BodyStream | None = None
        self.keep_alive = keep_alive
        self.complete = False
        self.received_bytes = 0


class Direction(Protocol):
    """The part that differs between requests and responses. It reads the attributes of its
    `MessageReader`."""

    def new_parser(
        self, reader: MessageReader, /
    ) -> httptools.HttpRequestParser | httptools.HttpResponseParser:
        """Returns a parser that calls `reader`, for one head and the following ones without a body."""

    def read_fields(self) -> Event:
        """Sets `message` from a complete head, except for an interim response. Raises `RequestError`."""

    def deliver(self) -> None:
        """Called when the message can be returned: complete, or as a stream."""

    def message_ended(self) -> None:
        """Called in state IDLE."""

    def without_forbidden(self, trailers: Headers, /) -> Headers: ...
