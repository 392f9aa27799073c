"""A buffer for the reads of transports, in Python. `bulk_reader` uses `_read_buffer` instead, the same class
in Cython, where it was compiled."""

from __future__ import annotations


class ReadBuffer:
    """A transport reads into `space`; then `take` returns what it has read, once."""

    def __init__(self, size: int) -> None:
        self._bytes = bytearray(size)

    def space(self) -> bytearray:
        """Where the next read writes: an object with the buffer protocol."""
        return self._bytes

    def take(self, size: int) -> bytes:
        """The first `size` bytes of the space. Raises `ValueError` if it is smaller."""
        if not 0 <= size <= len(self._bytes):
            raise ValueError(f"not {size} bytes")
        return bytes(memoryview(self._bytes)[:size])
