"""How long the process runs: until it is stopped, or until one of its tasks fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from sidecar.errors import SidecarError

_LOG = logging.getLogger(__name__)


class Lifetime:
    """`start` tasks, then `wait`."""

    def __init__(self) -> None:
        self._stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """The end of the task changes nothing; an exception ends the process."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    async def wait(self) -> None:
        """Waits for `stop` or `fail`, whose error it raises. Then cancels the tasks, and waits for their
        end."""
        try:
            await self._stopped
        finally:
            tasks = tuple(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def stop(self) -> None:
        if not self._stopped.done():
            self._stopped.set_result(None)

    def fail(self, error: SidecarError) -> None:
        if not self._stopped.done():
            self._stopped.set_exception(error)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.remove(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if not isinstance(error, SidecarError):
            _LOG.error("the task %s has failed", task.get_name(), exc_info=error)
            error = SidecarError(f"{task.get_name()}: {type(error).__name__}: {error}")
        self.fail(error)
