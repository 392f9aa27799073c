"""A node for a test cluster: its pods are processes of this machine. And the requirements for the machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.processes import commanded

TOOLS = ("ip", "iptables-restore", "nsenter", "setpriv", "setsid", "unshare")

# As `node_agent.images.read_images` reads them: command lines, or objects with `command`, `user`
# and `environment`.
Images = Mapping[str, Sequence[str] | Mapping[str, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningNode:
    """`logs` is the folder of the containers' output, `own_log` the node's own: ends, failed probes."""

    name: str
    logs: Path
    own_log: Path
    process: subprocess.Popen[str]

    def output(self, namespace: str, pod: str, container: str) -> str:
        """All that the container has printed so far, in all of its runs, and in pods of the same name."""
        files = sorted(self.logs.glob(f"{namespace}_{pod}_*/{container}.log"))
        return "".join(file.read_text(errors="replace") for file in files)


@contextmanager
def running_node(
    kubeconfig: Path,
    images: Images,
    *,
    name: str = "outrigger-node",
    back_off_s: float = 10.0,
    kubelet_version: str | None = None,
) -> Iterator[RunningNode]:
    """A Node of the cluster that is ready. Each image is a command line of this machine, or an object with
    that as `command`, and the image's `user` and `environment`. A container's `args` follow the command line,
    its `command` replaces it. The Node has the version of the API server unless one is given. The pods of
    several nodes of one cluster reach each other. At the end nothing is left of the node, nor of its pods."""
    with tempfile.TemporaryDirectory() as folder:
        own_log, table = Path(folder) / "log", Path(folder) / "images.json"
        table.write_text(json.dumps(images))
        command = [sys.executable, "-m", "tests.support.node_agent", "--kubeconfig", str(kubeconfig)]
        command += ["--images", str(table), "--node-name", name, "--back-off", str(back_off_s)]
        command += [] if kubelet_version is None else ["--kubelet-version", kubelet_version]
        environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        with own_log.open("w") as complaints, commanded(command, environment, complaints) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, f"the node ended: {own_log.read_text()}"
            ready = json.loads(line)
            logs = Path(ready["logs"])
            yield RunningNode(name=ready["node"], logs=logs, own_log=own_log, process=process)
        # It may have been killed, by a test: that is not its own failure.
        assert process.returncode in {0, -signal.SIGKILL}, f"the node failed: {own_log.read_text()}"


def require_node() -> None:
    """Skips the test where no node can be run, and fails it there in CI."""
    missing = missing_for_a_node()
    if not missing:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(missing, pytrace=False)
    pytest.skip(missing)


def missing_for_a_node() -> str:
    """The missing requirements, as text; empty if there are none."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a node needs network namespaces: run the tests as root on Linux"
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        return f"a node needs {' and '.join(absent)}: install iproute2, iptables and util-linux"
    return ""
