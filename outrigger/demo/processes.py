"""Child processes with a log file each. They are stopped when the demo ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

STOP_GRACE_S = 8.0
LAST_LINES = 12


class ProcessError(Exception):
    """A child process could not start or ended unexpectedly. The message contains the last lines of its
    log."""


class Processes:
    """The demo's child processes by name. An async context manager that stops all of them on exit."""

    def __init__(self, log_dir: Path) -> None:
        self._log_dir = log_dir
        self._running: dict[str, asyncio.subprocess.Process] = {}

    async def __aenter__(self) -> Processes:
        self._log_dir.mkdir(parents=True, exist_ok=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop(*reversed(self._running))

    async def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Starts a child process in its own session, so that only the demo receives Ctrl-C."""
        with (self._log_dir / f"{name}.log").open("ab") as log:
            self._running[name] = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**_inherited(), **environment},
                start_new_session=True,
            )

    async def kill(self, name: str) -> None:
        """Kills a child process with SIGKILL, like a crash."""
        process = self._running.pop(name)
        process.kill()
        await process.wait()

    async def stop(self, *names: str) -> None:
        """Sends SIGTERM to all named processes, and SIGKILL to those that do not exit in time."""
        stopping = [self._running.pop(name) for name in names]
        for process in stopping:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        try:
            async with asyncio.timeout(STOP_GRACE_S):
                await asyncio.gather(*(process.wait() for process in stopping))
        except TimeoutError:
            for process in stopping:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            await asyncio.gather(*(process.wait() for process in stopping))

    def check(self) -> None:
        """Raises `ProcessError` if a process has ended unexpectedly."""
        for name, process in self._running.items():
            if process.returncode is not None:
                last = self.last_lines(name)
                raise ProcessError(f"{name} ended with exit code {process.returncode}; its log ends:\n{last}")

    def last_lines(self, name: str) -> str:
        lines = (self._log_dir / f"{name}.log").read_text(errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-LAST_LINES:])


def _inherited() -> dict[str, str]:
    """Returns the environment without proxy variables, so that only the demo's own settings apply."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
