"""Limits of memory and CPU by the machine's cgroups, of version 2 or 1.

Where the machine has neither, or does not let us use them, the limits are in the pod's status only.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tests.support.kubernetes_api import Resource
from tests.support.node_agent.downward import amount

ROOT = Path("/sys/fs/cgroup")
CPU_PERIOD_US = 100_000
MINIMUM_CPU_QUOTA_US = 1000

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """None is no limit."""

    memory_bytes: int | None = None
    cpu_quota_us: int | None = None

    @classmethod
    def of(cls, container: Resource) -> Limits:
        """Raises DownwardError where one is not a quantity."""
        limits = container.get("resources", {}).get("limits", {})
        memory, cpu = limits.get("memory"), limits.get("cpu")
        return cls(
            memory_bytes=None if memory is None else int(amount(memory)),
            cpu_quota_us=None if cpu is None else max(int(amount(cpu) * CPU_PERIOD_US), MINIMUM_CPU_QUOTA_US),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A cgroup of one container: a folder, or one in each hierarchy. A process that writes `0` to a file of
    `entrances` is in it from then on."""

    folders: tuple[Path, ...]
    oom_counter: Path | None

    @property
    def entrances(self) -> tuple[Path, ...]:
        return tuple(folder / "cgroup.procs" for folder in self.folders)

    def has_killed(self) -> bool:
        """Whether a process was killed because its memory was used up."""
        if self.oom_counter is None:
            return False
        words = (line.split() for line in self.oom_counter.read_text().splitlines())
        return any(name == "oom_kill" and int(count) > 0 for name, count in words)

    def remove(self) -> None:
        """Once its processes have ended."""
        for folder in self.folders:
            with suppress(OSError):
                folder.rmdir()


NO_GROUP = Group(folders=(), oom_counter=None)


class Cgroups:
    """Those of a node, in folders of its name."""

    def __init__(self, node: str, root: Path = ROOT) -> None:
        self._node = node
        self._root = root

    def group(self, name: str, limits: Limits) -> Group:
        """Without limits, or where the machine does not have cgroups for us, it has no effect."""
        if limits == Limits():
            return NO_GROUP
        try:
            if (self._root / "cgroup.controllers").exists():
                return self._unified(name, limits)
            return self._by_controller(name, limits)
        except OSError as error:
            _LOG.info("no cgroup for %s: %s", name, error)
            return NO_GROUP

    def remove(self) -> None:
        """Removes the node's folders, with those of its containers."""
        for folder in node_folders(self._root, self._node):
            for path in (*folder.glob("*/"), folder):
                with suppress(OSError):
                    path.rmdir()

    def _unified(self, name: str, limits: Limits) -> Group:
        """Version 2: a folder passes on the controllers that it lists. Raises OSError."""
        node = self._root / self._node
        node.mkdir(exist_ok=True)
        for folder in (self._root, node):
            (folder / "cgroup.subtree_control").write_text("+memory +cpu")
        folder = node / name
        settings = {}
        if limits.memory_bytes is not None:
            settings = {"memory.max": str(limits.memory_bytes), "memory.oom.group": "1"}
        if limits.cpu_quota_us is not None:
            settings["cpu.max"] = f"{limits.cpu_quota_us} {CPU_PERIOD_US}"
        make(folder, settings)
        return Group(folders=(folder,), oom_counter=folder / "memory.events")

    def _by_controller(self, name: str, limits: Limits) -> Group:
        """Version 1: a hierarchy for each controller. Raises OSError."""
        group = NO_GROUP
        if limits.memory_bytes is not None:
            folder = self._root / "memory" / self._node / name
            make(folder, {"memory.limit_in_bytes": str(limits.memory_bytes)})
            group = Group(folders=(folder,), oom_counter=folder / "memory.oom_control")
        if limits.cpu_quota_us is not None:
            folder = self._root / "cpu" / self._node / name
            period, quota = str(CPU_PERIOD_US), str(limits.cpu_quota_us)
            make(folder, {"cpu.cfs_period_us": period, "cpu.cfs_quota_us": quota})
            group = replace(group, folders=(*group.folders, folder))
        return group


def make(folder: Path, settings: Mapping[str, str]) -> None:
    """Raises OSError, and then leaves none."""
    if not folder.parent.parent.exists():
        raise FileNotFoundError(folder.parent.parent)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for name, value in settings.items():
            (folder / name).write_text(value)
    except OSError:
        folder.rmdir()
        raise


def node_folders(root: Path, node: str) -> Iterator[Path]:
    for parent in (root, root / "memory", root / "cpu"):
        if (folder := parent / node).is_dir():
            yield folder
