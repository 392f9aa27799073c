"""Reads header blocks: HEADERS and its CONTINUATIONs become a block (RFC 9113 4.3), and that a head."""

from __future__ import annotations

from typing import Final

from sidecar.config.http2 import Http2Options
from sidecar.http.h2.error_codes import (
    COMPRESSION_ERROR,
    ENHANCE_YOUR_CALM,
    INTERNAL_ERROR,
    Http2ConnectionError,
    Http2StreamError,
)
from sidecar.http.h2.frames import MAX_PAYLOAD
from sidecar.http.h2.head_rules import MessageHead, malformed, read_request, read_response, read_trailers
from sidecar.http.h2.hpack.block import MALFORMED, TOO_LARGE, read_block
from sidecar.http.h2.hpack.dynamic_table import DynamicTable, HpackError
from sidecar.http.headers import Headers

# Frames of a block, besides those that its largest size needs.
_SPARE_FRAMES: Final = 8
# Heads by their blocks: most requests of a connection resemble each other.
_MAX_KEPT: Final = 32
_MAX_KEPT_BYTES: Final = 128


class HeadReader:
    """Reads the blocks of one connection, in their order.

    A block that changes nothing in the dynamic table means the same as long as nothing else changes it: its
    head is kept, and found by one look-up.
    """

    __slots__ = (
        "_allow_connect",
        "_client",
        "_kept",
        "_kept_at",
        "_max_block",
        "_max_bytes",
        "_max_count",
        "_parts",
        "_size",
        "ends_stream",
        "stream_id",
        "table",
    )

    def __init__(self, options: Http2Options, *, client: bool) -> None:
        self.table = DynamicTable(options.hpack_table_size)
        self._client = client
        self._allow_connect = options.allow_connect
        self._max_bytes = options.max_headers_bytes
        self._max_count = options.max_headers_count
        # A larger block cannot be read to its end with bounded work.
        self._max_block = 2 * options.max_headers_bytes + MAX_PAYLOAD
        self._kept: dict[bytes, MessageHead] = {}
        self._kept_at = 0  # the insertions into the table
        # A block that has begun, and its stream; 0 if there is none.
        self.stream_id = 0
        self.ends_stream = False
        self._parts: list[bytes] = []
        self._size = 0

    def begin(self, stream_id: int, part: bytes, ends_stream: bool) -> None:
        """HEADERS without END_HEADERS."""
        self.stream_id = stream_id
        self.ends_stream = ends_stream
        self._parts = [part]
        self._size = len(part)

    def add(self, part: bytes) -> None:
        """CONTINUATION. Raises `Http2ConnectionError`: the block is too large, or has too many frames."""
        self._parts.append(part)
        self._size += len(part)
        if self._size > self._max_block or len(self._parts) > _SPARE_FRAMES + self._max_block // MAX_PAYLOAD:
            raise Http2ConnectionError(
                ENHANCE_YOUR_CALM, "a header block is too large, or in too many frames"
            )

    def end(self) -> bytes:
        """Returns the block that has begun."""
        block = b"".join(self._parts)
        self._parts = []
        self.stream_id = 0
        return block

    def read_head(self, block: bytes) -> MessageHead:
        """The head may be returned again: its `headers` must be copied. Raises `Http2StreamError`, and
        `Http2ConnectionError`."""
        table = self.table
        if self._kept_at == table.insertions:
            kept = self._kept.get(block)
            if kept is not None:
                return kept
        before = table.insertions
        fields, special, size = self._read(block)
        if self._client:
            head = read_response(fields, special, size)
        else:
            head = read_request(fields, special, size, allow_connect=self._allow_connect)
        if table.insertions == before and len(block) <= _MAX_KEPT_BYTES:
            if self._kept_at != before or len(self._kept) >= _MAX_KEPT:
                self._kept.clear()
                self._kept_at = before
            self._kept[block] = head
        return head

    def read_trailers(self, block: bytes, received: int) -> Headers:
        """`received` as in `head_rules.read_trailers`. Raises as `read_head`."""
        fields, special, _ = self._read(block)
        return read_trailers(fields, special, received, of_request=not self._client)

    def skip(self, block: bytes) -> None:
        """Reads a block that concerns nobody, for its changes to the table. Raises `Http2ConnectionError`."""
        self._read_block(block, 0)

    def _read(self, block: bytes) -> tuple[Headers, Headers, int]:
        fields, special, size, verdict, culprit = self._read_block(block, self._max_bytes)
        if verdict == TOO_LARGE:
            counter = "header_list_size_too_large" if size > self._max_bytes else "header_overflow"
            raise Http2StreamError(INTERNAL_ERROR, "the headers are too large, or too many", counter)
        if verdict == MALFORMED:
            raise malformed(f"{culprit.decode('latin-1')!a} is an invalid header, or out of place")
        return fields, special, size

    def _read_block(self, block: bytes, max_bytes: int) -> tuple[Headers, Headers, int, int, bytes]:
        try:
            return read_block(block, self.table, max_bytes, self._max_count)
        except HpackError as error:
            raise Http2ConnectionError(COMPRESSION_ERROR, str(error)) from None
