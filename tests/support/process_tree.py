"""The processes of a sidecar with several workers, as the kernel shows them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ProcessTree:
    """``pid`` is the master's, which forks the supervisor first."""

    pid: int

    @property
    def supervisor(self) -> int:
        return self._children()[0]

    @property
    def workers(self) -> list[int]:
        return self._children()[1:]

    @property
    def all(self) -> list[int]:
        return [self.pid, *self._children()]

    def worker_of(self, connection: tuple[str, int]) -> int | None:
        """The worker that has accepted the connection from this IPv4 address and port; None: none yet."""
        sockets = _server_ends(connection)
        return next((worker for worker in self.workers if sockets & _open_files(worker)), None)

    def _children(self) -> list[int]:
        text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(word) for word in text.split()]


def descriptors(pid: int) -> int:
    """How many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def is_running(pid: int) -> bool:
    """Not for a process that has ended and whose parent has not noticed."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def _open_files(pid: int) -> set[str]:
    found: set[str] = set()
    for entry in os.scandir(f"/proc/{pid}/fd"):
        try:
            found.add(os.readlink(entry.path))
        except OSError:
            continue  # closed meanwhile
    return found


def _server_ends(client: tuple[str, int]) -> set[str]:
    """Of all connections from this address: the port may have been used before, for another server."""
    address = "".join(f"{int(part):02X}" for part in reversed(client[0].split("."))) + f":{client[1]:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return {f"socket:[{line.split()[9]}]" for line in lines if line.split()[2] == address}
