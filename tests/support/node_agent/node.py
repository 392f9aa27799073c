"""The node in the API: registered, with heartbeats, like a kubelet's."""

from __future__ import annotations

import asyncio
import platform
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Network

from tests.support.kubernetes_api import STRATEGIC_MERGE_PATCH, KubernetesApi, KubernetesError, Resource
from tests.support.node_agent.kubelet_api.server import WEBSOCKETS
from tests.support.node_agent.node_network import SUBNET_ANNOTATION
from tests.support.node_agent.objects import patiently
from tests.support.node_agent.status import timestamp

# More than any test asks for, so that every pod is scheduled on a small machine too.
CAPACITY = {"cpu": "64", "memory": "256Gi", "ephemeral-storage": "256Gi", "pods": "250"}
# Constant: the machine's own load, which other programs cause too, must not evict a test's pods.
CONDITIONS = [
    {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "the node agent runs pods"},
    {"type": "MemoryPressure", "status": "False", "reason": "KubeletHasSufficientMemory"},
    {"type": "DiskPressure", "status": "False", "reason": "KubeletHasNoDiskPressure"},
    {"type": "PIDPressure", "status": "False", "reason": "KubeletHasSufficientPID"},
]
REGION, ZONE = "test-region", "test-zone"
RENEW_EVERY_S = 10.0
LEASE_S = 40
NODES = "/api/v1/nodes"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """`ready_since_s`: seconds since the epoch. `kubelet_version` such as `v1.37.2`: it decides for others
    which features a pod of the node may use."""

    name: str
    address: str
    subnet: IPv4Network
    kubelet_port: int
    kubelet_version: str
    ready_since_s: float


class NodeRegistration:
    def __init__(self, api: KubernetesApi, facts: NodeFacts) -> None:
        self._api = api
        self._facts = facts
        self._name = facts.name

    async def register(self) -> None:
        """Returns when the API has the node as ready. One of the same name is taken over."""
        await patiently(self._register)
        await patiently(self._renew_lease)

    async def keep_alive(self) -> None:
        """Registers it again if it was deleted."""
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            await self.register()

    async def remove(self) -> None:
        """Raises KubernetesError, and the errors of the connection to the API server."""
        for path in (f"{NODES}/{self._name}", f"{LEASES}/{self._name}"):
            try:
                await self._api.delete(path)
            except KubernetesError as error:
                if error.status != 404:
                    raise

    async def _register(self) -> None:
        await create_or_patch(self._api, NODES, node(self._facts))
        status = node_status(self._facts, time.time())
        await self._api.patch(f"{NODES}/{self._name}/status", {"status": status}, STRATEGIC_MERGE_PATCH)

    async def _renew_lease(self) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": self._name, "leaseDurationSeconds": LEASE_S, "renewTime": now}
        await create_or_patch(self._api, LEASES, {"metadata": {"name": self._name}, "spec": spec})


async def create_or_patch(api: KubernetesApi, collection: str, resource: Resource) -> None:
    try:
        await api.patch(f"{collection}/{resource['metadata']['name']}", resource)
    except KubernetesError as error:
        if error.status != 404:
            raise
        await api.create(collection, resource)


def node(facts: NodeFacts) -> Resource:
    labels = {
        "kubernetes.io/hostname": facts.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture(),
        "topology.kubernetes.io/region": REGION,
        "topology.kubernetes.io/zone": ZONE,
    }
    annotations = {SUBNET_ANNOTATION: str(facts.subnet)}
    return {"metadata": {"name": facts.name, "labels": labels, "annotations": annotations}}


def node_status(facts: NodeFacts, now_s: float) -> Resource:
    times = {
        "lastHeartbeatTime": timestamp(now_s),
        "lastTransitionTime": timestamp(facts.ready_since_s),
    }
    information = {
        "architecture": architecture(),
        "operatingSystem": "linux",
        "kernelVersion": platform.release(),
        "osImage": platform.platform(),
        "containerRuntimeVersion": "process://1.0",
        "kubeletVersion": facts.kubelet_version,
        "kubeProxyVersion": "",
        "machineID": facts.name,
        "systemUUID": facts.name,
        "bootID": facts.name,
    }
    return {
        "capacity": CAPACITY,
        "allocatable": CAPACITY,
        "conditions": [{**each, **times} for each in CONDITIONS],
        "addresses": [
            {"type": "InternalIP", "address": facts.address},
            {"type": "Hostname", "address": facts.name},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": facts.kubelet_port}},
        "declaredFeatures": [WEBSOCKETS],
        "nodeInfo": information,
    }


def architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
