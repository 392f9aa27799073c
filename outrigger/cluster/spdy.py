"""The part of SPDY/3.1 that a client of `port-forward` needs: it opens streams, and receives data.

https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

_VERSION: Final = 0x8003  # a control frame of version 3
_SYN_STREAM: Final = 1
_FIN: Final = 0x01
_HEAD: Final = struct.Struct(">II")
_LARGEST_FRAME: Final = 1 << 24


class SpdyError(Exception):
    """The peer sends something else than SPDY."""


@dataclass(frozen=True, slots=True)
class Data:
    """``ended``: the stream has no more, because the peer closed or reset it."""

    stream: int
    data: bytes
    ended: bool


@dataclass(frozen=True, slots=True)
class Ping:
    """``answer`` must be sent back."""

    answer: bytes


class Sender:
    """Returns the bytes of frames. All header blocks of a connection are one compressed stream; the
    dictionary of SPDY is not needed for sending."""

    def __init__(self) -> None:
        self._deflate: Final = zlib.compressobj()

    def open(self, stream: int, headers: Mapping[str, str], *, ended: bool = False) -> bytes:
        """``ended``: we send nothing on it."""
        block = struct.pack(">I", len(headers)) + b"".join(
            struct.pack(">I", len(part)) + part.encode() for pair in headers.items() for part in pair
        )
        compressed = self._deflate.compress(block) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        payload = struct.pack(">IIH", stream, 0, 0) + compressed
        flags = _FIN if ended else 0
        return _HEAD.pack(_VERSION << 16 | _SYN_STREAM, flags << 24 | len(payload)) + payload

    def data(self, stream: int, content: bytes) -> bytes:
        return _HEAD.pack(stream, len(content)) + content


class Receiver:
    """Parses frames of any division into chunks."""

    def __init__(self) -> None:
        self._pending: Final = bytearray()

    def receive(self, chunk: bytes) -> Iterator[Data | Ping]:
        """Raises `SpdyError`. Replies to streams, settings and windows need no action."""
        self._pending.extend(chunk)
        while len(self._pending) >= _HEAD.size:
            first, second = _HEAD.unpack_from(self._pending)
            flags, length = second >> 24, second & (_LARGEST_FRAME - 1)
            if len(self._pending) < _HEAD.size + length:
                return
            frame = bytes(self._pending[: _HEAD.size + length])
            del self._pending[: _HEAD.size + length]
            if event := _event(first, flags, frame):
                yield event


def _event(first: int, flags: int, frame: bytes) -> Data | Ping | None:
    payload = frame[_HEAD.size :]
    if first < 1 << 31:
        return Data(first, payload, bool(flags & _FIN))
    if first >> 16 != _VERSION:
        raise SpdyError(f"the version of a frame is {first >> 16 & 0x7FFF}, not 3")
    match first & 0xFFFF:
        case 3 if len(payload) == 8:  # RST_STREAM
            return Data(struct.unpack(">I", payload[:4])[0], b"", ended=True)
        case 6:  # PING
            return Ping(frame)
    return None
