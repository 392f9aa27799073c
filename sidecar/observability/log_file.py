"""A file that an access log is appended to, without holding up the event loop."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import select
import stat
import threading
import time
from typing import IO

_LOG = logging.getLogger(__name__)

FLUSH_INTERVAL_S = 1.0
MAX_BUFFERED_BYTES = 8 * 1024 * 1024
# How long `close` waits for the reader of a pipe that takes nothing.
CLOSE_TIMEOUT_S = 1.0
_POLL_S = 0.1
_STANDARD_STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2}


class LogFile:
    """A task hands the lines of one second to a thread. A sink that does not keep up loses lines, counted in
    `dropped_bytes`, never memory."""

    def __init__(self, path: str) -> None:
        """Raises `OSError` when the file cannot be opened, as a FIFO that has no reader."""
        self._path = path
        self._file = _open(path)
        self._writing = threading.Lock()  # a thread may still be at it when `close` comes
        self._lines: list[bytes] = []
        self._size_bytes = 0
        self._handed_over: list[bytes] = []  # to the thread; what it has not taken is left to `close`
        self._refused = False  # the last write failed: the log has said so
        self._reopens = False  # asked for, and not done yet
        self._cannot_reopen = False  # the log has said so
        self._gives_up_at_s: float | None = None
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
                self._hand_over()
                await asyncio.to_thread(self._flush)

    def close(self) -> None:
        """Writes what is left. Waits `CLOSE_TIMEOUT_S` at most for a reader that is slow: a process that
        ends must not hang because of its log."""
        self._gives_up_at_s = time.monotonic() + CLOSE_TIMEOUT_S
        self.flush()
        self._file.close()

    def flush(self) -> None:
        """Writes what was logged, and waits until it is written."""
        self._hand_over()
        self._flush()

    def _hand_over(self) -> None:
        self._handed_over.append(b"".join(self._lines))
        self._lines.clear()
        self._size_bytes = 0

    def _flush(self) -> None:
        with self._writing:
            if self._reopens:
                self._open_anew()
            while self._handed_over:
                self._write(self._handed_over.pop(0))

    def _open_anew(self) -> None:
        self._reopens = False  # before the path is opened: it may be renamed, and this asked for, once more
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
        """What a sink refuses (a full disk, a reader that is gone) is lost; the next may be taken."""
        view = memoryview(data)
        regular = stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)
        try:
            while view:
                if regular:
                    view = view[self._file.write(view) :]
                else:
                    self._wait_until_writable()
                    # So much of it a pipe that is writable takes without waiting.
                    view = view[self._file.write(view[: select.PIPE_BUF]) :]
        except OSError as error:
            self.dropped_bytes += len(view)
            if not self._refused:
                _LOG.warning("access log %s: %s", self._path, error.strerror)
        self._refused = bool(view)

    def _wait_until_writable(self) -> None:
        """Raises `BlockingIOError` when the sink is being closed, and its reader takes nothing."""
        sink = select.poll()
        sink.register(self._file, select.POLLOUT)
        while not sink.poll(_POLL_S * 1000):
            if self._gives_up_at_s is not None and time.monotonic() >= self._gives_up_at_s:
                raise BlockingIOError(errno.EAGAIN, "its reader does not keep up")


def _open(path: str) -> IO[bytes]:
    """For appending. Raises `OSError`, for a FIFO without a reader too: to wait for one would stop the event
    loop. Standard streams that cannot be opened by their path, as sockets (systemd) and what belongs to
    another user, are written to as they are."""
    if "\0" in path:
        raise OSError(errno.EINVAL, "the path has a NUL character")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK, 0o666)
    except OSError:
        if path not in _STANDARD_STREAMS:
            raise
        return os.fdopen(os.dup(_STANDARD_STREAMS[path]), "wb", buffering=0)
    os.set_blocking(descriptor, True)
    return os.fdopen(descriptor, "wb", buffering=0)
