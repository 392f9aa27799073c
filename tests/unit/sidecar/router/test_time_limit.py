from __future__ import annotations

import asyncio
import gc
import math
from collections.abc import Iterator

import pytest

from sidecar.errors import UpstreamTimeoutError
from sidecar.router.time_limit import TimeLimit
from sidecar.timers import Timers
from tests.support.virtual_time import VirtualTime


@pytest.fixture
def time() -> VirtualTime:
    return VirtualTime()


@pytest.fixture
def timers(time: VirtualTime) -> Iterator[Timers]:
    timers = Timers(time)
    yield timers
    timers.close()


def too_slow() -> UpstreamTimeoutError:
    return UpstreamTimeoutError("too slow")


async def test_a_block_that_takes_too_long_raises_the_error(time: VirtualTime, timers: Timers) -> None:
    limit = TimeLimit(timers, 1.0, too_slow)
    asyncio.get_running_loop().call_soon(time.advance, 1.1)
    with pytest.raises(UpstreamTimeoutError), limit:
        await asyncio.Event().wait()
    assert limit.expired
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_block_in_time_leaves_no_timer_behind(time: VirtualTime, timers: Timers) -> None:
    limit = TimeLimit(timers, 1.0, too_slow)
    with limit:
        pass
    time.advance(2.0)
    assert not limit.expired


async def test_a_cancellation_by_another_caller_is_passed_on(timers: Timers) -> None:
    async def limited() -> None:
        with TimeLimit(timers, 60, too_slow):
            await asyncio.Event().wait()

    task = asyncio.create_task(limited())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_task_that_another_caller_cancels_too_is_cancelled(time: VirtualTime, timers: Timers) -> None:
    limit = TimeLimit(timers, 1.0, too_slow)

    async def limited() -> None:
        with limit:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                task.cancel()
                raise

    task = asyncio.create_task(limited())
    await asyncio.sleep(0)
    time.advance(1.1)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert limit.expired


async def test_a_deferred_limit_runs_from_its_start(time: VirtualTime, timers: Timers) -> None:
    limit = TimeLimit(timers, 1.0, too_slow, deferred=True)
    with limit:
        time.advance(2.0)
        await asyncio.sleep(0)
        assert limit.at_s == math.inf
    limit.start()  # after the block it only sets the time of the end
    assert limit.at_s < math.inf
    time.advance(2.0)
    assert not limit.expired


async def test_a_limit_that_was_not_reached_leaves_no_reference_cycle(timers: Timers) -> None:
    """With a cycle, the garbage collector would run after every few thousand requests."""
    gc.collect()
    gc.disable()
    try:
        with TimeLimit(timers, 10.0, too_slow):
            pass
        assert gc.collect() == 0
    finally:
        gc.enable()
