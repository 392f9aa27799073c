"""Counts system calls with perf, whose tracepoint costs little. (strace would slow the proxies down.)"""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence

from tests.bench.proxies.accounting import family

_EVENT = "raw_syscalls:sys_enter"
_ATTACH_S = 0.3


def count_system_calls(roots: Sequence[int], work: Callable[[], int]) -> float | None:
    """Of all threads of the processes and their descendants, for each piece of work, of which `work` returns
    the number. None where perf is missing or may not count."""
    if not shutil.which("perf"):
        return None
    targets = ",".join(map(str, family(roots)))
    command = ["perf", "stat", "-x", ",", "-e", _EVENT, "-p", targets]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as counter:
        try:
            counter.wait(_ATTACH_S)  # it ends at once if it may not count
        except subprocess.TimeoutExpired:
            done = work()
            counter.send_signal(signal.SIGINT)
            _, output = counter.communicate(timeout=10)
            calls = parse_count(output)
            return None if calls is None else calls / done
    return None


def parse_count(output: str) -> int | None:
    """The line of ``perf stat -x,``: value, unit, event. None if perf did not count it."""
    for line in output.splitlines():
        fields = line.split(",")
        if len(fields) > 2 and fields[2].startswith(_EVENT) and fields[0].isdigit():
            return int(fields[0])
    return None
