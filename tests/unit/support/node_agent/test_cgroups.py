"""The files of cgroups, of both versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.kubernetes_api import Resource
from tests.support.node_agent.cgroups import NO_GROUP, Cgroups, Limits

LIMITS = Limits(memory_bytes=64 << 20, cpu_quota_us=50_000)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, Limits()),
        ({"memory": "64Mi", "cpu": "500m"}, LIMITS),
        ({"cpu": "1m"}, Limits(cpu_quota_us=1000)),  # the kernel's minimum
    ],
)
def test_limits_are_quantities(limits: dict[str, str], expected: Limits) -> None:
    container: Resource = {"resources": {"limits": limits}}
    assert Limits.of(container) == expected


def test_version_2_has_one_folder(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory")
    group = Cgroups("node", tmp_path).group("main", LIMITS)
    folder = tmp_path / "node" / "main"
    written = {path.name: path.read_text() for path in folder.iterdir()}
    assert written == {"memory.max": str(64 << 20), "memory.oom.group": "1", "cpu.max": "50000 100000"}
    assert (tmp_path / "node" / "cgroup.subtree_control").read_text() == "+memory +cpu"
    assert group.entrances == (folder / "cgroup.procs",)
    (folder / "memory.events").write_text("oom 1\noom_kill 1\n")
    assert group.has_killed()


def test_version_1_has_a_folder_for_each_controller(tmp_path: Path) -> None:
    for controller in ("memory", "cpu"):
        (tmp_path / controller).mkdir()
    group = Cgroups("node", tmp_path).group("main", LIMITS)
    memory, cpu = tmp_path / "memory/node/main", tmp_path / "cpu/node/main"
    assert (memory / "memory.limit_in_bytes").read_text() == str(64 << 20)
    assert (cpu / "cpu.cfs_quota_us").read_text() == "50000"
    assert group.folders == (memory, cpu)
    (memory / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 0\n")
    assert not group.has_killed()


def test_without_limits_or_cgroups_there_is_no_group(tmp_path: Path) -> None:
    assert Cgroups("node", tmp_path).group("main", Limits()) == NO_GROUP
    assert Cgroups("node", tmp_path).group("main", LIMITS) == NO_GROUP
    assert list(tmp_path.iterdir()) == []
