"""Bookinfo in a real cluster, its pods run by a node of ours."""

from __future__ import annotations

import asyncio
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import quote

import httpx

from outrigger.demo.observe import Hop, read_hops
from outrigger.installation.chart import Chart, Release
from outrigger.installation.values import given_values
from tests.support.bookinfo import example
from tests.support.bookinfo_pods import (
    DEPLOYMENTS,
    METRICS_PORT,
    NAMESPACE,
    SERVICE_PORT,
    images,
    workloads,
)
from tests.support.crds import install_crds
from tests.support.debug_reader import debug_reader
from tests.support.kubernetes_api import KubernetesApi, Resource, eventually, kubernetes_api
from tests.support.kubernetes_cluster import Cluster
from tests.support.manifests import apply, path_of
from tests.support.node import running_node
from tests.support.pod_specs import processes_of, signal_first_process

CONTROL_PLANE_NAMESPACE: Final = "outrigger-system"
CONTROL_PLANE: Final = "outrigger-controlplane"
DEBUG_PORT: Final = 8080
DEADLINE_S: Final = 90.0
# The pods have their sidecars from the start.
VALUES: Final = (
    "namespace.create=true,global.hub=outrigger,controlPlane.autoscaling.enabled=false,controlPlane.replicas=1,"
    "injection.enabled=false,validation.enabled=false"
)


class BookinfoInCluster:
    """See `tests.support.bookinfo.Bookinfo`."""

    outage_s: Final = 60.0

    def __init__(self, cluster: Cluster, api: KubernetesApi, client: httpx.AsyncClient) -> None:
        self._cluster = cluster
        self._api = api
        self._client = client
        self._control_plane = self._control_plane_address = ""
        self.url = ""

    async def start(self) -> None:
        await install_crds(self._api)
        await apply(self._api, control_plane_manifests())
        await self._available(CONTROL_PLANE_NAMESPACE, CONTROL_PLANE)
        (control_plane,) = await self._pods(CONTROL_PLANE_NAMESPACE, f"app={CONTROL_PLANE}")
        self._control_plane = control_plane["metadata"]["name"]
        self._control_plane_address = control_plane["status"]["podIP"]
        for name in ("services", "security", "destination-rules"):
            await apply(self._api, example(name))
        await apply(self._api, workloads())
        for name, _, _ in DEPLOYMENTS:
            await self._available(NAMESPACE, name)
        (productpage,) = await self._pods(NAMESPACE, "app=productpage")
        self.url = f"http://{productpage['status']['podIP']}:{SERVICE_PORT}/productpage"

    async def apply(self, *documents: Resource) -> None:
        await apply(self._api, documents)

    async def scale_reviews_v1(self, replicas: int) -> None:
        path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/reviews-v1"
        await self._api.patch(f"{path}/scale", {"spec": {"replicas": replicas}})
        await self._available(NAMESPACE, "reviews-v1")

        async def others_have_gone() -> bool:
            return len(await self._pods(NAMESPACE, "app=reviews,version=v1")) == replicas

        await eventually(others_have_gone, f"{replicas} pods of reviews v1", deadline_s=DEADLINE_S)

    async def complaint(self, kind: str, name: str) -> str:
        """The message of its condition."""
        metadata = {"name": name, "namespace": NAMESPACE}
        wanted = {"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": metadata}
        resource = await self._api.get(await path_of(self._api, wanted))
        conditions = resource.get("status", {}).get("conditions", ())
        return next((each["message"] for each in conditions if is_complaint(each)), "")

    async def hops(self, service: str) -> Counter[Hop]:
        found: Counter[Hop] = Counter()
        for pod in await self._pods(NAMESPACE, f"app={service}"):
            url = f"http://{pod['status']['podIP']}:{METRICS_PORT}/stats/prometheus"
            found += read_hops((await self._client.get(url)).text, service)
        return found

    async def workload_names(self, service: str) -> set[str]:
        """All that the sidecars of a service name in their metrics, on either side."""
        found: set[str] = set()
        for pod in await self._pods(NAMESPACE, f"app={service}"):
            url = f"http://{pod['status']['podIP']}:{METRICS_PORT}/stats/prometheus"
            text = (await self._client.get(url)).text
            found |= set(re.findall(r'(?:source|destination)_workload="([^"]*)"', text))
        return found

    @asynccontextmanager
    async def source_away(self) -> AsyncIterator[None]:
        """The API server is killed."""
        await asyncio.to_thread(self._cluster.kill_api_server)
        try:
            yield
        finally:
            await asyncio.to_thread(self._cluster.start_api_server)

    async def crash_control_plane(self) -> None:
        """The node restarts it, as any container that ends."""
        before = set(processes_of(self._control_plane))
        signal_first_process(self._control_plane, signal.SIGKILL)

        async def is_back() -> bool:
            return bool(set(processes_of(self._control_plane)) - before)

        await eventually(is_back, "a new control plane")

    async def everyone_follows(self) -> None:
        pods = {pod["metadata"]["name"] for pod in await self._pods(NAMESPACE, "app")}
        url = f"http://{self._control_plane_address}:{DEBUG_PORT}/debug/syncz"
        token = await debug_reader(self._api, CONTROL_PLANE_NAMESPACE)

        async def they_do() -> bool:
            try:
                answer = await self._client.get(url, headers={"Authorization": f"Bearer {token}"})
                answer.raise_for_status()
            except httpx.HTTPError:
                return False
            return {proxy["workload"] for proxy in answer.json()} == pods

        await eventually(they_do, "every sidecar follows the control plane", deadline_s=DEADLINE_S)

    async def _available(self, namespace: str, name: str) -> None:
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"

        async def is_available() -> bool:
            deployment = await self._api.get(path)
            status, wanted = deployment["status"], deployment["spec"]["replicas"]
            seen = status.get("observedGeneration") == deployment["metadata"]["generation"]
            return seen and status.get("availableReplicas", 0) == status.get("replicas", 0) == wanted

        await eventually(is_available, f"{name} is available", deadline_s=DEADLINE_S)

    async def _pods(self, namespace: str, labels: str) -> list[Resource]:
        pods = await self._api.get(f"/api/v1/namespaces/{namespace}/pods?labelSelector={quote(labels)}")
        items: list[Resource] = pods["items"]
        return items


def control_plane_manifests() -> list[Resource]:
    """The chart with one replica, whose acknowledgements the tests count."""
    release = Release(name="outrigger", namespace=CONTROL_PLANE_NAMESPACE, service="tests")
    return Chart().render(release, given_values([], [VALUES]))


def is_complaint(condition: Resource) -> bool:
    return bool(condition["type"] == "Accepted" and condition["status"] == "False")


@asynccontextmanager
async def bookinfo_in_cluster(cluster: Cluster) -> AsyncIterator[BookinfoInCluster]:
    with running_node(cluster.kubeconfig, images(), back_off_s=1.0):
        async with (
            kubernetes_api(cluster.kubeconfig) as api,
            httpx.AsyncClient(trust_env=False, timeout=5) as client,
        ):
            mesh = BookinfoInCluster(cluster, api, client)
            await mesh.start()
            yield mesh
