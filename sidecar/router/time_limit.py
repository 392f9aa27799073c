"""A limit on the time of a part of a request: `asyncio.timeout` on the shared timers, so that a request needs
no timer of the event loop."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from types import TracebackType
from typing import Any

from sidecar.errors import UpstreamError
from sidecar.timers import Timer, Timers


class TimeLimit(Timer):
    """A `with` block that is cancelled when its time is over, and then raises an `error`.

    The time runs from the beginning of the block or, if `deferred`, from the call of `start`. It ends at
    `at_s`, infinity until it runs. A limit of 0 s never ends, and costs nearly nothing.
    """

    __slots__ = (
        "_cancelled",
        "_cancelling",
        "_deferred",
        "_delay_s",
        "_error",
        "_loop",
        "_task",
        "_timers",
        "_waiter",
        "expired",
    )

    def __init__(
        self,
        timers: Timers,
        delay_s: float,
        error: Callable[[], UpstreamError],
        deferred: bool = False,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """`loop` saves the look-up of the running loop, which is a system call (getpid) in Python 3.11."""
        super().__init__()
        self._timers = timers
        self._loop = loop
        self._delay_s = delay_s
        self._error = error
        self._deferred = deferred
        self._task: asyncio.Task[object] | None = None
        self._waiter: asyncio.Future[Any] | None = None
        self._cancelling = 0
        self._cancelled = False
        self.expired = False

    def __enter__(self) -> TimeLimit:
        if self._waiter is None or not self._waiter.done():
            self.guard()
        return self

    def start_before(self, waiter: asyncio.Future[Any]) -> None:
        """The time runs from now on. If it is over before the block begins, `waiter`, for which the task of
        the block waits, gets the error. If `waiter` is done before, the block calls `guard` before it waits
        for anything else."""
        if self._delay_s > 0:
            self._waiter = waiter
            self._timers.start(self, self._delay_s)

    def guard(self) -> None:
        """The task is cancelled when the time is over. Idempotent."""
        if self._task is not None or self._delay_s <= 0:
            return
        task = self._task = asyncio.current_task(self._loop)
        assert task is not None
        self._cancelling = task.cancelling()
        if not self._deferred and self.at_s == math.inf:
            self._timers.start(self, self._delay_s)

    def start(self) -> None:
        """Idempotent. After the block it only sets `at_s`."""
        if self.at_s != math.inf or self._delay_s <= 0:
            return
        if self._task is None:
            self.at_s = self._timers.now_s() + self._delay_s
        else:
            self._timers.start(self, self._delay_s)

    def fire(self) -> None:
        if self._task is not None:
            self.expired = self._cancelled = True
            self._task.cancel()
        elif self._waiter is not None and not self._waiter.done():
            self.expired = True
            self._waiter.set_exception(self._error())
        else:  # the task is about to continue
            self._timers.start(self, 0.0)

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.cancel()
        task, self._task = self._task, None
        if self._cancelled and task is not None:
            # If the task was cancelled for another reason too, it stays cancelled.
            cancelled_by_limit_only = task.uncancel() <= self._cancelling
            if cancelled_by_limit_only and kind is asyncio.CancelledError:
                raise self._error() from None
