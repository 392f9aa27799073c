from __future__ import annotations

from collections.abc import Callable

import pytest

from controlplane.xds.debounce import Debouncer


class Scheduled:
    def __init__(self, at: float, callback: Callable[[], None]) -> None:
        self.at = at
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Time:
    """A clock with timers that the test advances."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Scheduled] = []

    def schedule(self, delay_s: float, callback: Callable[[], None]) -> Scheduled:
        timer = Scheduled(self.now + delay_s, callback)
        self.timers.append(timer)
        return timer

    def advance(self, to: float) -> None:
        while due := [timer for timer in self.timers if not timer.cancelled and timer.at <= to]:
            timer = min(due, key=lambda each: each.at)
            self.timers.remove(timer)
            self.now = max(self.now, timer.at)
            timer.callback()
        self.now = to


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def calls() -> list[float]:
    return []


@pytest.fixture
def debouncer(time: Time, calls: list[float]) -> Debouncer:
    return Debouncer(lambda: calls.append(time.now), clock=lambda: time.now, schedule=time.schedule)


def test_one_trigger_is_answered_when_it_has_been_quiet(
    debouncer: Debouncer, time: Time, calls: list[float]
) -> None:
    debouncer.trigger()
    time.advance(0.099)
    assert calls == []
    time.advance(0.2)
    assert calls == [pytest.approx(0.1)]


def test_a_burst_is_answered_once_after_its_last(
    debouncer: Debouncer, time: Time, calls: list[float]
) -> None:
    for moment in (0.0, 0.05, 0.12):
        time.advance(moment)
        debouncer.trigger()
    time.advance(5)
    assert calls == [pytest.approx(0.22)]


def test_a_source_that_is_never_quiet_is_answered_within_the_maximum(
    debouncer: Debouncer, time: Time, calls: list[float]
) -> None:
    for step in range(40):
        time.advance(step * 0.05)
        debouncer.trigger()
    time.advance(5)
    assert calls == [pytest.approx(1.0), pytest.approx(2.0)]


def test_a_trigger_from_the_callback_starts_another_burst(time: Time) -> None:
    calls: list[float] = []

    def callback() -> None:
        calls.append(time.now)
        if len(calls) == 1:
            debouncer.trigger()

    debouncer = Debouncer(callback, clock=lambda: time.now, schedule=time.schedule)
    debouncer.trigger()
    time.advance(5)
    assert calls == [pytest.approx(0.1), pytest.approx(0.2)]


def test_closed_it_forgets(debouncer: Debouncer, time: Time, calls: list[float]) -> None:
    debouncer.trigger()
    debouncer.close()
    time.advance(5)
    assert calls == []


def test_many_triggers_need_one_timer(debouncer: Debouncer, time: Time) -> None:
    for _ in range(1000):
        debouncer.trigger()
    assert len(time.timers) == 1
