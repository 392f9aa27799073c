from __future__ import annotations

import asyncio
import gc

import pytest

from sidecar.errors import UpstreamTimeoutError
from sidecar.router.time_limit import TimeLimit
from sidecar.timers import Timers


def too_slow() -> UpstreamTimeoutError:
    return UpstreamTimeoutError("too slow")


async def test_a_block_that_takes_too_long_raises_the_error() -> None:
    timers = Timers(asyncio.get_running_loop())
    limit = TimeLimit(timers, 0.01, too_slow)
    with pytest.raises(UpstreamTimeoutError), limit:
        await asyncio.Event().wait()
    assert limit.expired
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    timers.close()


async def test_a_block_in_time_leaves_no_timer_behind() -> None:
    timers = Timers(asyncio.get_running_loop())
    limit = TimeLimit(timers, 0.01, too_slow)
    with limit:
        pass
    await timers.sleep(0.03)
    assert not limit.expired
    timers.close()


async def test_a_cancellation_by_another_caller_is_passed_on() -> None:
    timers = Timers(asyncio.get_running_loop())

    async def limited() -> None:
        with TimeLimit(timers, 60, too_slow):
            await asyncio.Event().wait()

    task = asyncio.create_task(limited())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    timers.close()


async def test_when_both_want_it_cancelled_cancelled_it_is() -> None:
    timers = Timers(asyncio.get_running_loop())
    limit = TimeLimit(timers, 0.01, too_slow)

    async def limited() -> None:
        with limit:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                task.cancel()
                raise

    task = asyncio.create_task(limited())
    with pytest.raises(asyncio.CancelledError):
        await task
    assert limit.expired
    timers.close()


async def test_a_deferred_limit_runs_from_its_start() -> None:
    timers = Timers(asyncio.get_running_loop())
    limit = TimeLimit(timers, 0.01, too_slow, deferred=True)
    with limit:
        await timers.sleep(0.03)
        assert limit.expires_s is None
    limit.start()  # the block has been left: it only tells until when
    assert limit.expires_s is not None
    await timers.sleep(0.03)
    assert not limit.expired
    timers.close()


async def test_a_limit_that_was_not_reached_leaves_no_reference_cycle() -> None:
    """Else the garbage collector runs after every few thousand requests."""
    timers = Timers(asyncio.get_running_loop())
    gc.collect()
    gc.disable()
    try:
        with TimeLimit(timers, 10.0, too_slow):
            pass
        assert gc.collect() == 0
    finally:
        gc.enable()
        timers.close()
