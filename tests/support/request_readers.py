"""Request readers of a test, and the requests that they return, as values that can be compared."""

from __future__ import annotations

from sidecar.http.h1.request_reader import IncomingRequest, RequestReader
from tests.support.bodies import received

HOST = b"Host: reviews:9080\r\n"


class Source:
    def __init__(self) -> None:
        self.pauses = 0

    def pause_body(self) -> None:
        self.pauses += 1

    def resume_body(self) -> None: ...

    def abandon_body(self) -> None: ...


def new_reader(**limits: int) -> RequestReader:
    return RequestReader(Source(), **limits)


def feed_pieces(pieces: list[bytes], **limits: int) -> tuple[list[IncomingRequest], RequestReader]:
    reader = new_reader(**limits)
    requests = []
    for piece in pieces:
        at = 0
        while at < len(piece):
            requests += reader.feed(piece, at)
            at = reader.stopped_at
    return requests, reader


def outline(request: IncomingRequest) -> tuple[object, ...]:
    return (
        request.method,
        request.authority,
        request.path,
        request.headers,
        received(request.body),
        request.body.trailers,
        request.keep_alive,
        request.complete,
        request.upgrade,
        request.received_bytes,
    )


def read_one(head: bytes, **limits: int) -> IncomingRequest:
    requests, reader = feed_pieces([head], **limits)
    assert reader.error is None, reader.error
    assert len(requests) == 1
    return requests[0]
