"""A file that an access log is appended to, without holding up the event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path
from typing import IO

logger = logging.getLogger(__name__)

FLUSH_INTERVAL_S = 1.0
MAX_BUFFERED_BYTES = 8 * 1024 * 1024


class LogFile:
    """A task hands the lines of one second to a thread. A sink that does not keep up loses lines, counted in
    `dropped_bytes`, never memory."""

    def __init__(self, path: str) -> None:
        """Raises `OSError` when the file cannot be opened."""
        self._path = path
        self._file = _open(path)
        self._writing = threading.Lock()  # a thread may still be at it when `close` comes
        self._lines: list[bytes] = []
        self._size_bytes = 0
        self._refused = False  # what was written last
        self._reopens = False  # asked for, and not done yet
        self.dropped_bytes = 0

    def write(self, line: bytes) -> None:
        if self._size_bytes + len(line) > MAX_BUFFERED_BYTES:
            self.dropped_bytes += len(line)
            return
        self._lines.append(line)
        self._size_bytes += len(line)

    def reopen(self) -> None:
        """The file was renamed (logrotate): with the next flush its path is opened anew, and that flush's
        lines go there. While it cannot be opened, the old file is written to, and each flush tries again."""
        self._reopens = True

    async def run(self) -> None:
        """Flushes until it is cancelled."""
        while True:
            await asyncio.sleep(FLUSH_INTERVAL_S)
            if self._lines or self._reopens:
                await asyncio.to_thread(self._flush, self._take())

    def close(self) -> None:
        self._flush(self._take())
        self._file.close()

    def _take(self) -> bytes:
        data = b"".join(self._lines)
        self._lines.clear()
        self._size_bytes = 0
        return data

    def _flush(self, data: bytes) -> None:
        with self._writing:
            if self._reopens:
                self._open_anew()
            self._write(data)

    def _open_anew(self) -> None:
        try:
            file = _open(self._path)
        except OSError as error:
            logger.warning("access log %s cannot be reopened: %s", self._path, error.strerror)
            return
        self._reopens = False
        self._file.close()
        self._file = file

    def _write(self, data: bytes) -> None:
        """What a sink refuses (a full disk, a reader that is gone) is lost; the next may be taken."""
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            self.dropped_bytes += len(view)
            if not self._refused:
                logger.warning("access log %s: %s", self._path, error.strerror)
        self._refused = bool(view)


def _open(path: str) -> IO[bytes]:
    return Path(path).open("ab", buffering=0)
