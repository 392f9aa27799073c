"""Frames (RFC 9113 4.1, 6): their types and flags, and the bytes of those that this side sends."""

from __future__ import annotations

from struct import Struct
from typing import Final

from sidecar.http.h2.error_codes import FRAME_SIZE_ERROR, PROTOCOL_ERROR, Http2ConnectionError

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113 3.4
HEADER_SIZE: Final = 9
# The largest payload that is received, because no other is announced, and the largest that is sent, so that
# streams take turns.
MAX_PAYLOAD: Final = 16_384
MAX_WINDOW: Final = 2**31 - 1
MAX_STREAM_ID: Final = 2**31 - 1

DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

ACK: Final = 0x1
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
HAS_PRIORITY: Final = 0x20

SETTINGS_ACK: Final = b"\0\0\0\x04\x01\0\0\0\0"
_PING_ACK: Final = b"\0\0\x08\x06\x01\0\0\0\0"
_PING: Final = b"\0\0\x08\x06\0\0\0\0\0"
_MAX_DEBUG_BYTES: Final = 128
_PRIORITY_BYTES: Final = 5

_pack_header: Final = Struct(">HBBBL").pack
_pack_number: Final = Struct(">HBBBLL").pack  # a frame of one number
_pack_setting: Final = Struct(">HL").pack
_pack_goaway: Final = Struct(">LL").pack


def frame_header(size: int, kind: int, flags: int, stream_id: int) -> bytes:
    packed: bytes = _pack_header(size >> 8, size & 0xFF, kind, flags, stream_id)
    return packed


def head_frames(stream_id: int, block: bytes, end_stream: bool) -> bytes:
    """HEADERS, and CONTINUATION for what does not fit."""
    flags = END_STREAM if end_stream else 0
    size = len(block)
    if size <= MAX_PAYLOAD:
        return frame_header(size, HEADERS, flags | END_HEADERS, stream_id) + block
    parts = [frame_header(MAX_PAYLOAD, HEADERS, flags, stream_id), block[:MAX_PAYLOAD]]
    for start in range(MAX_PAYLOAD, size, MAX_PAYLOAD):
        part = block[start : start + MAX_PAYLOAD]
        flags = END_HEADERS if start + MAX_PAYLOAD >= size else 0
        parts += [frame_header(len(part), CONTINUATION, flags, stream_id), part]
    return b"".join(parts)


def reset_frame(stream_id: int, code: int) -> bytes:
    packed: bytes = _pack_number(0, 4, RST_STREAM, 0, stream_id, code)
    return packed


def window_update_frame(stream_id: int, size: int) -> bytes:
    packed: bytes = _pack_number(0, 4, WINDOW_UPDATE, 0, stream_id, size)
    return packed


def settings_frame(settings: list[tuple[int, int]]) -> bytes:
    payload = b"".join([_pack_setting(name, value) for name, value in settings])
    return frame_header(len(payload), SETTINGS, 0, 0) + payload


def ping_frame(payload: bytes, *, ack: bool) -> bytes:
    return (_PING_ACK if ack else _PING) + payload


def goaway_frame(last_stream_id: int, code: int, debug: str) -> bytes:
    payload: bytes = _pack_goaway(last_stream_id, code)
    payload += debug.encode("ascii", "replace")[:_MAX_DEBUG_BYTES]
    return frame_header(len(payload), GOAWAY, 0, 0) + payload


def read_number(data: bytes, at: int) -> int:
    """Four bytes."""
    return data[at] << 24 | data[at + 1] << 16 | data[at + 2] << 8 | data[at + 3]


def unpadded(data: bytes, at: int, end: int, flags: int) -> tuple[int, int]:
    """The bounds of the payload without its padding (RFC 9113 6.1). Raises `Http2ConnectionError`."""
    if not flags & PADDED:
        return at, end
    if at == end:
        raise Http2ConnectionError(FRAME_SIZE_ERROR, "a padded frame without the size of its padding")
    if data[at] > end - at - 1:
        raise Http2ConnectionError(PROTOCOL_ERROR, "a frame whose padding is longer than its payload")
    return at + 1, end - data[at]


def after_priority(data: bytes, at: int, end: int, flags: int, stream_id: int) -> int:
    """The position behind the priority in HEADERS, which is verified and ignored (RFC 9113 5.3.2). Raises
    `Http2ConnectionError`."""
    if not flags & HAS_PRIORITY:
        return at
    if end - at < _PRIORITY_BYTES:
        raise Http2ConnectionError(FRAME_SIZE_ERROR, "HEADERS that end within their priority")
    check_dependency(data, at, stream_id)
    return at + _PRIORITY_BYTES


def check_dependency(data: bytes, at: int, stream_id: int) -> None:
    """RFC 7540 5.3.1: a stream cannot depend on itself."""
    if read_number(data, at) & MAX_STREAM_ID == stream_id:
        raise Http2ConnectionError(PROTOCOL_ERROR, f"stream {stream_id} depends on itself")
