"""A server of our codec, given any bytes of a client: what must be true whatever they are."""

from __future__ import annotations

import re
from itertools import pairwise

from sidecar.config.http2 import Http2Options
from sidecar.http.h2.connection import Http2Connection
from sidecar.http.h2.events import ConnectionFailed, DataReceived, HeadReceived, Http2Event, TrailersReceived
from tests.support import http2_frames as frames

SAFE_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
SAFE_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
SAFE_TARGET = re.compile(rb"[\x21-\x7e\x80-\xff]*")
SMALL = Http2Options(
    max_headers_bytes=2000,
    max_headers_count=30,
    max_concurrent_streams=10,
    initial_stream_window_size=70_000,
    initial_connection_window_size=100_000,
)


def serve(sent: bytes, cuts: list[int], options: Http2Options = SMALL) -> Http2Connection:
    """A server that answers each request, and reads each body."""
    codec = Http2Connection(options, client=False)
    codec.start()
    edges = [0, *sorted(cut % (len(sent) + 1) for cut in cuts), len(sent)]
    failed = False
    for start, end in pairwise(edges):
        events = codec.receive(sent[start:end])
        assert not (failed and events)
        for event in events:
            assert not failed
            failed = isinstance(event, ConnectionFailed)
            _answer(codec, event)
        frames.parse(codec.data_to_send())
    return codec


def _answer(codec: Http2Connection, event: Http2Event) -> None:
    if isinstance(event, HeadReceived):
        _check_fields(event.headers)
        assert SAFE_NAME.fullmatch(event.method.lower())
        for text in (event.authority, event.path, event.scheme, event.protocol):
            assert SAFE_TARGET.fullmatch(text)
        assert (b"#" in event.path) == bool(event.path_error)
        codec.send_head(event.stream, [(b":status", b"200"), (b"x", b"y")], False)
        codec.send_data(event.stream, b"a" * 1000, True)
    elif isinstance(event, DataReceived):
        codec.consumed(event.stream, len(event.data))
    elif isinstance(event, TrailersReceived):
        _check_fields(event.trailers)


def _check_fields(fields: list[tuple[bytes, bytes]]) -> None:
    for name, value in fields:
        assert SAFE_NAME.fullmatch(name)
        assert name not in (b"connection", b"transfer-encoding", b"upgrade", b"host")
        assert SAFE_VALUE.fullmatch(value)
