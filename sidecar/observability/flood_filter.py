"""Limits the log lines that peers can cause, for example with invalid requests or port scans."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

LINES_A_SECOND = 5


class FloodFilter(logging.Filter):
    """Passes `LINES_A_SECOND` records of each message template (`LogRecord.msg`, without its arguments), and
    adds the number of omitted records to the next one. Warnings and errors always pass."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._seen: dict[str, _Second] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            return True
        # Templates are constants in the source code, so their number is bounded.
        second = self._seen.setdefault(str(record.msg), _Second())
        now = int(self._clock())
        if now == second.number and second.lines >= LINES_A_SECOND:
            second.omitted += 1
            return False
        if now != second.number:
            second.number, second.lines = now, 0
        second.lines += 1
        if second.omitted:
            record.msg = f"{record.getMessage()} (and {second.omitted} similar messages omitted)"
            record.args = ()
            second.omitted = 0
        return True


class _Second:
    __slots__ = ("lines", "number", "omitted")

    def __init__(self) -> None:
        self.number = -1
        self.lines = 0
        self.omitted = 0
