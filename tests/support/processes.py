"""Child processes of tests: started with their output in a file, waited for by a condition, always ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from outrigger.demo.ports import port_of, reserve_port

DEADLINE_S = 30.0
STOP_TIMEOUT_S = 30.0


class Child:
    """A running child; `output` is all that it has printed."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def cpu_s(self) -> float:
        """User and system time so far, in seconds."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self, *, peak: bool = False) -> int:
        """Memory in RAM now, or at most so far."""
        key = "VmHWM:" if peak else "VmRSS:"
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

    def wait_for(self, condition: Callable[[], bool], what: str, *, deadline_s: float = DEADLINE_S) -> None:
        """Until the condition holds; fails at once when the child has ended."""
        end_s = time.monotonic() + deadline_s
        while not condition():
            if self.process.poll() is not None:
                raise AssertionError(
                    f"ended with {self.process.returncode} before {what}:\n{self.output[-4000:]}"
                )
            if time.monotonic() > end_s:
                raise AssertionError(f"{what}: not within {deadline_s} s:\n{self.output[-4000:]}")
            time.sleep(0.02)

    def wait_for_port(self, port: int, *, deadline_s: float = DEADLINE_S) -> None:
        self.wait_for(lambda: accepts(port), f"port {port} accepts connections", deadline_s=deadline_s)


@contextmanager
def child(
    command: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Child]:
    """Runs a command until the block ends: SIGTERM first, SIGKILL if it does not leave."""
    inherited = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**inherited, **(environment or {})},
        )
    try:
        yield Child(process, log)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


# The last ones: earlier ones have been bound since.
_keepers: deque[socket.socket] = deque()
MOST_KEPT = 200


def free_port() -> int:
    """A port for a program that does not accept 0; no other test gets it in the meantime."""
    _keepers.append(reserve_port())
    if len(_keepers) > MOST_KEPT:
        _keepers.popleft().close()
    return port_of(_keepers[-1])


@contextmanager
def commanded(
    command: Sequence[str | Path], environment: Mapping[str, str], complaints: IO[str]
) -> Iterator[subprocess.Popen[str]]:
    """A child that reads commands from its input, answers on its output, and writes errors to `complaints`.

    It ends when its input ends, and so also when this process is killed.
    """
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=complaints, env=environment, text=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
