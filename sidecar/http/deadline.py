"""A deadline that moves with every byte, for the price of an assignment."""

from __future__ import annotations

import math
from collections.abc import Callable

from sidecar.timers import Timer, Timers


class Deadline:
    """Calls back once, when the time last given to `move_to` has come. Moved to later, it leaves its timer
    alone, which then finds out; so a connection that stays busy sets a timer once in a timeout."""

    __slots__ = ("_at", "_callback", "_clock", "_fires_at", "_timer", "_timers")

    def __init__(self, timers: Timers, clock: Callable[[], float], callback: Callable[[], None]) -> None:
        self._timers = timers
        self._clock = clock
        self._callback = callback
        self._at = math.inf
        self._fires_at = math.inf
        self._timer: Timer | None = None

    def move_to(self, at: float) -> None:
        """`at` is of the clock's time; infinity disables."""
        self._at = at
        if at < self._fires_at:
            self._arm()

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
