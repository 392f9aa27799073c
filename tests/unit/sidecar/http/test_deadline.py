from __future__ import annotations

import math

from sidecar.http.deadline import Deadline
from sidecar.timers import Timers
from tests.support.virtual_time import VirtualTime


class Fired:
    def __init__(self) -> None:
        self.time = VirtualTime()
        self.timers = Timers(self.time)
        self.times: list[float] = []
        self.deadline = Deadline(self.timers, self.time.time, lambda: self.times.append(self.time.now))


def test_calls_back_once_when_its_time_has_come() -> None:
    fired = Fired()
    fired.deadline.move_to(fired.time.now + 10)
    fired.time.advance(9)
    assert fired.times == []
    fired.time.advance(1)
    fired.time.advance(100)
    assert len(fired.times) == 1


def test_moving_later_sets_no_timer_and_moving_earlier_does() -> None:
    fired = Fired()
    start = fired.time.now
    fired.deadline.move_to(start + 10)
    for second in range(1, 10):
        fired.deadline.move_to(start + 10 + second)
    assert fired.timers.pending == 1
    fired.time.advance(18)
    assert fired.times == []
    fired.deadline.move_to(start + 18.5)
    fired.time.advance(0.5)
    assert fired.times == [start + 18.5]


def test_infinity_and_cancel_disable() -> None:
    fired = Fired()
    fired.deadline.move_to(fired.time.now + 1)
    fired.deadline.move_to(math.inf)
    fired.time.advance(10)
    fired.deadline.move_to(fired.time.now + 1)
    fired.deadline.cancel()
    fired.time.advance(10)
    assert fired.times == []
    fired.deadline.move_to(fired.time.now + 1)
    fired.time.advance(1)
    assert len(fired.times) == 1
