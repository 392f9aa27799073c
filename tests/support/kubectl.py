"""The real kubectl, of the release of the test cluster."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.support.kubernetes_binaries import KUBECTL

TIMEOUT_S = 60.0


class KubectlError(Exception):
    """kubectl failed: the message has its arguments and what it wrote to standard error."""

    def __init__(self, arguments: tuple[str, ...], code: int, complaints: str) -> None:
        super().__init__(f"kubectl {' '.join(arguments)}: exit code {code}: {complaints.strip()}")
        self.code = code
        self.complaints = complaints


def kubectl(kubeconfig: Path, *arguments: str, text: str = "", timeout_s: float = TIMEOUT_S) -> str:
    """Its standard output, given the text on its standard input. Raises KubectlError."""
    done = subprocess.run(
        [KUBECTL.path, *arguments],
        input=text,
        env=kubectl_environment(kubeconfig),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if done.returncode != 0:
        raise KubectlError(arguments, done.returncode, done.stderr)
    return done.stdout


def kubectl_environment(kubeconfig: Path) -> Mapping[str, str]:
    """For a process that runs `KUBECTL.path`, or `kubectl`: that is the first in its PATH."""
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return {
        **kept,
        "KUBECONFIG": str(kubeconfig),
        # It goes with the cluster: another cluster may have the same port, and other kinds.
        "KUBECACHEDIR": str(kubeconfig.parent / "cache"),
        "PATH": f"{KUBECTL.path.parent}:{kept['PATH']}",
    }
