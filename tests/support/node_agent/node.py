"""The node in the API: registered, with heartbeats, like a kubelet's."""

from __future__ import annotations

import asyncio
import platform
import time
from datetime import UTC, datetime

from tests.support.kubernetes_api import STRATEGIC_MERGE_PATCH, KubernetesApi, KubernetesError, Resource
from tests.support.node_agent.kubelet_api.server import WEBSOCKETS
from tests.support.node_agent.objects import patiently
from tests.support.node_agent.status import timestamp

# More than any test asks for: nothing is enforced, and nothing should stay unscheduled on a small machine.
CAPACITY = {"cpu": "64", "memory": "256Gi", "ephemeral-storage": "256Gi", "pods": "250"}
REGION, ZONE = "test-region", "test-zone"
RENEW_EVERY_S = 10.0
LEASE_S = 40
NODES = "/api/v1/nodes"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


class NodeRegistration:
    def __init__(self, api: KubernetesApi, name: str, address: str, kubelet_port: int) -> None:
        self._api = api
        self._name = name
        self._address = address
        self._kubelet_port = kubelet_port

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
        await create_or_patch(self._api, NODES, node(self._name))
        status = node_status(self._name, self._address, self._kubelet_port, time.time())
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


def node(name: str) -> Resource:
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture(),
        "topology.kubernetes.io/region": REGION,
        "topology.kubernetes.io/zone": ZONE,
    }
    return {"metadata": {"name": name, "labels": labels}}


def node_status(name: str, address: str, kubelet_port: int, now_s: float) -> Resource:
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "AgentReady",
        "message": "the node agent runs pods",
        "lastHeartbeatTime": timestamp(now_s),
    }
    information = {
        "architecture": architecture(),
        "operatingSystem": "linux",
        "kernelVersion": platform.release(),
        "osImage": platform.platform(),
        "containerRuntimeVersion": "process://1.0",
        "kubeletVersion": "v0.0.0-outrigger",
        "kubeProxyVersion": "",
        "machineID": name,
        "systemUUID": name,
        "bootID": name,
    }
    return {
        "capacity": CAPACITY,
        "allocatable": CAPACITY,
        "conditions": [ready],
        "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet_port}},
        "declaredFeatures": [WEBSOCKETS],
        "nodeInfo": information,
    }


def architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
