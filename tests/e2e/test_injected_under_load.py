"""Bookinfo under constant load: whatever happens to pods, nodes and the control plane, no request fails."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import pytest

from outrigger.demo.figures import check_shares
from outrigger.demo.observe import read_requests
from tests.support.injected_mesh import (
    BOOKINFO,
    CONTROL_PLANE,
    SYSTEM_NAMESPACE,
    InjectedMesh,
    images,
    injected_mesh,
)
from tests.support.kubectl import KubectlError
from tests.support.load_pods import NAMESPACE, LoadPod
from tests.support.node import RunningNode, running_node
from tests.support.pod_specs import signal_first_process

pytestmark = pytest.mark.timeout(300)

ENOUGH = 20  # requests, to see that all is well again
OUTAGE_S = 60.0
DEADLINE_S = 60.0
LIFETIME_S = 20  # a sidecar renews its certificate at half of it
ROTATING = f"controlPlane.extraArgs={{--workload-cert-ttl={LIFETIME_S}s}}"
LASTING = "controlPlane.extraArgs={}"
CERTIFICATE = re.compile(r"certificate of \S+: valid for (\d+) s")
REPLICATED = ("deployment/productpage-v1", "deployment/reviews-v1")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedMesh:
    mesh: InjectedMesh
    load: tuple[LoadPod, ...]  # the first is in the mesh

    @contextmanager
    def no_request_fails(self) -> Iterator[None]:
        """During the block, and after it."""
        earlier = [len(pod.results()) for pod in self.load]
        yield
        for pod, count in zip(self.load, earlier, strict=True):
            pod.enough(time.monotonic(), ENOUGH)
            sent = pod.results()[count:]
            failed = [each for each in sent if not each.ok]
            assert not failed, f"{pod.name}: {len(failed)} of {len(sent)}: {failed[:3]}"

    def kubectl(self, *arguments: str, timeout_s: float = 70.0) -> str:
        """In the namespace of Bookinfo."""
        return self.mesh.kubectl(*arguments, "--namespace", NAMESPACE, timeout_s=timeout_s)

    def scale(self, replicas: int, *deployments: str) -> None:
        self.kubectl("scale", f"--replicas={replicas}", *deployments)

    def accepts(self, name: str) -> bool:
        """Whether the file of this name can be applied."""
        try:
            self.kubectl("apply", "--filename", str(BOOKINFO / f"{name}.yaml"))
        except KubectlError as error:
            if "failed calling webhook" not in error.complaints:
                raise
            return False
        return True

    def settled(self) -> None:
        """Waits until the Deployments have their newest pods, and the others have ended."""
        self.mesh.rolled_out(NAMESPACE)
        pods = [pod["metadata"] for pod in self.mesh.objects("pods", NAMESPACE)]
        ending = [f"pod/{pod['name']}" for pod in pods if "deletionTimestamp" in pod]
        if ending:
            self.kubectl("wait", "--for=delete", *ending, f"--timeout={DEADLINE_S:g}s")

    def control_plane(self) -> list[str]:
        """The names of its pods, once they are ready."""
        self.mesh.rolled_out(SYSTEM_NAMESPACE)
        return [pod["metadata"]["name"] for pod in self.mesh.pods(SYSTEM_NAMESPACE, f"app={CONTROL_PLANE}")]

    def called_workloads(self) -> set[str]:
        """The destinations in the metrics of the load's sidecar."""
        (pod,) = self.mesh.pods(NAMESPACE, f"app={self.load[0].name}")
        url = f"http://{pod['status']['podIP']}:15020/stats/prometheus"
        requests = read_requests(httpx.get(url, trust_env=False).text)
        return {labels["destination_workload"] for labels, _ in requests}

    def lifetimes(self) -> list[list[int]]:
        """Of the certificates that each sidecar of Bookinfo has got, in seconds."""
        outputs = [
            self.mesh.node.output(NAMESPACE, pod["metadata"]["name"], "outrigger-sidecar")
            for pod in self.mesh.pods(NAMESPACE, "version")
        ]
        return [[int(lifetime) for lifetime in CERTIFICATE.findall(output)] for output in outputs]


@pytest.fixture(scope="module")
def loaded() -> Iterator[LoadedMesh]:
    with injected_mesh(ROTATING) as mesh:
        mesh.create_namespace(NAMESPACE, istio_injection="enabled")
        mesh.kubectl("apply", "--kustomize", BOOKINFO)
        for name in ("security", "destination-rules"):
            mesh.kubectl("apply", "--filename", BOOKINFO / f"{name}.yaml")
        mesh.rolled_out(NAMESPACE)
        load = (LoadPod(mesh, "load", inject=True), LoadPod(mesh, "load-from-outside", inject=False))
        for pod in load:
            pod.start()
        yield LoadedMesh(mesh=mesh, load=load)


@pytest.fixture
def second_node(loaded: LoadedMesh) -> Iterator[RunningNode]:
    kubeconfig = loaded.mesh.cluster.kubeconfig
    with running_node(kubeconfig, images(), name="second-node", back_off_s=1.0) as node:
        yield node


def test_every_deployment_restarts_with_certificates_of_seconds(loaded: LoadedMesh) -> None:
    with loaded.no_request_fails():
        loaded.mesh.install(ROTATING)
        loaded.kubectl("rollout", "restart", "deployment")
        loaded.settled()
        eventually(lambda: min(map(len, loaded.lifetimes())) > 1, "each sidecar has renewed its certificate")
    assert loaded.called_workloads() == {"productpage-v1"}, "metrics name Deployments, whatever pods they had"


def test_a_deployment_scales_while_a_replica_of_the_control_plane_is_killed(loaded: LoadedMesh) -> None:
    with loaded.no_request_fails():
        first, _ = loaded.control_plane()
        loaded.scale(4, "deployment/reviews-v1")
        signal_first_process(first, signal.SIGKILL)
        for replicas in (4, 2, 1):
            loaded.scale(replicas, "deployment/reviews-v1")
            loaded.settled()


def test_a_node_is_drained_of_replicas_and_of_the_whole_control_plane(
    loaded: LoadedMesh, second_node: RunningNode
) -> None:
    mesh = loaded.mesh
    with loaded.no_request_fails():
        mesh.kubectl("cordon", mesh.node.name)
        mesh.kubectl("rollout", "restart", "--namespace", SYSTEM_NAMESPACE, "deployment")
        loaded.scale(2, *REPLICATED)
        mesh.rolled_out(SYSTEM_NAMESPACE)
        mesh.rolled_out(NAMESPACE)
        mesh.kubectl("uncordon", mesh.node.name)
        mesh.kubectl("drain", second_node.name, "--delete-emptydir-data", "--timeout=90s", timeout_s=100)
        mesh.rolled_out(NAMESPACE)
        loaded.scale(1, *REPLICATED)
        loaded.settled()


def test_the_api_server_and_the_control_plane_are_away(loaded: LoadedMesh) -> None:
    """Certificates outlive the outage: nobody can sign new ones meanwhile."""
    mesh, (load, _) = loaded.mesh, loaded.load
    with loaded.no_request_fails():
        mesh.install(LASTING)
        eventually(lambda: min(each[-1] for each in loaded.lifetimes()) > LIFETIME_S, "long certificates")
        killed = loaded.control_plane()
        mesh.cluster.kill_api_server()
        began_s = time.monotonic()
        try:
            for pod in killed:
                signal_first_process(pod, signal.SIGKILL)
            load.enough(began_s + OUTAGE_S, 1)
        finally:
            mesh.cluster.start_api_server()
        eventually(lambda: loaded.accepts("reviews-90-10"), "a control plane validates a VirtualService")
        loaded.kubectl("wait", "--for=condition=Programmed", "virtualservice/reviews", "--timeout=60s")
        assert check_shares(load.enough(time.monotonic(), 100).versions(), {"v1": 90, "v2": 10}).ok


def eventually(holds: Callable[[], bool], words: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, f"{words}: not within {DEADLINE_S:g} s"
        time.sleep(0.2)
