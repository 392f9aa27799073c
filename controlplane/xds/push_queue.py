"""Who is to be pushed to, and why: at most one pending push a proxy, first come first served.

A proxy that is already waiting is not queued twice: the changes are merged. One that is being pushed to is
queued again when that push has ended, at the end of the line, so that a proxy that is always busy cannot
starve the others. It is Istio pilot's PushQueue.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from controlplane.model.snapshot import SnapshotChange

KeyT = TypeVar("KeyT", bound=Hashable)

# The mesh did not change, but the proxy said something, or has waited enough.
NO_CHANGE: Final = SnapshotChange(full=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Push(Generic[KeyT]):
    """``queued_at``: since when the oldest part of ``change`` waits."""

    key: KeyT
    change: SnapshotChange
    queued_at: float

    def merge(self, newer: Push[KeyT]) -> Push[KeyT]:
        since = newer.queued_at if self.change == NO_CHANGE else self.queued_at
        return Push(key=self.key, change=self.change.merge(newer.change), queued_at=since)


class PushQueue(Generic[KeyT]):
    """For any number of workers: each `take`s a push, and says `done` whatever became of it."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock: Final = clock
        self._waiting: Final[dict[KeyT, Push[KeyT]]] = {}  # in the order of their arrival
        self._running: Final[set[KeyT]] = set()
        self._again: Final[dict[KeyT, Push[KeyT]]] = {}
        self._arrival: Final = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._again)

    def __contains__(self, key: object) -> bool:
        """Whether a push waits, or runs."""
        return key in self._waiting or key in self._running

    def enqueue(self, key: KeyT, change: SnapshotChange) -> None:
        push = Push(key=key, change=change, queued_at=self._clock())
        queue = self._again if key in self._running else self._waiting
        pending = queue.get(key)
        queue[key] = push if pending is None else pending.merge(push)
        self._arrival.set()

    async def take(self) -> Push[KeyT]:
        """Waits for the next push, and starts it."""
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
        """The proxy is gone, whatever it was waiting for."""
        self._running.discard(key)
        self._waiting.pop(key, None)
        self._again.pop(key, None)
