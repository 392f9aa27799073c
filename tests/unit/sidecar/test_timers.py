from __future__ import annotations

import asyncio

from sidecar.timers import TICK_S, Timers


async def test_a_timer_is_called_after_its_delay_never_before() -> None:
    loop = asyncio.get_running_loop()
    timers, fired = Timers(loop), loop.create_future()
    start_s = loop.time()
    timers.after(0.03, lambda: fired.set_result(loop.time()))
    assert await fired - start_s >= 0.03


async def test_timers_fire_in_the_order_of_their_deadlines() -> None:
    timers, order, done = Timers(asyncio.get_running_loop()), [], asyncio.Event()
    timers.after(5 * TICK_S, done.set)
    timers.after(3 * TICK_S, lambda: order.append("later"))
    timers.after(TICK_S, lambda: order.append("sooner"))
    await asyncio.wait_for(done.wait(), 5)
    assert order == ["sooner", "later"]


async def test_a_cancelled_timer_is_never_called_and_costs_no_memory() -> None:
    timers, called, done = Timers(asyncio.get_running_loop()), [], asyncio.Event()
    for _ in range(1000):
        timers.after(TICK_S, lambda: called.append(1)).cancel()
    timers.after(2 * TICK_S, done.set)
    assert sum(len(slot) for slot in timers._slots.values()) == 1
    await asyncio.wait_for(done.wait(), 5)
    assert not called


async def test_a_callback_that_fails_costs_the_others_nothing() -> None:
    loop = asyncio.get_running_loop()
    timers, called, done, reported = Timers(loop), [], asyncio.Event(), []
    loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))

    def fail() -> None:
        raise ValueError("a fault")

    for delay_s in (TICK_S, 2 * TICK_S):
        timers.after(delay_s, fail)
        timers.after(delay_s, lambda: called.append(1))
        timers.after(delay_s, fail)
    timers.after(3 * TICK_S, done.set)
    await asyncio.wait_for(done.wait(), 5)
    assert called == [1, 1]
    assert [str(error) for error in reported] == ["a fault"] * 4


async def test_a_callback_may_cancel_a_timer_of_its_own_slot() -> None:
    timers, called, done = Timers(asyncio.get_running_loop()), [], asyncio.Event()
    pair = []

    def first_wins(name: str) -> None:
        called.append(name)
        for timer in pair:
            timer.cancel()

    pair.append(timers.after(TICK_S, lambda: first_wins("a")))
    pair.append(timers.after(TICK_S, lambda: first_wins("b")))
    timers.after(4 * TICK_S, done.set)
    await asyncio.wait_for(done.wait(), 5)
    assert len(called) == 1


async def test_a_callback_may_set_the_next_timer() -> None:
    timers, done = Timers(asyncio.get_running_loop()), asyncio.Event()
    timers.after(0, lambda: timers.after(0, done.set))
    await asyncio.wait_for(done.wait(), 5)


async def test_nothing_fires_after_close() -> None:
    loop = asyncio.get_running_loop()
    timers, called, done = Timers(loop), [], asyncio.Event()
    timers.after(0, lambda: called.append(1))
    timers.close()
    loop.call_later(5 * TICK_S, done.set)
    await asyncio.wait_for(done.wait(), 5)
    assert not called
