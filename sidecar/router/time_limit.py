"""A limit on the time of a part of a request: `asyncio.timeout` on the shared timers, so that a request needs
no timer of the event loop."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from types import TracebackType

from sidecar.errors import UpstreamError
from sidecar.timers import Timer, Timers


class TimeLimit(Timer):
    """A `with` block that is cancelled when its time is over, and then raises an `error`.

    The time runs from the beginning of the block or, if `deferred`, from the call of `start`. It ends at
    `at_s`, infinity until it runs. A limit of 0 s never ends, and costs nearly nothing.
    """

    __slots__ = ("_cancelling", "_deferred", "_delay_s", "_error", "_loop", "_task", "_timers", "expired")

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
        self._cancelling = 0
        self.expired = False

    def __enter__(self) -> TimeLimit:
        if self._delay_s <= 0:
            return self
        task = self._task = asyncio.current_task(self._loop)
        assert task is not None
        self._cancelling = task.cancelling()
        if not self._deferred:
            self._timers.start(self, self._delay_s)
        return self

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
            self.expired = True
            self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if task is None:
            return
        self.cancel()
        if self.expired:
            # If the task was cancelled for another reason too, it stays cancelled.
            cancelled_by_limit_only = task.uncancel() <= self._cancelling
            if cancelled_by_limit_only and kind is asyncio.CancelledError:
                raise self._error() from None
