"""The Kubernetes source with an API server in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from controlplane.kinds.registry import KINDS
from controlplane.kubernetes.api import Document
from controlplane.kubernetes.list_watch import Changes
from controlplane.model.store import Store
from controlplane.sources.kubernetes import KubernetesSource
from tests.support.fake_kubernetes_api import FakeKubernetesApi
from tests.support.metrics import MOVED_IN, moved

PODS = "/api/v1/namespaces/default/pods"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
HOST = "reviews.default.svc.cluster.local"


def pod(ip: str = "10.0.0.1", *, seen: str = "now") -> Document:
    ready = {"type": "Ready", "status": "True", "lastProbeTime": seen}
    return {
        "metadata": {"name": "a", "uid": "1", "labels": {"app": "reviews"}},
        "spec": {"nodeName": "n", "containers": [{"name": "app"}]},
        "status": {"phase": "Running", "podIP": ip, "conditions": [ready]},
    }


def endpoint_slice(trigger_time: str) -> Document:
    target = {"kind": "Pod", "name": "a", "uid": "1"}
    return {
        "metadata": {
            "name": "reviews-1",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "reviews"},
            "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": trigger_time},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 9080, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}, "targetRef": target}],
    }


def node(heartbeat: str) -> Document:
    conditions = [{"type": "Ready", "status": "True", "lastHeartbeatTime": heartbeat}]
    labels = {"topology.kubernetes.io/region": "eu"}
    return {"metadata": {"name": "n", "labels": labels}, "status": {"conditions": conditions}}


def service() -> Document:
    ports = [{"name": "http", "port": 80, "targetPort": 9080, "protocol": "TCP"}]
    return {"metadata": {"name": "reviews"}, "spec": {"clusterIP": "10.1.0.1", "ports": ports}}


class Mesh:
    """A store that follows an API server; ``told`` counts the calls of ``on_change``."""

    def __init__(self, objects: dict[str, Any]) -> None:
        self.api = FakeKubernetesApi(objects)
        self.store = Store(KINDS)
        self.told = 0
        self._changed = asyncio.Event()
        self.registry = CollectorRegistry()
        self.observed: list[Changes] = []
        self.source = KubernetesSource(
            self.api,
            self.store,
            self._note,
            dns_domain="cluster.local",
            registry=self.registry,
            observers={"Node": self.observed.append},
        )

    def _note(self) -> None:
        self.told += 1
        self._changed.set()

    async def changed(self) -> None:
        async with asyncio.timeout(5):
            await self._changed.wait()
        self._changed.clear()


@pytest.fixture
async def mesh() -> AsyncIterator[Mesh]:
    objects = {
        "/api/v1/nodes/n": node("1"),
        f"{PODS}/a": pod(),
        "/api/v1/namespaces/default/services/reviews": service(),
        "/api/v1/namespaces/default/serviceaccounts/default": {"metadata": {"name": "default"}},
        f"{SLICES}/reviews-1": endpoint_slice("1"),
    }
    made = Mesh(objects)
    await made.source.start()
    await made.changed()
    yield made
    await made.source.close()


async def test_the_time_since_the_last_answer_of_the_api_server_is_reported(mesh: Mesh) -> None:
    assert moved(mesh.registry) == MOVED_IN["unit/controlplane/sources/test_kubernetes.py"]


async def test_a_change_without_effect_on_the_mesh_requests_no_build(mesh: Mesh) -> None:
    """Most events of a cluster are statuses of pods and heartbeats of nodes."""
    before, _ = mesh.store.build()
    assert before.endpoints[HOST]
    mesh.told = 0
    await mesh.api.put(f"{PODS}/a", pod(seen="later"))
    await mesh.api.put("/api/v1/nodes/n", node("2"))
    await mesh.api.put(f"{SLICES}/reviews-1", endpoint_slice("2"))
    account = {"metadata": {"name": "default", "annotations": {"a": "b"}}}
    await mesh.api.put("/api/v1/namespaces/default/serviceaccounts/default", account)
    for _ in range(20):  # each kind has its own task
        await asyncio.sleep(0)
    assert mesh.told == 0
    await mesh.api.put(f"{PODS}/a", pod("10.0.0.2"))
    await mesh.changed()
    assert mesh.told == 1
    after, _ = mesh.store.build()
    assert [each.address for each in after.workloads] == ["10.0.0.2"]


async def test_an_observer_gets_all_changes_of_its_kind(mesh: Mesh) -> None:
    await mesh.api.put("/api/v1/nodes/n", node("2"))
    await mesh.api.remove("/api/v1/nodes/n")
    async with asyncio.timeout(5):
        while len(mesh.observed) < 3:
            await asyncio.sleep(0)
    listed, changed, removed = mesh.observed
    assert [each["metadata"]["name"] for each in (*listed.present, *changed.present)] == ["n", "n"]
    assert removed == Changes(gone=(("", "n"),))
