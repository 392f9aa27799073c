"""Pods get their sidecars while replicas of the control plane, behind their Service, come and go."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from tests.support.injected_mesh import CONTROL_PLANE, SYSTEM_NAMESPACE, InjectedMesh, injected_mesh
from tests.support.kubernetes_api import Resource
from tests.support.pod_specs import signal_first_process

pytestmark = pytest.mark.timeout(300)

NAMESPACE = "web"
DEADLINE_S = 150.0


@pytest.fixture(scope="module")
def mesh() -> Iterator[InjectedMesh]:
    with injected_mesh("controlPlane.replicas=2", "controlPlane.autoscaling.enabled=false") as mesh:
        mesh.create_namespace(NAMESPACE, istio_injection="enabled")
        yield mesh


def deployment(name: str, replicas: int) -> Resource:
    """No scheduler binds its pods: only their creation matters."""
    labels = {"app": name}
    spec = {"schedulerName": "no-one", "containers": [{"name": "web", "image": "web"}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def injected_pods(mesh: InjectedMesh, name: str, count: int) -> list[Resource]:
    """The pods of a Deployment, once all of them exist.

    After creations that failed, a ReplicaSet waits for up to 1000 s. A change of it makes its controller try
    again at once.
    """
    deadline = time.monotonic() + DEADLINE_S
    while len(pods := mesh.pods(NAMESPACE, f"app={name}")) < count:
        events = mesh.objects("events", NAMESPACE)
        assert time.monotonic() < deadline, [each["message"] for each in events]
        change = f"seen={len(pods)}-{time.monotonic():.0f}"
        mesh.kubectl(
            *("annotate", "replicaset", "--namespace", NAMESPACE, "--overwrite"),
            *("--selector", f"app={name}", change),
        )
        time.sleep(0.2)
    assert len(pods) == count
    return pods


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_every_pod_gets_a_sidecar_while_a_replica_ends(mesh: InjectedMesh, number: int) -> None:
    name = signal.Signals(number).name.lower()
    mesh.rolled_out(SYSTEM_NAMESPACE, f"deployment/{CONTROL_PLANE}")
    first, _ = mesh.pods(SYSTEM_NAMESPACE, f"app={CONTROL_PLANE}")
    mesh.apply(deployment(name, 10))
    signal_first_process(first["metadata"]["name"], number)
    mesh.kubectl("scale", "--namespace", NAMESPACE, f"deployment/{name}", "--replicas=40")
    for pod in injected_pods(mesh, name, 40):
        containers = [*pod["spec"]["containers"], *pod["spec"].get("initContainers", ())]
        assert "outrigger-sidecar" in [each["name"] for each in containers]
