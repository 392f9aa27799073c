"""A running Kubernetes control plane: one started here, or the one that `OUTRIGGER_TEST_KUBECONFIG` names."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

from tests.support.kubernetes_binaries import CLUSTER, KUBECTL
from tests.support.processes import STOP_TIMEOUT_S, commanded

HOW_TO_GET_ONE = "`make cluster-binary` builds it; OUTRIGGER_TEST_KUBECONFIG names another cluster"


class ClusterProcess:
    """The cluster's process, and its protocol: commands as lines, answers as lines of JSON."""

    def __init__(self, process: subprocess.Popen[str], complaints: IO[str]) -> None:
        self._process = process
        self._complaints = complaints
        self.ready = self._read()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def component_pids(self) -> dict[str, int]:
        """By the component's name, as they were when the cluster became ready."""
        return dict(self.ready["processes"])

    def ask(self, line: str) -> dict[str, Any]:
        """Returns when it is done (the cluster sets its own time limits); fails where it is refused."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        answer = self._read()
        assert answer["event"] != "error", f"{line}: {answer['message']}"
        return answer

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def close_input(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    def wait(self, timeout_s: float | None = None) -> int:
        """Until it has ended; its exit code."""
        return self._process.wait(timeout_s)

    def complaints(self) -> str:
        self._complaints.seek(0)
        return self._complaints.read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait(STOP_TIMEOUT_S)
            raise AssertionError(f"the test cluster ended with {code}: {self.complaints()}")
        event: dict[str, Any] = json.loads(line)
        return event


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    kubeconfig: Path
    process: ClusterProcess | None

    def started_here(self) -> ClusterProcess:
        """For tests that break the cluster or read its keys: skips them where it is someone else's."""
        if self.process is None:
            pytest.skip("it needs a cluster of its own, not that of OUTRIGGER_TEST_KUBECONFIG")
        return self.process

    @property
    def folder(self) -> Path:
        """Where its certificates, keys and logs are."""
        return Path(self.started_here().ready["folder"])

    def stop_api_server(self) -> None:
        """Stops it with SIGTERM: watches end normally. Returns when it has ended."""
        self.started_here().ask("stop-api-server")

    def kill_api_server(self) -> None:
        """By SIGKILL: connections break off."""
        self.started_here().ask("kill-api-server")

    def start_api_server(self) -> None:
        """Starts it at the same address, with new controllers. Returns when it is ready."""
        self.started_here().ask("start-api-server")

    def compact(self) -> int:
        """Makes etcd forget all revisions before the present one, which is returned."""
        return int(self.started_here().ask("compact")["revision"])


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A cluster that is ready."""
    require_cluster()
    if named := os.environ.get("OUTRIGGER_TEST_KUBECONFIG"):
        yield Cluster(kubeconfig=Path(named), process=None)
        return
    with cluster_process(CLUSTER.path) as process:
        yield Cluster(kubeconfig=Path(process.ready["kubeconfig"]), process=process)


@contextmanager
def cluster_process(
    binary: Path, *flags: str, temporary_folder: Path | None = None
) -> Iterator[ClusterProcess]:
    """Runs the binary until the block ends."""
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    if temporary_folder is not None:
        environment["TMPDIR"] = str(temporary_folder)
    with (
        tempfile.TemporaryFile("w+") as complaints,
        commanded([binary, *flags], environment, complaints) as process,
    ):
        yield ClusterProcess(process, complaints)


def require_cluster() -> None:
    """Skips the test where there is no cluster, and fails it there in CI. Called by a folder's
    `pytest_runtest_setup`, it makes pytest say so in one line for all of the folder's tests."""
    needed = [KUBECTL] if os.environ.get("OUTRIGGER_TEST_KUBECONFIG") else [CLUSTER, KUBECTL]
    absent = [binary.name for binary in needed if not binary.path.is_file()]
    if not absent:
        return
    missing = f"not built: {' and '.join(absent)}: {HOW_TO_GET_ONE}"
    if os.environ.get("CI") == "true":
        pytest.fail(missing, pytrace=False)
    pytest.skip(missing)
