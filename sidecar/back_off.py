"""How long to wait before an action that failed is tried again. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_MAX_DOUBLINGS: Final = 32  # a count of failures has no limit, a float has


@dataclass(frozen=True, slots=True, kw_only=True)
class BackOff:
    """An exponential back-off: the longest pause doubles with each failure, from `base_s` to `max_s`.

    The caller waits for a random part of it ("full jitter"): many proxies that failed at the same time must
    not all try again at the same time.
    """

    base_s: float
    max_s: float

    def longest_s(self, failures: int) -> float:
        """`failures`: how many there were in a row, at least 1."""
        return min(self.base_s * 2.0 ** min(failures - 1, _MAX_DOUBLINGS), self.max_s)
