"""The messages that a reader returns."""

from __future__ import annotations

from sidecar.http.body import EMPTY, Body, BodyStream
from sidecar.http.headers import Headers


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
