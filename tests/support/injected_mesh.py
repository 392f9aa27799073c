"""A mesh in a real cluster as its operators have it: installed by the command, and injected into pods of
labelled namespaces. Everything is done with the real kubectl."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import yaml

from controlplane.injection.config import EnvoyValues
from outrigger.installation.chart import Chart
from tests.support import kubernetes_cluster
from tests.support.envoy import envoy_binary
from tests.support.kubectl import kubectl, kubectl_environment
from tests.support.kubernetes_api import Resource
from tests.support.kubernetes_cluster import Cluster
from tests.support.manifests import DEPLOY
from tests.support.node import Images, RunningNode, require_node, running_node

SYSTEM_NAMESPACE: Final = "outrigger-system"
CONTROL_PLANE: Final = "outrigger-controlplane"
VERSION: Final = Chart().version
BOOKINFO: Final = DEPLOY / "examples" / "bookinfo"
PROXY_UID: Final = 1337
INSTALL_TIMEOUT_S: Final = 180.0
ROLLOUT_TIMEOUT_S: Final = 120.0
SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def images() -> Images:
    """The images of Outrigger, and the stock images of the examples."""
    hub = f"docker.io/outrigger/{{}}:{VERSION}"
    return {
        hub.format("controlplane"): _python("-m", "controlplane", user=PROXY_UID),
        hub.format("sidecar"): _python("-m", "sidecar", user=PROXY_UID),
        hub.format("cli"): _python("-m", "outrigger", user=PROXY_UID),
        EnvoyValues().image: {"command": [str(envoy_binary())], "user": PROXY_UID},
        "python:3.13-slim": {**_python(), "command": []},
    }


def _python(*arguments: str, user: int = 0) -> Mapping[str, Any]:
    path = f"{Path(sys.executable).parent}:{SYSTEM_PATH}"
    return {"command": [sys.executable, *arguments], "user": user, "environment": {"PATH": path}}


class InjectedMesh:
    """A cluster with a node, and an operator's commands for it."""

    def __init__(self, cluster: Cluster, node: RunningNode) -> None:
        self.cluster = cluster
        self.node = node

    def kubectl(self, *arguments: str | Path, text: str = "", timeout_s: float = 60.0) -> str:
        """The output of the real kubectl. Raises `KubectlError`."""
        return kubectl(self.cluster.kubeconfig, *map(str, arguments), text=text, timeout_s=timeout_s)

    def outrigger(self, *arguments: str | Path) -> str:
        """The output of the operator's command, which must succeed."""
        done = subprocess.run(
            [sys.executable, "-m", "outrigger", *map(str, arguments)],
            env=kubectl_environment(self.cluster.kubeconfig),
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, f"outrigger {arguments[0]}: {done.stdout}{done.stderr}"
        return done.stdout

    def install(self, *values: str) -> None:
        """Each of ``values`` is KEY=VALUE of the chart. Returns when the control plane is ready."""
        self.outrigger("install", *(f"--set={value}" for value in values))

    def apply(self, *documents: Resource) -> None:
        self.kubectl("apply", "--filename", "-", text=yaml.safe_dump_all(documents))

    def create_namespace(self, name: str, **labels: str) -> None:
        """``istio_injection="enabled"`` is the label istio-injection. The labels stay when a manifest of the
        namespace is applied."""
        self.kubectl("create", "namespace", name)
        pairs = [f"{key.replace('_', '-')}={value}" for key, value in labels.items()]
        self.kubectl("label", "namespace", name, *pairs)

    def rolled_out(self, namespace: str, *workloads: str) -> None:
        """Waits until the workloads, such as ``deployment/reviews-v1``, have their newest pods and no others;
        by default all Deployments of the namespace."""
        self.kubectl(
            *("rollout", "status", "--namespace", namespace, f"--timeout={ROLLOUT_TIMEOUT_S:g}s"),
            *(workloads or ("deployment",)),
            timeout_s=ROLLOUT_TIMEOUT_S + 10,
        )

    def objects(self, kind: str, namespace: str, labels: str = "") -> list[Resource]:
        selector = ("--selector", labels) if labels else ()
        listing = self.kubectl("get", kind, "--namespace", namespace, *selector, "--output", "json")
        items: list[Resource] = json.loads(listing)["items"]
        return items

    def pods(self, namespace: str, labels: str = "") -> list[Resource]:
        """Those that are not being deleted."""
        return [
            pod
            for pod in self.objects("pods", namespace, labels)
            if "deletionTimestamp" not in pod["metadata"]
        ]


@contextmanager
def empty_cluster(more_images: Images | None = None) -> Iterator[InjectedMesh]:
    """A cluster of its own with one node, in which nothing is installed. Skips the test where that is not
    possible, and fails it there in CI."""
    kubernetes_cluster.require_cluster()
    require_node()
    with kubernetes_cluster.cluster() as cluster:
        cluster.started_here()
        with running_node(cluster.kubeconfig, {**images(), **(more_images or {})}, back_off_s=1.0) as node:
            yield InjectedMesh(cluster, node)


@contextmanager
def injected_mesh(*values: str) -> Iterator[InjectedMesh]:
    """`empty_cluster` with Outrigger, installed with these values, as `InjectedMesh.install` has them."""
    with empty_cluster() as mesh:
        mesh.install(*values)
        yield mesh
