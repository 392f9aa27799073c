from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.usable_cores import usable_cores


def cores(tmp_path: Path, own: str, files: dict[str, str], available: int = 8) -> int:
    own_cgroups = tmp_path / "own"
    own_cgroups.write_text(own)
    for name, text in files.items():
        file = tmp_path / "cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return usable_cores(tmp_path / "cgroup", own_cgroups, available)


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("10000 100000", 1),
        ("1600000 100000", 8),
        ("0 100000", 1),
        ("nonsense", 8),
        ("100000 0", 8),
        ("", 8),
    ],
)
def test_the_quota_of_version_2_counts_parts_of_a_core_as_one(
    tmp_path: Path, quota: str, expected: int
) -> None:
    assert cores(tmp_path, "0::/\n", {"cpu.max": quota}) == expected


def test_the_smallest_quota_of_all_groups_counts(tmp_path: Path) -> None:
    files = {"pods/a/cpu.max": "max 100000", "pods/cpu.max": "300000 100000", "cpu.max": "500000 100000"}
    assert cores(tmp_path, "0::/pods/a\n", files) == 3


def test_a_container_sees_its_own_group_at_the_root(tmp_path: Path) -> None:
    assert cores(tmp_path, "0::/kubepods/pod1/x\n", {"cpu.max": "200000 100000"}) == 2


@pytest.mark.parametrize("folder", ["cpu,cpuacct", "cpu"])
def test_the_quota_of_version_1(tmp_path: Path, folder: str) -> None:
    files = {
        f"{folder}/pod/cpu.cfs_quota_us": "250000\n",
        f"{folder}/pod/cpu.cfs_period_us": "100000\n",
        f"{folder}/cpu.cfs_quota_us": "-1\n",
        f"{folder}/cpu.cfs_period_us": "100000\n",
    }
    assert cores(tmp_path, "5:memory:/pod\n4:cpu,cpuacct:/pod\n", files) == 3


def test_without_control_groups_the_affinity_counts(tmp_path: Path) -> None:
    assert usable_cores(tmp_path, tmp_path / "missing", 5) == 5
    assert usable_cores() >= 1
