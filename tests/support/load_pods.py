"""Pods that send constant load to productpage: one in the mesh, one outside."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Final

from outrigger.demo.load import Result, Results
from tests.support.injected_mesh import InjectedMesh
from tests.support.kubernetes_api import Resource

NAMESPACE: Final = "bookinfo"
URL: Final = "http://productpage:9080/productpage"
RATE_PER_S: Final = 6
DEADLINE_S: Final = 120.0
_PROGRAM: Final = Path(__file__).with_name("load_program.py")


class LoadPod:
    """It runs on the first node. With a sidecar, that balances its requests; without one, the node does."""

    def __init__(self, mesh: InjectedMesh, name: str, *, inject: bool) -> None:
        self._mesh = mesh
        self.name = name
        self._inject = inject
        self._results = Results()

    def start(self) -> None:
        self._mesh.apply(self._pod())
        self._mesh.kubectl(
            *("wait", "--namespace", NAMESPACE, "--for=condition=Ready", f"pod/{self.name}"),
            f"--timeout={DEADLINE_S:g}s",
            timeout_s=DEADLINE_S + 10,
        )

    def _pod(self) -> Resource:
        container = {
            "name": "load",
            "image": "python:3.13-slim",
            "command": ["python", str(_PROGRAM), URL, str(RATE_PER_S)],
        }
        labels = {"app": self.name, "sidecar.istio.io/inject": str(self._inject).lower()}
        metadata = {"name": self.name, "namespace": NAMESPACE, "labels": labels}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}

    def results(self) -> Results:
        """All so far."""
        *lines, _ = self._mesh.node.output(NAMESPACE, self.name, "load").split("\n")
        for line in lines[len(self._results) :]:
            self._results.append(Result(**json.loads(line)))
        return self._results

    def enough(self, since_s: float, count: int) -> Results:
        """The results of the requests that were sent since then, once there are so many."""
        deadline = time.monotonic() + DEADLINE_S
        while len(found := self.results().since(since_s)) < count:
            assert time.monotonic() < deadline, f"{self.name}: {len(found)} of {count} requests"
            time.sleep(0.2)
        return found
