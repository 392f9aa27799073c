"""The file of an access log, to which lines are appended without blocking the event loop."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import select
import stat
import threading
import time
from typing import IO, Any

_LOG = logging.getLogger(__name__)

FLUSH_INTERVAL_S = 1.0
MAX_BUFFERED_BYTES = 8 * 1024 * 1024
# How long `close` waits for the reader of a pipe that does not read.
CLOSE_TIMEOUT_S = 1.0
_POLL_S = 0.1
_STANDARD_STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2}


class LogFile:
    """A task hands the lines of each second to a thread. When the sink is too slow, lines are dropped, and
    counted in `dropped_bytes`: memory is bounded."""

    def __init__(self, path: str) -> None:
        """Raises `OSError` when the file cannot be opened, for example a FIFO without a reader."""
        self._path = path
        self._file = _open(path)
        self._writing = threading.Lock()  # a thread may still write when `close` is called
        self._lines: list[bytes] = []
        self._size_bytes = 0
        self._handed_over: list[bytes] = []  # for the thread; `close` writes the remaining lines
        self._refused = False  # the last write failed, and a warning was logged
        self._reopens = False  # requested, and not done yet
        self._cannot_reopen = False  # a warning was logged
        self._gives_up_at_s: float | None = None
        self.dropped_bytes = 0

    def write(self, line: bytes) -> None:
        if self._size_bytes + len(line) > MAX_BUFFERED_BYTES:
            self.dropped_bytes += len(line)
            return
        self._lines.append(line)
        self._size_bytes += len(line)

    def reopen(self) -> None:
        """The file was renamed (logrotate): the next flush opens the path again, and writes its lines there.
        While the path cannot be opened, the old file stays in use, and each flush tries again."""
        self._reopens = True

    async def run(self) -> None:
        """Flushes until it is cancelled."""
        while True:
            await asyncio.sleep(FLUSH_INTERVAL_S)
            if self._lines or self._reopens:
                self._hand_over()
                await asyncio.to_thread(self._flush)

    def close(self) -> None:
        """Writes the remaining lines. Waits at most `CLOSE_TIMEOUT_S` for a slow reader: the end of the
        process must not hang because of its log."""
        self._gives_up_at_s = time.monotonic() + CLOSE_TIMEOUT_S
        self.flush()
        self._file.close()

    def flush(self) -> None:
        """Writes the logged lines, and waits until they are written."""
        self._hand_over()
        self._flush()

    def _hand_over(self) -> None:
        self._handed_over.append(b"".join(self._lines))
        self._lines.clear()
        self._size_bytes = 0

    def _flush(self) -> None:
        with self._writing:
            if self._reopens:
                self._reopen()
            while self._handed_over:
                self._write(self._handed_over.pop(0))

    def _reopen(self) -> None:
        self._reopens = False  # before the path is opened: a rotation meanwhile sets it again
        try:
            file = _open(self._path)
        except OSError as error:
            self._reopens = True
            if not self._cannot_reopen:
                _LOG.warning("access log %s cannot be reopened: %s", self._path, error.strerror)
            self._cannot_reopen = True
            return
        self._cannot_reopen = False
        self._file.close()
        self._file = file

    def _write(self, data: bytes) -> None:
        """Data that the sink refuses (a full disk, a reader that has closed the pipe) is lost; later data is
        tried."""
        file: Any = self._file  # its `write` returns None, too: when another worker has just filled the pipe
        regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
        view = memoryview(data)
        start = 0
        try:
            while start < len(data):
                end = len(data)
                if not regular:
                    self._wait_until_writable()
                    end = _end_of_lines(data, start)
                written: int | None = file.write(view[start:end])
                start += written or 0
        except OSError as error:
            self.dropped_bytes += len(data) - start
            if not self._refused:
                _LOG.warning("access log %s: %s", self._path, error.strerror)
        self._refused = start < len(data)

    def _wait_until_writable(self) -> None:
        """Raises `BlockingIOError` when the sink is being closed and its reader does not read."""
        sink = select.poll()
        sink.register(self._file, select.POLLOUT)
        while not sink.poll(_POLL_S * 1000):
            if self._gives_up_at_s is not None and time.monotonic() >= self._gives_up_at_s:
                raise BlockingIOError(errno.EAGAIN, "its reader is too slow")


def _end_of_lines(data: bytes, start: int) -> int:
    """As many whole lines as a writable pipe takes at once: other workers write to the same pipe between two
    writes. Only a line that is longer than that is divided."""
    longest = min(start + select.PIPE_BUF, len(data))
    return data.rfind(b"\n", start, longest) + 1 or longest


def _open(path: str) -> IO[bytes]:
    """Opens a file for appending. Raises `OSError`, also for a FIFO without a reader: waiting for one would
    block the event loop. A standard stream that cannot be opened by its path, such as a socket (systemd) or a
    file of another user, is used through its descriptor."""
    if "\0" in path:
        raise OSError(errno.EINVAL, "the path contains a NUL character")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK, 0o666)
    except OSError:
        if path not in _STANDARD_STREAMS:
            raise
        return os.fdopen(os.dup(_STANDARD_STREAMS[path]), "wb", buffering=0)
    os.set_blocking(descriptor, True)
    return os.fdopen(descriptor, "wb", buffering=0)
