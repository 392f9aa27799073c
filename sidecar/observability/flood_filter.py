"""A log that peers cannot flood: whoever sends rubbish, or scans ports, gets a few lines a second."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

LINES_A_SECOND = 5


class FloodFilter(logging.Filter):
    """Lets through `LINES_A_SECOND` records of each message template (`LogRecord.msg`, before its arguments
    go in), and says with the next one how many were left out. Warnings and errors always pass."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._seen: dict[str, _Second] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            return True
        # Templates are constants of the source, so there are only so many.
        second = self._seen.setdefault(str(record.msg), _Second())
        now = int(self._clock())
        if now == second.number and second.lines >= LINES_A_SECOND:
            second.left_out += 1
            return False
        if now != second.number:
            second.number, second.lines = now, 0
        second.lines += 1
        if second.left_out:
            record.msg = f"{record.getMessage()} (and {second.left_out} more like this before)"
            record.args = ()
            second.left_out = 0
        return True


class _Second:
    __slots__ = ("left_out", "lines", "number")

    def __init__(self) -> None:
        self.number = -1
        self.lines = 0
        self.left_out = 0
