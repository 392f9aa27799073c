"""How many cores this process may use: its CPU affinity, and the CPU quota of its control groups."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


def usable_cores(cgroups: Path = _CGROUPS, own_cgroups: Path = _OWN_CGROUPS, cores: int | None = None) -> int:
    """A part of a core counts as one, as in Istio and Go. ``cores``: those of the affinity."""
    available = len(os.sched_getaffinity(0)) if cores is None else cores
    return max(1, min(available, math.ceil(min(_quotas(cgroups, own_cgroups), default=available))))


def _quotas(cgroups: Path, own_cgroups: Path) -> Iterator[float]:
    """The quotas in cores of the process's own control group and of all groups above it. A container sees
    only its own group, at the root, whatever the path."""
    for line in _read(own_cgroups).splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2
            for group in _with_parents(cgroups, path):
                yield from _quota(_read(group / "cpu.max"))
        elif "cpu" in controllers.split(","):
            root = cgroups / controllers
            for group in _with_parents(root if root.exists() else cgroups / "cpu", path):
                yield from _quota(f"{_read(group / 'cpu.cfs_quota_us')} {_read(group / 'cpu.cfs_period_us')}")


def _with_parents(root: Path, path: str) -> Iterator[Path]:
    inside = Path(path.lstrip("/"))
    yield root / inside
    for parent in inside.parents:
        yield root / parent


def _quota(text: str) -> Iterator[float]:
    """From ``QUOTA PERIOD`` in microseconds; ``max`` or -1 means no quota."""
    match text.split():
        case [quota, period] if quota.isdigit() and period.isdigit() and int(period):
            yield int(quota) / int(period)


def _read(file: Path) -> str:
    """Empty if the file cannot be read."""
    try:
        return file.read_text()
    except OSError:
        return ""
