"""Coarse timers, shared: thousands of deadlines cost the event loop one call per tick, and none when idle."""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Callable
from typing import Any, Final, Protocol

# A power of two, so that a multiple of it is an exact float.
TICK_S: Final = 1 / 128
# A deadline this far away may be called a second late. The slot of a cancelled timer stays until its time: an
# hour of short connections, whose idle timeout is an hour, would leave some hundred thousand empty slots.
_FAR_S: Final = 60.0
_TICKS_PER_S: Final = 128
# A process that serves a request at each moment has a slot for nearly each tick, and most deadlines are
# cancelled: the loop is not woken for each empty slot. This many are dropped at once: no request waits long.
_MAX_DROPPED: Final = _TICKS_PER_S


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
    than once. A subclass can act on its own deadline: `Timers.start` begins it."""

    __slots__ = ("_slot", "at_s")

    def __init__(self) -> None:
        self._slot: set[Timer] | None = None
        self.at_s = math.inf

    def begin(self, slot: set[Timer], at_s: float) -> None:
        """Called by `Timers`."""
        slot.add(self)
        self._slot = slot
        self.at_s = at_s

    def cancel(self) -> None:
        if self._slot is not None:
            self._slot.discard(self)
            self._slot = None

    def fire(self) -> None:
        """The deadline was reached."""
        raise NotImplementedError


class _Callback(Timer):
    __slots__ = ("_callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        super().__init__()
        self._callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        super().cancel()
        self._callback = None  # the owner keeps the timer, and the callback its owner: that is a cycle

    def fire(self) -> None:
        if self._callback is not None:
            self._callback()


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
        timer = _Callback(callback)
        self.start(timer, delay_s)
        return timer

    def start(self, timer: Timer, delay_s: float) -> None:
        """Begins a timer that is not pending."""
        at_s = self._loop.time() + delay_s
        tick = math.ceil(at_s * _TICKS_PER_S)
        if delay_s >= _FAR_S:
            tick = -(-tick // _TICKS_PER_S) * _TICKS_PER_S
        slot = self._slots.get(tick)
        if slot is None:
            slot = self._slots[tick] = set()
            heapq.heappush(self._ticks, tick)
            if self._handle is None or tick < self._next_tick:
                self._schedule()
        timer.begin(slot, at_s)

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

    def _drop_empty_slots(self) -> None:
        for _ in range(_MAX_DROPPED):
            if not self._ticks or self._slots[self._ticks[0]]:
                return
            del self._slots[heapq.heappop(self._ticks)]

    def _fire(self) -> None:
        self._handle = None
        now_tick = math.floor(self._loop.time() / TICK_S)
        while self._ticks and self._ticks[0] <= now_tick:
            slot = self._slots.pop(heapq.heappop(self._ticks))
            while slot:  # a callback may cancel another timer of the same slot
                timer = slot.pop()
                try:
                    timer.fire()
                except Exception as error:  # an error in one callback must not delay the other deadlines
                    self._loop.call_exception_handler(
                        {"message": "a timer's callback failed", "exception": error}
                    )
        self._drop_empty_slots()
        if self._ticks:
            self._schedule()

    def close(self) -> None:
        """Cancels every timer."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._slots.clear()
        self._ticks.clear()
