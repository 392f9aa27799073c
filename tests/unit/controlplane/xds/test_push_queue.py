from __future__ import annotations

import asyncio

import pytest

from controlplane.model.snapshot import SnapshotChange
from controlplane.xds.push_queue import NO_CHANGE, PushQueue


class Clock:
    now = 10.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> PushQueue[str]:
    return PushQueue(clock=clock)


def endpoints_of(*hostnames: str) -> SnapshotChange:
    return SnapshotChange(full=False, endpoints=frozenset(hostnames))


async def test_changes_of_one_proxy_are_merged(queue: PushQueue[str], clock: Clock) -> None:
    queue.enqueue("p", endpoints_of("a"))
    clock.now += 1
    queue.enqueue("p", endpoints_of("b"))
    assert len(queue) == 1
    push = await queue.take()
    assert push.change == endpoints_of("a", "b")
    assert push.queued_at == 10.0


async def test_a_push_without_a_change_does_not_age_the_change(queue: PushQueue[str], clock: Clock) -> None:
    queue.enqueue("p", NO_CHANGE)
    clock.now += 1
    queue.enqueue("p", endpoints_of("a"))
    assert (await queue.take()).queued_at == 11.0


async def test_first_come_first_served(queue: PushQueue[str]) -> None:
    for key in ("a", "b", "a", "c"):
        queue.enqueue(key, NO_CHANGE)
    assert [(await queue.take()).key for _ in range(3)] == ["a", "b", "c"]


async def test_a_proxy_is_pushed_to_once_at_a_time_and_then_goes_to_the_end(queue: PushQueue[str]) -> None:
    queue.enqueue("busy", NO_CHANGE)
    await queue.take()
    queue.enqueue("busy", endpoints_of("a"))
    queue.enqueue("other", NO_CHANGE)
    queue.done("busy")
    assert (await queue.take()).key == "other"
    push = await queue.take()
    assert push.key == "busy"
    assert push.change == endpoints_of("a")


async def test_a_worker_waits_for_work(queue: PushQueue[str]) -> None:
    workers = [asyncio.create_task(queue.take()) for _ in range(2)]
    await asyncio.sleep(0)
    queue.enqueue("a", NO_CHANGE)
    queue.enqueue("b", NO_CHANGE)
    taken = await asyncio.wait_for(asyncio.gather(*workers), 5)
    assert {push.key for push in taken} == {"a", "b"}


async def test_a_cancelled_worker_loses_no_push(queue: PushQueue[str]) -> None:
    worker = asyncio.create_task(queue.take())
    await asyncio.sleep(0)
    queue.enqueue("a", NO_CHANGE)
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)
    assert (await asyncio.wait_for(queue.take(), 5)).key == "a"


async def test_a_disconnected_proxy_is_removed(queue: PushQueue[str]) -> None:
    queue.enqueue("running", NO_CHANGE)
    await queue.take()
    queue.enqueue("running", NO_CHANGE)
    queue.enqueue("waiting", NO_CHANGE)
    queue.discard("running")
    queue.discard("waiting")
    queue.done("running")
    assert len(queue) == 0
