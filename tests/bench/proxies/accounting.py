"""CPU time, context switches and memory of a process with all its threads and descendants, from /proc."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Since the processes started. `cpu_ns` is user and system time."""

    cpu_ns: int
    switches: int

    def since(self, before: Usage) -> Usage:
        return Usage(cpu_ns=self.cpu_ns - before.cpu_ns, switches=self.switches - before.switches)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """`proportional` divides each shared page by the number of its users. `private` counts the pages that
    were written and that no other process has: what a further process like this costs the machine. (Clean
    private pages are of programs that happen to run only once at this moment.)"""

    resident_bytes: int
    private_bytes: int
    proportional_bytes: int


def usage(roots: Iterable[int]) -> Usage:
    """Of the processes and of their descendants. A thread that ended meanwhile is not counted."""
    cpu_ns = switches = 0
    for pid in family(roots):
        for task in _tasks(pid):
            try:
                cpu_ns += parse_schedstat((task / "schedstat").read_text())
                switches += parse_switches((task / "status").read_text())
            except OSError:
                continue  # it ended meanwhile
    return Usage(cpu_ns=cpu_ns, switches=switches)


def memory(roots: Iterable[int]) -> Memory:
    """Of the processes and of their descendants. Pages that several of them share count once for each in
    `resident_bytes`, once for all in `proportional_bytes` if no other process has them."""
    parts = []
    for pid in family(roots):
        try:
            parts.append(parse_smaps_rollup((PROC / str(pid) / "smaps_rollup").read_text()))
        except OSError:
            continue  # it ended meanwhile
    return Memory(
        resident_bytes=sum(part.resident_bytes for part in parts),
        private_bytes=sum(part.private_bytes for part in parts),
        proportional_bytes=sum(part.proportional_bytes for part in parts),
    )


def _tasks(pid: int) -> list[Path]:
    try:
        return list((PROC / str(pid) / "task").iterdir())
    except OSError:
        return []


def family(roots: Iterable[int]) -> list[int]:
    """The processes and their descendants."""
    parents = {}
    for entry in os.listdir(PROC):
        if entry.isdigit():
            try:
                parents[int(entry)] = parse_parent((PROC / entry / "stat").read_text())
            except OSError:
                continue  # it ended meanwhile
    return descendants(roots, parents)


def descendants(roots: Iterable[int], parents: Mapping[int, int]) -> list[int]:
    """The roots first. `parents` maps each process to its parent."""
    found = list(roots)
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid and child not in found]
    return found


def parse_parent(stat: str) -> int:
    """From /proc/PID/stat: the command may contain spaces and parentheses (proc(5))."""
    return int(stat.rpartition(") ")[2].split()[1])


def parse_schedstat(text: str) -> int:
    """From /proc/PID/task/TID/schedstat: the nanoseconds on a CPU. The ticks of `stat` are 10 ms."""
    return int(text.split(maxsplit=1)[0])


def parse_switches(status: str) -> int:
    """From /proc/PID/task/TID/status: voluntary and involuntary context switches."""
    lines = (line.split() for line in status.splitlines() if "ctxt_switches:" in line)
    return sum(int(count) for _, count in lines)


def parse_smaps_rollup(text: str) -> Memory:
    kib = {}
    for line in text.splitlines()[1:]:
        name, _, rest = line.partition(":")
        kib[name] = int(rest.split()[0])
    return Memory(
        resident_bytes=kib["Rss"] * 1024,
        private_bytes=kib["Private_Dirty"] * 1024,
        proportional_bytes=kib["Pss"] * 1024,
    )
