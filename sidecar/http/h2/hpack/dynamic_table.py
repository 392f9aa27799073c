"""The dynamic table of a decoder (RFC 7541 2.3.2, 4)."""

from __future__ import annotations

from typing import Final

from sidecar.errors import SidecarError
from sidecar.http.headers import Headers

ENTRY_OVERHEAD: Final = 32  # RFC 7541 4.1
INITIAL_SIZE: Final = 4096  # RFC 9113 6.5.2


class HpackError(SidecarError):
    """A block that cannot be read. The message says why. The connection cannot go on (RFC 9113 4.3)."""


class DynamicTable:
    """RFC 7541 2.3.2. The last entry is the newest, which has the lowest index.

    `limit` is the largest `max_size` that the encoder may choose, by the settings that it has acknowledged.
    `kinds` are those of the entries. `insertions` counts: a block read again without one in between means the
    same.
    """

    __slots__ = ("entries", "insertions", "kinds", "limit", "max_size", "size")

    def __init__(self, limit: int) -> None:
        self.entries: Headers = []
        self.kinds: list[int] = []
        self.size = 0
        self.max_size = INITIAL_SIZE
        self.limit = max(limit, INITIAL_SIZE)
        self.insertions = 0

    def insert(self, field: tuple[bytes, bytes], kind: int) -> None:
        self.insertions += 1
        self.size += len(field[0]) + len(field[1]) + ENTRY_OVERHEAD
        self.entries.append(field)
        self.kinds.append(kind)
        if self.size > self.max_size:
            self.evict()

    def resize(self, max_size: int) -> None:
        """Raises `HpackError`."""
        if max_size > self.limit:
            raise HpackError(f"a dynamic table of {max_size} bytes, more than {self.limit}")
        self.insertions += 1
        self.max_size = max_size
        self.evict()

    def evict(self) -> None:
        """Drops the oldest entries until the others fit. An entry that is larger than the table empties
        it."""
        count = 0
        while self.size > self.max_size:
            name, value = self.entries[count]
            self.size -= len(name) + len(value) + ENTRY_OVERHEAD
            count += 1
        del self.entries[:count]
        del self.kinds[:count]
