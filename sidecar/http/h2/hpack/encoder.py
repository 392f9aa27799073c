"""Encodes header lists (RFC 7541 6)."""

from __future__ import annotations

from collections import deque
from typing import Final

from sidecar.http.h2.hpack.dynamic_table import ENTRY_OVERHEAD, INITIAL_SIZE
from sidecar.http.h2.hpack.static_table import STATIC_INDEX, STATIC_NAMES, STATIC_SIZE
from sidecar.http.headers import HOP_BY_HOP, Headers

_INDEXED: Final = tuple(bytes((0x80 | index,)) for index in range(0x7F))  # 6.1
_SHORT: Final = tuple(
    bytes((size,)) for size in range(0x7F)
)  # the length of a string that is not Huffman-coded

# 7.1.3: nothing along the way stores these.
_SECRET_NAMES: Final = frozenset((b"authorization", b"proxy-authorization"))
_COOKIE: Final = b"cookie"
_SHORT_COOKIE: Final = 20  # bytes; a shorter one could be guessed
_CRUMB_SEPARATOR: Final = b"; "  # RFC 9113 8.2.3: each crumb is a field of its own, so that it can be indexed
_NOT_IN_HTTP2: Final = HOP_BY_HOP | {b"host"}  # RFC 9113 8.2.2, 8.3.1

# Larger fields are never indexed.
_MAX_ENTRY_SHARE: Final = 4  # a quarter of the table
# Fields that were seen once. One that is seen again is indexed: one that differs in each message never is,
# and does not evict the others.
_MAX_CANDIDATES: Final = 64


class HpackEncoder:
    """The encoder of one direction of a connection."""

    __slots__ = ("_candidates", "_entries", "_index", "_inserted", "_max_size", "_resized_to", "_size")

    def __init__(self) -> None:
        self._index: dict[tuple[bytes, bytes], int] = {}  # the number of the insertion
        self._entries: deque[tuple[bytes, bytes]] = deque()
        self._inserted = 0
        self._size = 0
        self._max_size = INITIAL_SIZE
        self._candidates: set[tuple[bytes, bytes]] = set()
        self._resized_to: list[int] = []  # to be announced in the next block: the smallest size, and the last

    def resize(self, max_size: int) -> None:
        """Limits the dynamic table. The next block announces it (RFC 7541 4.2)."""
        if max_size == self._max_size:
            return
        smallest = min([max_size, *self._resized_to])
        self._resized_to = [smallest] if smallest == max_size else [smallest, max_size]
        self._max_size = max_size
        self._evict()

    def encode(self, headers: Headers) -> bytes:
        """Returns a block. Names are lower-case already. Fields that HTTP/2 does not have are left out."""
        parts: list[bytes] = []
        if self._resized_to:
            parts += [encode_integer(0x20, 0x1F, size) for size in self._resized_to]
            self._resized_to = []
        index = self._index
        # The index of a field is that of the newest entry, plus the number of insertions since.
        newest = STATIC_SIZE + self._inserted
        for field in headers:
            inserted = index.get(field)
            position = newest - inserted if inserted is not None else STATIC_INDEX.get(field, 0)
            if position:
                parts.append(_INDEXED[position] if position < 0x7F else encode_integer(0x80, 0x7F, position))
            else:
                parts.append(self._encode_literal(field))
                newest = STATIC_SIZE + self._inserted
        return b"".join(parts)

    def _encode_literal(self, field: tuple[bytes, bytes]) -> bytes:
        name, value = field
        first, mask = 0x00, 0x0F
        if name == _COOKIE and _CRUMB_SEPARATOR in value:
            return self.encode([(name, crumb) for crumb in value.split(_CRUMB_SEPARATOR)])
        if name in _NOT_IN_HTTP2:
            return b""
        if name in _SECRET_NAMES or (name == _COOKIE and len(value) < _SHORT_COOKIE):
            first = 0x10
        elif field in self._candidates:
            self._candidates.discard(field)
            first, mask = 0x40, 0x3F
        elif len(name) + len(value) + ENTRY_OVERHEAD <= self._max_size // _MAX_ENTRY_SHARE:
            if len(self._candidates) >= _MAX_CANDIDATES:
                self._candidates.clear()
            self._candidates.add(field)
        if first == 0x40:
            self._insert(field)
        named = STATIC_NAMES.get(name, 0)
        beginning = encode_integer(first, mask, named) if named else bytes((first,)) + encode_string(name)
        return beginning + encode_string(value)

    def _insert(self, field: tuple[bytes, bytes]) -> None:
        """The candidate fits, unless the table has become smaller: then it empties the table (RFC 7541
        4.4)."""
        self._index[field] = self._inserted
        self._entries.append(field)
        self._inserted += 1
        self._size += len(field[0]) + len(field[1]) + ENTRY_OVERHEAD
        self._evict()

    def _evict(self) -> None:
        while self._size > self._max_size:
            oldest = self._entries.popleft()
            del self._index[oldest]
            self._size -= len(oldest[0]) + len(oldest[1]) + ENTRY_OVERHEAD


def encode_integer(first: int, mask: int, value: int) -> bytes:
    """An integer (RFC 7541 5.1) whose prefix is the bits of `mask` in the byte `first`."""
    if value < mask:
        return bytes((first | value,))
    out = bytearray((first | mask,))
    value -= mask
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_string(string: bytes) -> bytes:
    size = len(string)
    return (_SHORT[size] if size < 0x7F else encode_integer(0, 0x7F, size)) + string
