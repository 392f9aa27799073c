"""Debouncing: combines many changes into one snapshot. Waits for a quiet period, with an upper limit.

The defaults are Istio pilot's PILOT_DEBOUNCE_AFTER and, shorter than its 10 s, PILOT_DEBOUNCE_MAX.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol


class Timer(Protocol):
    def cancel(self) -> None: ...


Schedule = Callable[[float, Callable[[], None]], Timer]


def _on_the_loop(delay_s: float, callback: Callable[[], None]) -> Timer:
    return asyncio.get_running_loop().call_later(delay_s, callback)


class Debouncer:
    """Calls ``callback`` once for a burst of `trigger` calls: ``quiet_s`` after the last call, but at most
    ``max_s`` after the first. Uses one timer, regardless of the number of calls."""

    def __init__(
        self,
        callback: Callable[[], None],
        quiet_s: float = 0.1,
        max_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        schedule: Schedule = _on_the_loop,
    ) -> None:
        self._callback: Final = callback
        self._quiet_s: Final = quiet_s
        self._max_s: Final = max_s
        self._clock: Final = clock
        self._schedule: Final = schedule
        self._first = 0.0
        self._last = 0.0
        self._timer: Timer | None = None

    def trigger(self) -> None:
        self._last = self._clock()
        if self._timer is None:
            self._first = self._last
            self._timer = self._schedule(min(self._quiet_s, self._max_s), self._look)

    def close(self) -> None:
        """Cancels a pending callback."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        due = min(self._last + self._quiet_s, self._first + self._max_s)
        remaining_s = due - self._clock()
        if remaining_s > 0:
            self._timer = self._schedule(remaining_s, self._look)
            return
        # Before the callback, which may call `trigger` and so start the next burst.
        self._timer = None
        self._callback()
