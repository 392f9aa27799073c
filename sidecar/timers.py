"""Coarse timers, shared: thousands of deadlines cost the event loop one call per tick, and none when idle."""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Callable
from typing import Any, Protocol

# A power of two, so that a multiple of it is an exact float.
TICK_S = 1 / 128
# A deadline this far away may be called a second late. The slot of a cancelled timer stays until its time: an
# hour of short connections, whose idle timeout is an hour, would leave some hundred thousand empty slots.
_FAR_S = 60.0
_TICKS_PER_S = 128


class Scheduled(Protocol):
    def cancel(self) -> None: ...


class TimerLoop(Protocol):
    """The part of an event loop that timers need. Tests pass a loop whose time they control."""

    def time(self) -> float:
        """In seconds, from an arbitrary start; never goes back."""

    def call_at(self, when: float, callback: Callable[[], object], /) -> Scheduled: ...

    def call_exception_handler(self, context: dict[str, Any], /) -> None: ...


class Timer:
    """A pending deadline; `at_s` is a time of the timers' clock. `cancel` may be called at any time, and more
    than once."""

    __slots__ = ("_slot", "at_s", "callback")

    def __init__(self, slot: set[Timer], at_s: float, callback: Callable[[], None]) -> None:
        self._slot = slot
        self.at_s = at_s
        self.callback = callback

    def cancel(self) -> None:
        self._slot.discard(self)
        self.callback = _nothing  # the owner keeps the timer, and the callback its owner: that is a cycle


def _nothing() -> None:
    """The callback of a cancelled timer."""


class Timers:
    """Deadlines in slots of `TICK_S`: each callback runs within one tick after its deadline, never before.
    A deadline that is a minute or more away may be called one second late."""

    __slots__ = ("_handle", "_loop", "_next_tick", "_slots", "_ticks")

    def __init__(self, loop: TimerLoop) -> None:
        self._loop = loop
        self._slots: dict[int, set[Timer]] = {}
        self._ticks: list[int] = []
        self._handle: Scheduled | None = None
        self._next_tick = 0

    def after(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        at_s = self._loop.time() + delay_s
        tick = math.ceil(at_s / TICK_S)
        if delay_s >= _FAR_S:
            tick = -(-tick // _TICKS_PER_S) * _TICKS_PER_S
        slot = self._slots.get(tick)
        if slot is None:
            slot = self._slots[tick] = set()
            heapq.heappush(self._ticks, tick)
            if self._handle is None or tick < self._next_tick:
                self._schedule()
        timer = Timer(slot, at_s, callback)
        slot.add(timer)
        return timer

    def now_s(self) -> float:
        """The current time of the clock that measures the deadlines."""
        return self._loop.time()

    @property
    def pending(self) -> int:
        """The number of deadlines that are neither reached nor cancelled."""
        return sum(len(slot) for slot in self._slots.values())

    async def sleep(self, delay_s: float) -> None:
        slept = asyncio.Event()
        timer = self.after(delay_s, slept.set)
        try:
            await slept.wait()
        finally:
            timer.cancel()

    def _schedule(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._next_tick = self._ticks[0]
        self._handle = self._loop.call_at(self._next_tick * TICK_S, self._fire)

    def _fire(self) -> None:
        self._handle = None
        now_tick = math.floor(self._loop.time() / TICK_S)
        while self._ticks and self._ticks[0] <= now_tick:
            slot = self._slots.pop(heapq.heappop(self._ticks))
            while slot:  # a callback may cancel another timer of the same slot
                timer = slot.pop()
                try:
                    timer.callback()
                except Exception as error:  # an error in one callback must not delay the other deadlines
                    self._loop.call_exception_handler(
                        {"message": "a timer's callback failed", "exception": error}
                    )
        if self._ticks:
            self._schedule()

    def close(self) -> None:
        """Cancels every timer."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._slots.clear()
        self._ticks.clear()
