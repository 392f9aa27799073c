"""The binaries of Kubernetes that tests run: the control plane of the test cluster, kubectl and Helm."""

from __future__ import annotations

from pathlib import Path

from tests.support.go_binary import GoBinary, required_version

FOLDER = Path(__file__).resolve().parents[1] / "kubernetes"


def kubernetes_version() -> str:
    """The release whose components the test cluster runs, such as `1.37.2`."""
    return required_version(FOLDER / "cluster", "k8s.io/kubernetes")


def linked_version() -> dict[str, str]:
    """Kubernetes takes its version from the linker; without it, `kubectl version` cannot tell."""
    version = kubernetes_version()
    major, minor, _ = version.split(".", 2)
    variables = {"gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor}
    return {f"k8s.io/component-base/version.{name}": value for name, value in variables.items()}


# About ten minutes of CPU and 3 GB of Go's caches the first time, kubectl a minute of them.
CLUSTER = GoBinary(name="cluster", sources=FOLDER / "cluster", variables=linked_version())
KUBECTL = GoBinary(name="kubectl", sources=FOLDER / "kubectl", variables=linked_version())
# Two minutes more.
HELM = GoBinary(name="helm", sources=FOLDER / "helm")
