"""Counters that worker processes share, so that a limit of a cluster holds for all of them together.

Memory that is mapped before the workers are forked has one table for each worker. A worker writes only its
own table, and adds up the same row of all tables: there are no locks. Two workers that look at the same
moment can exceed a limit by one, as Envoy's threads can.
"""

from __future__ import annotations

import mmap
from typing import Final

MOST_ROWS: Final = 65536
_COLUMNS: Final = 4
_TABLE_ITEMS: Final = MOST_ROWS * _COLUMNS
_TABLE_BYTES: Final = _TABLE_ITEMS * 8


class SharedCounters:
    """The tables of all workers. A row takes 32 bytes for each worker, once it is used."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._memory = mmap.mmap(-1, workers * _TABLE_BYTES)

    def of_worker(self, number: int) -> WorkerCounters:
        """`number`: from 0. A worker that replaces another one takes its number."""
        return WorkerCounters(memoryview(self._memory).cast("q"), number, self._workers)

    def clear(self, number: int) -> None:
        """The worker is dead: it uses nothing any more."""
        self._memory.madvise(mmap.MADV_REMOVE, number * _TABLE_BYTES, _TABLE_BYTES)


class WorkerCounters:
    """The tables, as one worker uses them."""

    __slots__ = ("_memory", "_number", "_workers")

    def __init__(self, memory: memoryview, number: int, workers: int) -> None:
        self._memory = memory
        self._number = number
        self._workers = workers

    def row(self, row: int) -> SharedRow:
        """`row` is below `MOST_ROWS`."""
        others = [
            worker * _TABLE_ITEMS + row * _COLUMNS
            for worker in range(self._workers)
            if worker != self._number
        ]
        return SharedRow(self._memory, self._number * _TABLE_ITEMS + row * _COLUMNS, others)


class SharedRow:
    """The counters of one cluster. `column` is 0 to 3."""

    __slots__ = ("_memory", "_others", "_own")

    def __init__(self, memory: memoryview, own: int, others: list[int]) -> None:
        self._memory = memory
        self._own = own
        self._others = others

    def publish(self, column: int, count: int) -> None:
        """Shows this worker's count to the others."""
        self._memory[self._own + column] = count

    def others(self, column: int) -> int:
        """The sum of the other workers' counts."""
        memory, total = self._memory, 0
        for start in self._others:
            total += memory[start + column]
        return total
