from __future__ import annotations

import asyncio

import pytest

from sidecar.timers import Timers
from sidecar.transport.closing import Progress, close_when_flushed
from tests.support.http1 import FakeTransport
from tests.support.virtual_time import VirtualTime


def test_nothing_that_moves_for_the_timeout_is_a_stall() -> None:
    progress = Progress(10, 0, 100.0)
    assert not progress.stalled(0, 109.0)
    assert progress.stalled(0, 110.0)


def test_every_movement_restarts_the_timeout() -> None:
    progress = Progress(10, 0, 100.0)
    assert not progress.stalled(1, 109.0)
    assert not progress.stalled(1, 118.0)
    assert progress.stalled(1, 119.0)


def test_without_a_timeout_nothing_stalls() -> None:
    assert not Progress(0, 0, 100.0).stalled(0, 1e9)


class Closing:
    """A transport that is closed while bytes are left."""

    def __init__(self, unsent_bytes: int) -> None:
        self.time = VirtualTime()
        self.timers = Timers(self.time)
        self.transport = FakeTransport(asyncio.Protocol())
        self.transport.unflushed_bytes = unsent_bytes
        close_when_flushed(self.transport, 10, now_s=self.time.time, after=self.timers.after)

    def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            self.time.advance(1)


@pytest.mark.parametrize("taken_bytes", [0, 1])
async def test_peer_that_takes_nothing_is_reset(taken_bytes: int) -> None:
    closing = Closing(5000)
    closing.pass_time(9)
    assert not closing.transport.was_reset
    closing.transport.unflushed_bytes -= taken_bytes
    closing.pass_time(3)
    assert closing.transport.was_reset is not bool(taken_bytes)
    closing.pass_time(10)
    assert closing.transport.was_reset
    assert closing.transport.aborted


async def test_peer_that_takes_all_is_not_reset() -> None:
    closing = Closing(5000)
    closing.pass_time(5)
    closing.transport.unflushed_bytes = 0
    closing.pass_time(30)
    assert closing.transport.closed
    assert not closing.transport.aborted
    assert closing.timers.pending == 0


async def test_nothing_is_waited_for_where_nothing_is_left() -> None:
    closing = Closing(0)
    assert closing.transport.closed
    assert closing.timers.pending == 0
