"""Time that advances only when a test advances it: the part of an event loop that `Timers` needs."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Mapping


class VirtualTime:
    """Give it to `Timers` in place of the loop, and its `time` where a clock is asked for."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.errors: list[object] = []
        """Of the timers' callbacks."""
        self.wake_ups = 0
        """How many calls were made."""
        self._order = itertools.count()
        self._scheduled: list[tuple[float, int, _Handle]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], object]) -> _Handle:
        handle = _Handle(callback)
        heapq.heappush(self._scheduled, (when, next(self._order), handle))
        return handle

    def call_exception_handler(self, context: Mapping[str, object]) -> None:
        self.errors.append(context["exception"])

    def advance(self, seconds: float) -> None:
        """Moves the clock from one due call to the next, so that each sees the time for which it was set."""
        end = self.now + seconds
        while self._scheduled and self._scheduled[0][0] <= end:
            when, _, handle = heapq.heappop(self._scheduled)
            self.now = max(self.now, when)
            if not handle.cancelled:
                self.wake_ups += 1
                handle.callback()
        self.now = end


class _Handle:
    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True
