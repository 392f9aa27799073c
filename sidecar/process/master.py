"""The process that was started, if the sidecar has several workers. It forks the supervisor and the workers,
forwards signals to the supervisor, and replaces a worker that dies.

It has imported the data path, whose pages all workers share, and nothing that starts a thread: a process that
runs gRPC must not be forked. So a replacement costs as little as the first workers. It has no event loop.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import sys
import time
from collections import deque
from dataclasses import dataclass
from typing import Final, NoReturn

from sidecar.process.channel import send_blocking
from sidecar.process.messages import WorkerStarted
from sidecar.upstream.shared_counters import SharedCounters, WorkerCounters

_LOG = logging.getLogger(__name__)

MOST_DEATHS: Final = 5
DEATHS_WINDOW_S: Final = 60.0
# How long processes may take to end by themselves: a worker writes the rest of its logs.
_END_LIMIT_S: Final = 5.0
_KILL_INTERVAL_S: Final = 0.1
_PR_SET_PDEATHSIG: Final = 1
_FORWARDED: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1})
_WAITED_FOR: Final = _FORWARDED | {signal.SIGCHLD}


@dataclass(frozen=True, slots=True)
class SupervisorProcess:
    """``control``: the master sends `WorkerStarted` messages on it."""

    control: socket.socket


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """``channel`` leads to the supervisor."""

    channel: socket.socket
    counters: WorkerCounters


class Master:
    """`run` returns in each forked process, and tells which one it is. In the master it never returns."""

    def __init__(self, concurrency: int) -> None:
        self._concurrency: Final = concurrency
        self._counters: Final = SharedCounters(concurrency)
        self._pid: Final = os.getpid()
        self._supervisor_pid = 0
        self._control: socket.socket | None = None
        self._slots: dict[int, int] = {}  # by the pid of the worker
        self._started = 0
        self._deaths: deque[float] = deque()

    def run(self) -> SupervisorProcess | WorkerProcess:
        signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED_FOR)
        ours, theirs = socket.socketpair()
        self._supervisor_pid = os.fork()
        if self._supervisor_pid == 0:
            self._become_child()
            ours.close()
            return SupervisorProcess(theirs)
        theirs.close()
        self._control = ours
        for slot in range(self._concurrency):
            if (child := self._fork_worker(slot)) is not None:
                return child
        while True:
            number = signal.sigwait(_WAITED_FOR)
            if number != signal.SIGCHLD:
                os.kill(self._supervisor_pid, number)
            elif (child := self._reap()) is not None:
                return child

    # Forking.

    def _fork_worker(self, slot: int) -> WorkerProcess | None:
        """None in the master."""
        assert self._control is not None
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            self._become_child()
            for number in _FORWARDED:  # the supervisor tells the workers
                signal.signal(number, signal.SIG_IGN)
            self._control.close()
            ours.close()
            return WorkerProcess(theirs, self._counters.of_worker(slot))
        theirs.close()
        self._started += 1
        self._slots[pid] = slot
        started = WorkerStarted(number=self._started, slot=slot, pid=pid)
        try:
            send_blocking(self._control, started, ours.fileno())
        except OSError:
            pass  # the supervisor has ended: its SIGCHLD is pending
        finally:
            ours.close()
        return None

    def _become_child(self) -> None:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != self._pid:
            os._exit(1)  # the master ended before the line above
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WAITED_FOR)

    # The ends of processes.

    def _reap(self) -> WorkerProcess | None:
        """Replaces the workers that have died. Not None in a replacement."""
        free_slots: list[int] = []
        for pid, status in iter(_ended_child, None):
            if pid == self._supervisor_pid:
                self._end(status)
            slot = self._slots.pop(pid, None)
            if slot is not None and status != 0:  # 0: it was told to end
                free_slots.append(slot)
                self._counters.clear(slot)
                self._count_death(pid, _described(status))
        for slot in free_slots:
            if (child := self._fork_worker(slot)) is not None:
                return child
        return None

    def _count_death(self, pid: int, reason: str) -> None:
        now_s = time.monotonic()
        self._deaths.append(now_s)
        while now_s - self._deaths[0] > DEATHS_WINDOW_S:
            self._deaths.popleft()
        if len(self._deaths) < MOST_DEATHS:
            _LOG.error("a worker (pid %d) %s: its connections are lost, and it is replaced", pid, reason)
            return
        os.kill(self._supervisor_pid, signal.SIGINT)
        self._wait_for({self._supervisor_pid, *self._slots})
        sys.exit(
            f"sidecar: {MOST_DEATHS} workers have died within {DEATHS_WINDOW_S:g} s; the last one {reason}"
        )

    def _end(self, status: int) -> NoReturn:
        """The supervisor has ended: so do all others."""
        self._wait_for(set(self._slots))
        code = os.waitstatus_to_exitcode(status)
        if code >= 0:
            sys.exit(code)  # it has printed why
        if -code in _FORWARDED:
            sys.exit(128 - code)  # before it could handle the signal
        sys.exit(f"sidecar: the supervisor {_described(status)}")

    def _wait_for(self, pids: set[int]) -> None:
        """Kills those that do not end in time. Workers end when their channel is closed."""
        give_up_s = time.monotonic() + _END_LIMIT_S
        while pids:
            for pid, _ in iter(_ended_child, None):
                pids.discard(pid)
            left_s = give_up_s - time.monotonic()
            if left_s <= 0:
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)
            if pids:
                signal.sigtimedwait({signal.SIGCHLD}, max(left_s, _KILL_INTERVAL_S))


def _ended_child() -> tuple[int, int] | None:
    """The pid and status of a child that has ended."""
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, status) if pid else None


def _described(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
