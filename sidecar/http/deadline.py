"""A deadline that can be moved with every byte, at the cost of an assignment."""

from __future__ import annotations

import math
from collections.abc import Callable

from sidecar.timers import Timer, Timers


class Deadline:
    """Calls back once, at the time last passed to `move_to`. A later time does not change the timer: it is
    set again when it fires too early. So a busy connection sets one timer in each timeout."""

    __slots__ = ("_at", "_callback", "_clock", "_fires_at", "_timer", "_timers")

    def __init__(self, timers: Timers, clock: Callable[[], float], callback: Callable[[], None]) -> None:
        self._timers = timers
        self._clock = clock
        self._callback = callback
        self._at = math.inf
        self._fires_at = math.inf
        self._timer: Timer | None = None

    def move_to(self, at: float) -> None:
        """`at` is a time of the clock; infinity disables the deadline."""
        self._at = at
        if at < self._fires_at:
            self._arm()

    def end(self) -> None:
        """Cancels the deadline for good, and forgets the callback, whose owner has the deadline: that is a
        cycle."""
        self.cancel()
        self._callback = _nothing

    def cancel(self) -> None:
        self._at = math.inf
        self._fires_at = math.inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._fires_at = self._at
        self._timer = self._timers.after(max(self._at - self._clock(), 0.0), self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._fires_at = math.inf
        if self._at == math.inf:
            return
        if self._clock() < self._at:
            self._arm()
            return
        self._at = math.inf
        self._callback()


def _nothing() -> None:
    """The callback of a deadline that has ended."""
