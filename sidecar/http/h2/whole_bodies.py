"""The bodies that one read has brought whole: such a message is passed on in one piece, without a stream."""

from __future__ import annotations

from sidecar.http.h2.events import DataReceived, HeadReceived, Http2Event, StreamReset, TrailersReceived
from sidecar.http.h2.stream import Http2Stream


def whole_bodies(events: list[Http2Event]) -> dict[Http2Stream, bytes]:
    """By the stream whose head, and all DATA after it, are among the `events`; without messages that have
    trailers. A peer with several requests in flight writes their heads first, and then their bodies."""
    pieces: dict[Http2Stream, bytes] = {}
    whole: dict[Http2Stream, bytes] = {}
    for event in events:
        if isinstance(event, HeadReceived):
            if not event.end_stream:
                pieces[event.stream] = b""
        elif isinstance(event, DataReceived):
            before = pieces.get(event.stream)
            if before is not None:
                body = before + event.data if before else event.data
                pieces[event.stream] = body
                if event.end_stream:
                    whole[event.stream] = body
        elif isinstance(event, TrailersReceived | StreamReset):
            pieces.pop(event.stream, None)
            whole.pop(event.stream, None)
    return whole
