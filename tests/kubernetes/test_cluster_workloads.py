"""The test cluster's controllers and scheduler at work, on nodes and pods that exist in the API only."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.kubernetes_api import KubernetesApi, Resource, eventually

REPLICAS = 3


@pytest.fixture
async def deployment(api: KubernetesApi, namespace: str) -> Resource:
    """Pods that only ever run on the node of these tests."""
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {
            "containers": [{"name": "main", "image": "none", "ports": [{"containerPort": 9080}]}],
            "nodeSelector": {"test": namespace},
        },
    }
    spec = {"replicas": REPLICAS, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    body = {"metadata": {"name": "web"}, "spec": spec}
    return await api.create(f"/apis/apps/v1/namespaces/{namespace}/deployments", body)


@pytest.fixture
async def register_node(api: KubernetesApi, namespace: str) -> AsyncIterator[str]:
    """The name of a node that says it is ready."""
    node: Resource = {"metadata": {"name": namespace, "labels": {"test": namespace}}}
    await api.create("/api/v1/nodes", node)
    status = {
        "capacity": {"cpu": "4", "memory": "8Gi", "pods": "110"},
        "conditions": [{"type": "Ready", "status": "True", "reason": "Test", "message": "says the test"}],
    }
    await api.patch(f"/api/v1/nodes/{namespace}/status", {"status": status})
    yield namespace
    await api.delete(f"/api/v1/nodes/{namespace}")


@pytest.mark.usefixtures("deployment")
async def test_pods_of_a_deployment_are_pending_without_a_node(api: KubernetesApi, namespace: str) -> None:
    async def unschedulable() -> list[Resource]:
        pods = await pods_of(api, namespace)
        return pods if len(pods) == REPLICAS and all(map(scheduling_failure, pods)) else []

    pods = await eventually(unschedulable, "the scheduler's word on each pod")
    assert {pod["status"]["phase"] for pod in pods} == {"Pending"}
    assert {pod["metadata"]["ownerReferences"][0]["kind"] for pod in pods} == {"ReplicaSet"}


@pytest.mark.usefixtures("deployment")
async def test_the_scheduler_binds_pods_to_a_node(
    api: KubernetesApi, namespace: str, register_node: str
) -> None:
    pods = await bound_pods(api, namespace)
    assert {pod["spec"]["nodeName"] for pod in pods} == {register_node}


@pytest.mark.usefixtures("deployment", "register_node")
async def test_ready_pods_fill_the_endpoint_slice_of_their_service(
    api: KubernetesApi, namespace: str
) -> None:
    ports = [{"name": "http", "port": 80, "targetPort": 9080}]
    service = {"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": ports}}
    await api.create(f"/api/v1/namespaces/{namespace}/services", service)
    pods = await bound_pods(api, namespace)
    addresses = {pod["metadata"]["name"]: f"10.1.0.{number}" for number, pod in enumerate(pods, start=1)}
    for name, address in addresses.items():
        await say_that_it_runs(api, namespace, name, address)

    slices = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"

    async def filled() -> Resource | None:
        for found in (await api.get(f"{slices}?labelSelector=kubernetes.io/service-name=web"))["items"]:
            if len(ready_addresses(found)) == REPLICAS:
                return dict(found)
        return None

    endpoint_slice = await eventually(filled, "a full EndpointSlice")
    assert ready_addresses(endpoint_slice) == set(addresses.values())
    assert [(port["name"], port["port"]) for port in endpoint_slice["ports"]] == [("http", 9080)]
    await eventually(lambda: is_available(api, namespace), "the Deployment is available")


async def pods_of(api: KubernetesApi, namespace: str) -> list[Resource]:
    pods: list[Resource] = (await api.get(f"/api/v1/namespaces/{namespace}/pods"))["items"]
    return pods


async def bound_pods(api: KubernetesApi, namespace: str) -> list[Resource]:
    """The Deployment's pods, once each has a node."""

    async def bound() -> list[Resource]:
        pods = [pod for pod in await pods_of(api, namespace) if pod["spec"].get("nodeName")]
        return pods if len(pods) == REPLICAS else []

    return await eventually(bound, "every pod has a node")


def scheduling_failure(pod: Resource) -> str | None:
    """Why the scheduler has found no node for it, once it has looked."""
    for condition in pod["status"].get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return str(condition["message"])
    return None


async def say_that_it_runs(api: KubernetesApi, namespace: str, name: str, address: str) -> None:
    """What a kubelet writes of a pod that is ready."""
    status = {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"}],
    }
    await api.patch(f"/api/v1/namespaces/{namespace}/pods/{name}/status", {"status": status})


def ready_addresses(endpoint_slice: Resource) -> set[str]:
    endpoints = endpoint_slice["endpoints"] or ()
    return {address for each in endpoints if each["conditions"]["ready"] for address in each["addresses"]}


async def is_available(api: KubernetesApi, namespace: str) -> bool:
    found = await api.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/web")
    return bool(found["status"].get("availableReplicas") == REPLICAS)
