from __future__ import annotations

import asyncio
import sys
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from sidecar.timers import TICK_S, Timers
from tests.support.virtual_time import VirtualTime


@given(st.lists(st.floats(0, 10), min_size=1))
def test_each_timer_is_called_once_within_a_tick_after_its_deadline(delays_s: list[float]) -> None:
    time, late_s = VirtualTime(), []
    timers = Timers(time)
    for delay_s in delays_s:
        timers.after(delay_s, lambda at_s=time.now + delay_s: late_s.append(time.now - at_s))
    time.advance(10 + TICK_S)
    assert len(late_s) == len(delays_s)
    assert all(0 <= late < TICK_S for late in late_s)
    assert timers.pending == 0


def test_timers_fire_in_the_order_of_their_deadlines() -> None:
    time, order = VirtualTime(), []
    timers = Timers(time)
    timers.after(3 * TICK_S, lambda: order.append("later"))
    timers.after(TICK_S, lambda: order.append("sooner"))
    time.advance(3 * TICK_S)
    assert order == ["sooner", "later"]


def test_a_cancelled_timer_is_never_called_and_costs_no_memory() -> None:
    time, called = VirtualTime(), []
    timers = Timers(time)
    for _ in range(1000):
        timers.after(TICK_S, lambda: called.append(1)).cancel()
    assert timers.pending == 0
    time.advance(1)
    assert not called


def test_cancelled_timers_of_many_connections_leave_one_slot_for_each_second() -> None:
    """The idle timeout of a connection is an hour, and most connections end before."""
    time, called = VirtualTime(), []
    timers = Timers(time)
    due_s = time.now + 3600
    timers.after(3600, lambda: called.append(time.now))
    tracemalloc.start()
    try:
        for _ in range(1000):
            timers.after(3600, lambda: called.append(1)).cancel()
            time.advance(TICK_S)
        assert tracemalloc.get_traced_memory()[0] < 100 * sys.getsizeof(set())
    finally:
        tracemalloc.stop()
    time.advance(3601)
    assert len(called) == 1
    assert 0 <= called[0] - due_s <= 1


def test_the_loop_is_seldom_woken_for_cancelled_timers() -> None:
    """Each request sets a time limit, and cancels it soon after."""
    time, called = VirtualTime(), []
    timers = Timers(time)
    ticks = 10_000
    for _ in range(ticks):
        timer = timers.after(15.0, lambda: called.append(1))
        time.advance(TICK_S)
        timer.cancel()
    assert time.wake_ups < ticks / 50
    timers.after(1.0, lambda: called.append(time.now))
    due_s = time.now + 1.0
    time.advance(20.0)
    (called_s,) = called
    assert due_s <= called_s < due_s + TICK_S
    last = time.wake_ups
    time.advance(20.0)
    assert time.wake_ups == last


def test_a_failing_callback_does_not_stop_the_others() -> None:
    time, called = VirtualTime(), []
    timers = Timers(time)

    def fail() -> None:
        raise ValueError("an error")

    for delay_s in (TICK_S, 2 * TICK_S):
        timers.after(delay_s, fail)
        timers.after(delay_s, lambda: called.append(1))
        timers.after(delay_s, fail)
    time.advance(1)
    assert called == [1, 1]
    assert [str(error) for error in time.errors] == ["an error"] * 4


def test_a_callback_may_cancel_a_timer_of_its_own_slot() -> None:
    time, called, pair = VirtualTime(), [], []
    timers = Timers(time)

    def first_wins(name: str) -> None:
        called.append(name)
        for timer in pair:
            timer.cancel()

    pair.append(timers.after(TICK_S, lambda: first_wins("a")))
    pair.append(timers.after(TICK_S, lambda: first_wins("b")))
    time.advance(1)
    assert len(called) == 1


def test_a_callback_may_set_the_next_timer() -> None:
    time, called = VirtualTime(), []
    timers = Timers(time)
    timers.after(0, lambda: timers.after(0, lambda: called.append(1)))
    time.advance(2 * TICK_S)
    assert called == [1]


def test_nothing_fires_after_close() -> None:
    time, called = VirtualTime(), []
    timers = Timers(time)
    timers.after(0, lambda: called.append(1))
    timers.close()
    time.advance(1)
    assert not called


async def test_an_event_loop_drives_the_timers() -> None:
    loop = asyncio.get_running_loop()
    timers, start_s = Timers(loop), loop.time()
    await asyncio.wait_for(timers.sleep(0.03), 5)
    assert loop.time() - start_s >= 0.03
