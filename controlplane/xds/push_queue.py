"""The queue of proxies that need a push: first in, first out, with at most one pending push for each proxy.

If a proxy is already waiting, the changes are merged. If a push to it is running, it is queued again when
that push has ended, at the end of the queue, so that a busy proxy cannot starve the others. This is the
counterpart of Istio pilot's PushQueue.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from controlplane.model.snapshot import SnapshotChange

KeyT = TypeVar("KeyT", bound=Hashable)

# The mesh did not change, but the proxy sent a request, or a wait has timed out.
NO_CHANGE: Final = SnapshotChange(full=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Push(Generic[KeyT]):
    """A pending push. ``queued_at`` is the time at which the oldest part of ``change`` was queued."""

    key: KeyT
    change: SnapshotChange
    queued_at: float

    def merge(self, newer: Push[KeyT]) -> Push[KeyT]:
        since = newer.queued_at if self.change == NO_CHANGE else self.queued_at
        return Push(key=self.key, change=self.change.merge(newer.change), queued_at=since)


class PushQueue(Generic[KeyT]):
    """Can be used by any number of workers. Each worker calls `take`, and `done` after the push has succeeded
    or failed."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock: Final = clock
        self._waiting: Final[dict[KeyT, Push[KeyT]]] = {}  # in the order of their arrival
        self._running: Final[set[KeyT]] = set()
        self._again: Final[dict[KeyT, Push[KeyT]]] = {}
        self._arrival: Final = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._again)

    def __contains__(self, key: object) -> bool:
        """Whether a push waits or runs."""
        return key in self._waiting or key in self._running

    def enqueue(self, key: KeyT, change: SnapshotChange) -> None:
        push = Push(key=key, change=change, queued_at=self._clock())
        queue = self._again if key in self._running else self._waiting
        pending = queue.get(key)
        queue[key] = push if pending is None else pending.merge(push)
        self._arrival.set()

    async def take(self) -> Push[KeyT]:
        """Waits for the next push and marks it as running."""
        while not self._waiting:
            self._arrival.clear()
            await self._arrival.wait()
        # No await from here on: two workers must not take the same push.
        key = next(iter(self._waiting))
        self._running.add(key)
        return self._waiting.pop(key)

    def done(self, key: KeyT) -> None:
        self._running.discard(key)
        again = self._again.pop(key, None)
        if again is not None:
            self._waiting[key] = again
            self._arrival.set()

    def discard(self, key: KeyT) -> None:
        """Removes the pushes of a disconnected proxy."""
        self._running.discard(key)
        self._waiting.pop(key, None)
        self._again.pop(key, None)
