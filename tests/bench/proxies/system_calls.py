"""Counts system calls with strace, whose overhead falsifies times but not counts."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.bench.proxies.accounting import family

_ATTACH_S = 0.5


def count_system_calls(roots: Sequence[int], work: Callable[[], int]) -> float | None:
    """Of all threads of the processes and their descendants, for each piece of work, of which `work` returns
    the number. None where strace is missing or may not attach."""
    if not shutil.which("strace"):
        return None
    with tempfile.NamedTemporaryFile(suffix=".strace") as output:
        targets = [word for pid in family(roots) for word in ("-p", str(pid))]
        tracer = subprocess.Popen(
            ["strace", "-f", "-c", "-o", output.name, *targets], stderr=subprocess.DEVNULL
        )
        try:
            tracer.wait(_ATTACH_S)  # it ends at once if it may not attach
        except subprocess.TimeoutExpired:
            done = work()
            tracer.send_signal(signal.SIGINT)
            tracer.wait(10)
            return parse_total(Path(output.name).read_text()) / done
    return None


def parse_total(summary: str) -> int:
    """The number of calls in the last line of ``strace -c``: percent, seconds, usecs/call, calls, errors."""
    return int(summary.strip().splitlines()[-1].split()[3])
