"""Coarse timers, shared: thousands of deadlines cost the event loop one call per tick, and none when idle."""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Callable

TICK_S = 0.01


class Timer:
    """A deadline that was set, for `at_s` of the timers' clock. `cancel` may be called at any time, and more
    than once."""

    __slots__ = ("_slot", "at_s", "callback")

    def __init__(self, slot: set[Timer], at_s: float, callback: Callable[[], None]) -> None:
        self._slot = slot
        self.at_s = at_s
        self.callback = callback

    def cancel(self) -> None:
        self._slot.discard(self)


class Timers:
    """Deadlines in slots of `TICK_S`: each is called within a tick after its time, never before."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._slots: dict[int, set[Timer]] = {}
        self._ticks: list[int] = []
        self._handle: asyncio.TimerHandle | None = None
        self._next_tick = 0

    def after(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        at_s = self.loop.time() + delay_s
        tick = math.ceil(at_s / TICK_S)
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
        """Of the clock that the deadlines are measured by."""
        return self.loop.time()

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
        self._handle = self.loop.call_at(self._next_tick * TICK_S, self._fire)

    def _fire(self) -> None:
        self._handle = None
        now_tick = math.floor(self.loop.time() / TICK_S)
        while self._ticks and self._ticks[0] <= now_tick:
            slot = self._slots.pop(heapq.heappop(self._ticks))
            while slot:  # a callback may cancel another timer of the same slot
                timer = slot.pop()
                try:
                    timer.callback()
                except Exception as error:  # a fault of one owner's must not cost the others their deadlines
                    self.loop.call_exception_handler(
                        {"message": "a timer's callback failed", "exception": error}
                    )
        if self._ticks:
            self._schedule()

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._slots.clear()
        self._ticks.clear()
