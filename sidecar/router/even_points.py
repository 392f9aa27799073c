"""Points of [0, 1) that choose among weighted clusters: each is random, and together they are even.

Each sixteen points have one in each sixteenth, at the same place within it, and each 256 have one in each
part of 1/256: a canary has its share over tens of requests, and not only in the long run. Both orders are
shuffled again each time, so that a caller with a regular cycle does not always get the same cluster: every
16th or every 987th point is random, too.
"""

from __future__ import annotations

from random import Random

PARTS = 16


class EvenPoints:
    """An endless sequence, for one route."""

    __slots__ = ("_parts", "_place", "_places", "_rng")

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._parts: list[int] = []  # not used yet, of the current sixteen
        self._places: list[int] = []  # within the parts, one for each sixteen points
        self._place = 0.0

    def next(self) -> float:
        if not self._parts:
            self._begin_sixteen()
        return (self._parts.pop() + self._place) / PARTS

    def _begin_sixteen(self) -> None:
        if not self._places:
            self._places = self._shuffled()
        self._place = (self._places.pop() + self._rng.random()) / PARTS
        self._parts = self._shuffled()

    def _shuffled(self) -> list[int]:
        numbers = list(range(PARTS))
        self._rng.shuffle(numbers)
        return numbers
