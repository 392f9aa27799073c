"""Frames of HTTP/2, by hyperframe and hpack: they are those of an independent peer, which also reads ours."""

from __future__ import annotations

from typing import Any

from hpack import Decoder, Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
Fields = list[tuple[bytes, bytes]]

GET: Fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/")]
POST: Fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/")]


def parse(data: bytes) -> list[Frame]:
    """The frames in `data`, which ends with a complete one."""
    found = []
    while data:
        frame, size = Frame.parse_frame_header(memoryview(data[:9]))
        frame.parse_body(memoryview(data[9 : 9 + size]))
        assert len(data) >= 9 + size
        found.append(frame)
        data = data[9 + size :]
    return found


def settings(values: dict[int, int] | None = None, *, ack: bool = False) -> bytes:
    frame = SettingsFrame(0, settings=values or {})
    if ack:
        frame.flags.add("ACK")
    return frame.serialize()


def data(stream_id: int, payload: bytes, *, end: bool = False, padding: int | None = None) -> bytes:
    frame = DataFrame(stream_id, payload, pad_length=padding or 0)
    if end:
        frame.flags.add("END_STREAM")
    if padding is not None:
        frame.flags.add("PADDED")
    return frame.serialize()


def reset(stream_id: int, code: int = 8) -> bytes:
    return RstStreamFrame(stream_id, error_code=code).serialize()


def window_update(stream_id: int, size: int) -> bytes:
    return WindowUpdateFrame(stream_id, window_increment=size).serialize()


def ping(payload: bytes = b"12345678", *, ack: bool = False) -> bytes:
    frame = PingFrame(0, opaque_data=payload)
    if ack:
        frame.flags.add("ACK")
    return frame.serialize()


def goaway(last: int, code: int = 0) -> bytes:
    return GoAwayFrame(0, last_stream_id=last, error_code=code).serialize()


def raw(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Any frame, also an invalid one."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream_id.to_bytes(4, "big") + payload


class Heads:
    """The header blocks of one direction in each way."""

    def __init__(self) -> None:
        self._encoder = Encoder()
        self._decoder = Decoder()

    def frames(
        self, stream_id: int, fields: Fields, *, end: bool = False, split: int = 0, **more: Any
    ) -> bytes:
        """HEADERS; with `split`, a CONTINUATION for what is behind so many bytes of the block."""
        block = self._encoder.encode(fields)
        flags = ["END_STREAM"] if end else []
        if not split:
            return HeadersFrame(stream_id, block, flags=[*flags, "END_HEADERS"], **more).serialize()
        first = HeadersFrame(stream_id, block[:split], flags=flags, **more).serialize()
        return first + ContinuationFrame(stream_id, block[split:], flags=["END_HEADERS"]).serialize()

    def block(self, fields: Fields) -> bytes:
        return self._encoder.encode(fields)

    def read(self, block: bytes) -> Fields:
        return [(bytes(name), bytes(value)) for name, value in self._decoder.decode(block, raw=True)]
