"""However the test cluster ends, it leaves nothing behind."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.kubernetes_binaries import CLUSTER
from tests.support.kubernetes_cluster import Cluster, ClusterProcess, cluster_process

COMPONENTS = {"kube-apiserver", "kube-controller-manager", "kube-scheduler"}
DEADLINE_S = 20.0


@pytest.fixture
def binary(cluster: Cluster) -> Path:
    cluster.started_here()
    return CLUSTER.path


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(lambda process: process.signal(signal.SIGTERM), id="SIGTERM"),
        pytest.param(ClusterProcess.close_input, id="the end of its input"),
    ],
)
def test_it_leaves_neither_process_nor_folder(
    binary: Path, tmp_path_factory: pytest.TempPathFactory, end: Callable[[ClusterProcess], None]
) -> None:
    temporary = tmp_path_factory.mktemp("t")  # short: the path of etcd's socket may not be long
    with cluster_process(binary, temporary_folder=temporary) as process:
        assert process.component_pids.keys() == COMPONENTS
        assert all(map(is_running, process.component_pids.values()))
        assert list(temporary.iterdir()) == [Path(process.ready["folder"])]
        end(process)
        assert process.wait(DEADLINE_S) == 0
        assert not any(map(is_running, process.component_pids.values()))
    assert list(temporary.iterdir()) == []


def test_its_processes_end_with_it_when_it_is_killed(
    binary: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with cluster_process(binary, temporary_folder=tmp_path_factory.mktemp("t")) as process:
        process.signal(signal.SIGKILL)
        process.wait(DEADLINE_S)
        deadline_s = time.monotonic() + DEADLINE_S
        while any(map(is_running, process.component_pids.values())):
            assert time.monotonic() < deadline_s, process.component_pids
            time.sleep(0.02)


def test_a_component_that_ends_by_itself_ends_it_all(
    binary: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    temporary = tmp_path_factory.mktemp("t")
    with cluster_process(binary, temporary_folder=temporary) as process:
        subprocess.run(["kill", "-KILL", str(process.component_pids["kube-scheduler"])], check=True)
        assert process.wait(DEADLINE_S) == 1
        assert process.complaints().startswith("cluster: kube-scheduler ended: signal: killed\n")
    assert list(temporary.iterdir()) == []


def test_a_folder_of_ones_own_stays(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("t")
    with cluster_process(binary, f"--data-dir={folder}") as process:
        process.signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0
    assert {f"{name}.log" for name in COMPONENTS} <= {path.name for path in folder.iterdir()}
    second = subprocess.run([binary, f"--data-dir={folder}"], capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert second.stderr == f"cluster: {folder} is not empty\n"


def is_running(pid: int) -> bool:
    """A process that has ended does not run, even if its parent has not waited for it."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in {"Z", "X"}
