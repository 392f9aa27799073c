"""Finds the frames in what the peer sends (RFC 9113 3.4, 4.1)."""

from __future__ import annotations

from sidecar.http.h2.error_codes import FRAME_SIZE_ERROR, PROTOCOL_ERROR, Http2ConnectionError
from sidecar.http.h2.frames import DATA, END_STREAM, HEADER_SIZE, MAX_PAYLOAD, PADDED, PREFACE


class FrameReader:
    """After `feed`, each `next` that returns True has set the attributes to a frame: `kind`, `flags`,
    `stream_id`, and its payload, which is `data[at:end]`.

    DATA without padding is not held back until it is complete, but read in pieces. `size` is that of the
    whole payload in the first piece, and 0 in the others; `ends_stream` is that of the last.
    """

    __slots__ = (
        "_position",
        "_preface",
        "at",
        "data",
        "end",
        "flags",
        "kind",
        "missing",
        "size",
        "stream_id",
    )

    def __init__(self, *, preface: bool) -> None:
        self._preface = preface  # a client must send it first
        self._position = 0  # of the next frame
        self.data = b""
        self.at = 0
        self.end = 0
        self.kind = 0
        self.flags = 0
        self.stream_id = 0
        self.size = 0
        self.missing = 0  # bytes of a DATA frame that has begun

    def feed(self, data: bytes) -> None:
        self.data = self.data[self._position :] + data if self._position < len(self.data) else data
        self._position = 0

    def next(self) -> bool:
        """Raises `Http2ConnectionError`."""
        data = self.data
        at = self._position
        available = len(data) - at
        if self.missing:
            return self._next_piece(at, available)
        if self._preface:
            if not PREFACE.startswith(data[: len(PREFACE)]):
                raise Http2ConnectionError(
                    PROTOCOL_ERROR, "the connection does not begin with the preface of HTTP/2"
                )
            if available < len(PREFACE):
                return False
            self._preface = False
            at = self._position = len(PREFACE)
            available -= len(PREFACE)
        if available < HEADER_SIZE:
            return False
        size = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
        if size > MAX_PAYLOAD:
            raise Http2ConnectionError(FRAME_SIZE_ERROR, f"a frame of {size} bytes, more than {MAX_PAYLOAD}")
        self.kind = data[at + 3]
        self.flags = data[at + 4]
        if available < HEADER_SIZE + size:
            if self.kind != DATA or self.flags & PADDED or available == HEADER_SIZE:
                return False
            self.missing = size
        self.stream_id = (data[at + 5] & 0x7F) << 24 | data[at + 6] << 16 | data[at + 7] << 8 | data[at + 8]
        self.size = size
        at += HEADER_SIZE
        if self.missing:
            self._next_piece(at, available - HEADER_SIZE)
            self.size = size
            return True
        self.at = at
        self.end = self._position = at + size
        return True

    def _next_piece(self, at: int, available: int) -> bool:
        if available == 0:
            return False
        piece = min(available, self.missing)
        self.missing -= piece
        self.size = 0
        self.at = at
        self.end = self._position = at + piece
        return True

    @property
    def ends_stream(self) -> bool:
        return self.flags & END_STREAM != 0 and self.missing == 0
