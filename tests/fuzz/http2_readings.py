"""What a client's bytes mean to two servers: ours, and that of the `h2` library as the oracle."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from sidecar.config.http2 import Http2Options
from sidecar.http.h2.connection import Http2Connection
from sidecar.http.h2.events import (
    ConnectionFailed,
    DataReceived,
    HeadReceived,
    Http2Event,
    StreamReset,
    TrailersReceived,
)

Fields = list[tuple[bytes, bytes]]
_PSEUDO = (b":method", b":scheme", b":authority", b":path", b":protocol")
# Our codec takes these out of a request's fields, or joins them.
_NOT_COMPARED = (b"host", b"expect", b"cookie")


@dataclass(slots=True)
class Reading:
    """A request, as one server has read it. `reset`: by either side."""

    pseudo: dict[bytes, bytes] = field(default_factory=dict)
    fields: Fields = field(default_factory=list)
    body: bytes = b""
    trailers: Fields = field(default_factory=list)
    ended: bool = False
    reset: bool = False


@dataclass(slots=True)
class Readings:
    """By stream id. `failed`: a connection error."""

    streams: dict[int, Reading] = field(default_factory=dict)
    failed: bool = False

    def stream(self, stream_id: int) -> Reading:
        return self.streams.setdefault(stream_id, Reading())


def read_by_us(sent: Iterable[bytes], options: Http2Options) -> Readings:
    codec = Http2Connection(options, client=False)
    codec.start()
    readings = Readings()
    for piece in sent:
        for event in codec.receive(piece):
            _note(readings, event)
            if isinstance(event, DataReceived):
                codec.consumed(event.stream, len(event.data))
        codec.data_to_send()
    return readings


def _note(readings: Readings, event: Http2Event) -> None:
    if isinstance(event, ConnectionFailed):
        readings.failed = True
    elif isinstance(event, HeadReceived):
        reading = readings.stream(event.stream.id)
        values = (event.method, event.scheme, event.authority, event.path, event.protocol)
        reading.pseudo = dict(zip(_PSEUDO, values, strict=True))
        reading.fields, reading.ended = _compared(event.headers), event.end_stream
    elif isinstance(event, DataReceived):
        reading = readings.stream(event.stream.id)
        reading.body += event.data
        reading.ended = event.end_stream
    elif isinstance(event, TrailersReceived):
        reading = readings.stream(event.stream.id)
        reading.trailers, reading.ended = _compared(event.trailers), True
    elif isinstance(event, StreamReset):
        readings.stream(event.stream.id).reset = True


def read_by_h2(sent: Iterable[bytes]) -> Readings:
    config = h2.config.H2Configuration(client_side=False, header_encoding=None)
    server = h2.connection.H2Connection(config)
    server.initiate_connection()
    readings = Readings()
    try:
        for piece in sent:
            for event in server.receive_data(piece):
                _note_of_h2(readings, server, event)
            server.data_to_send()
    except h2.exceptions.ProtocolError:
        readings.failed = True
    return readings


def _note_of_h2(readings: Readings, server: h2.connection.H2Connection, event: Any) -> None:
    match event:
        case h2.events.RequestReceived():
            reading = readings.stream(event.stream_id)
            fields = [(bytes(name), bytes(value)) for name, value in event.headers]
            reading.pseudo = {name: value for name, value in fields if name.startswith(b":")}
            reading.fields = _compared(fields)
        case h2.events.DataReceived():
            readings.stream(event.stream_id).body += event.data
            if event.flow_controlled_length:
                server.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        case h2.events.TrailersReceived():
            fields = [(bytes(name), bytes(value)) for name, value in event.headers]
            readings.stream(event.stream_id).trailers = _compared(fields)
        case h2.events.StreamEnded():
            readings.stream(event.stream_id).ended = True
        case h2.events.StreamReset():
            readings.stream(event.stream_id).reset = True


def _compared(fields: Fields) -> Fields:
    return [each for each in fields if not each[0].startswith(b":") and each[0] not in _NOT_COMPARED]


def differences(ours: Readings, theirs: Readings) -> list[str]:
    """Of the requests that both have read whole. Either may refuse more than the other: the library has no
    limits, and the sidecar must not pass on all that the library reads."""
    found = []
    for stream_id, reading in ours.streams.items():
        other = theirs.streams.get(stream_id)
        if other is None or reading.reset or other.reset or not (reading.ended and other.ended):
            continue
        pseudo = {name: value for name, value in reading.pseudo.items() if value}
        expected = {name: value for name, value in other.pseudo.items() if value}
        pairs = [
            ("pseudo-headers", _without_authority(pseudo), _without_authority(expected)),
            ("fields", reading.fields, other.fields),
            ("body", reading.body, other.body),
            ("trailers", reading.trailers, other.trailers),
        ]
        found += [f"stream {stream_id}: {what}: {a!r} != {b!r}" for what, a, b in pairs if a != b]
    return found


def _without_authority(pseudo: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Ours may be that of ``host`` (RFC 9113 8.3.1)."""
    return {name: value for name, value in pseudo.items() if name != b":authority"}
