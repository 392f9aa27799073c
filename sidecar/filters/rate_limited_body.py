"""A body that is passed on no faster than a rate. Envoy's ``StreamRateLimiter`` does the same."""

from __future__ import annotations

from typing import Final

from sidecar.http.body import Body, WrappedBody
from sidecar.timers import Timers

_SLICES_PER_S: Final = 16


class RateLimitedBody(WrappedBody):
    """Each slice of 1/16 s lets its share of the bytes through. While the body is idle, the shares of up to
    one second are kept."""

    __slots__ = ("_left", "_slice_bytes", "_slices", "_timers", "_until_s")

    def __init__(self, source: Body, kib_per_s: int, timers: Timers) -> None:
        super().__init__(source)
        self._timers = timers
        self._slice_bytes = max(kib_per_s * 1024 // _SLICES_PER_S, 1)
        self._slices = 1
        self._until_s = timers.now_s()  # the time up to which slices were counted
        self._left = b""

    @property
    def as_long_as(self) -> Body:
        return self._source.as_long_as

    @property
    def ended(self) -> bool:
        return self._source.ended and not self._left

    async def read(self) -> bytes:
        if not self._left:
            self._left = await self._source.read()
            if not self._left:
                return b""
        self._count_slices()
        while self._slices == 0:
            await self._timers.sleep(max(self._until_s + 1 / _SLICES_PER_S - self._timers.now_s(), 0.0))
            self._count_slices()
        wanted = -(-len(self._left) // self._slice_bytes)
        slices = min(wanted, self._slices)
        self._slices -= slices
        size = slices * self._slice_bytes
        piece, self._left = self._left[:size], self._left[size:]
        return piece

    def _count_slices(self) -> None:
        passed = int((self._timers.now_s() - self._until_s) * _SLICES_PER_S)
        self._until_s += passed / _SLICES_PER_S
        self._slices = min(self._slices + passed, _SLICES_PER_S)
