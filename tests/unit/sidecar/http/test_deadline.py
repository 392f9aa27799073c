from __future__ import annotations

import math

from sidecar.http.deadline import Deadline
from tests.support.http1 import Clock, FakeTimers


class Fired:
    def __init__(self) -> None:
        self.clock = Clock()
        self.timers = FakeTimers(self.clock)
        self.times: list[float] = []
        self.deadline = Deadline(self.timers, self.clock, lambda: self.times.append(self.clock.now))


def test_calls_back_once_when_its_time_has_come() -> None:
    fired = Fired()
    fired.deadline.move_to(fired.clock.now + 10)
    fired.timers.advance(9)
    assert fired.times == []
    fired.timers.advance(1)
    fired.timers.advance(100)
    assert len(fired.times) == 1


def test_moving_later_sets_no_timer_and_moving_earlier_does() -> None:
    fired = Fired()
    start = fired.clock.now
    fired.deadline.move_to(start + 10)
    for second in range(1, 10):
        fired.deadline.move_to(start + 10 + second)
    assert len(fired.timers.due) == 1
    fired.timers.advance(18)
    assert fired.times == []
    fired.deadline.move_to(start + 18.5)
    fired.timers.advance(0.5)
    assert fired.times == [start + 18.5]


def test_infinity_and_cancel_disable() -> None:
    fired = Fired()
    fired.deadline.move_to(fired.clock.now + 1)
    fired.deadline.move_to(math.inf)
    fired.timers.advance(10)
    fired.deadline.move_to(fired.clock.now + 1)
    fired.deadline.cancel()
    fired.timers.advance(10)
    assert fired.times == []
    fired.deadline.move_to(fired.clock.now + 1)
    fired.timers.advance(1)
    assert len(fired.times) == 1
