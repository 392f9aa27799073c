"""Two nodes of one cluster: their pods reach each other, and one is drained by the real kubectl."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.support.kubectl import kubectl
from tests.support.kubernetes_api import KubernetesApi, Resource, eventually
from tests.support.kubernetes_cluster import Cluster
from tests.support.node import RunningNode, running_node
from tests.support.pod_specs import IMAGES, UNTIL_TERM, Pods, condition, deployment, pod, shell, web_server

pytestmark = pytest.mark.needs_node

REPLICAS = 2
MIN_AVAILABLE = 1


@pytest.fixture(scope="module")
def other(cluster: Cluster, node: RunningNode) -> Iterator[RunningNode]:
    with running_node(cluster.kubeconfig, IMAGES, name="other-node", kubelet_version="v1.32.4") as other:
        yield other


def on(node: RunningNode) -> Resource:
    return {"nodeSelector": {"kubernetes.io/hostname": node.name}}


async def test_a_node_has_the_api_server_s_version_or_the_one_that_is_asked_for(
    api: KubernetesApi, node: RunningNode, other: RunningNode
) -> None:
    versions = [
        (await api.get(f"/api/v1/nodes/{each.name}"))["status"]["nodeInfo"]["kubeletVersion"]
        for each in (node, other)
    ]
    assert versions == [(await api.get("/version"))["gitVersion"], "v1.32.4"]


async def test_pods_of_two_nodes_reach_each_other(
    api: KubernetesApi, namespace: str, pods: Pods, node: RunningNode, other: RunningNode
) -> None:
    """By their addresses, in both directions, and through a Service."""
    spec = {"selector": {"app": "there"}, "ports": [{"port": 80, "targetPort": "http"}]}
    body = {"metadata": {"name": "web"}, "spec": spec}
    await api.create(f"/api/v1/namespaces/{namespace}/services", body)
    await pods.create(pod("here", web_server(), **on(node)))
    await pods.create(pod("there", web_server(), **on(other)))
    here, there = [(await pods.with_condition(each, "Ready"))["status"] for each in ("here", "there")]
    assert here["hostIP"] != there["hostIP"]
    for source, url in [
        (node, f"http://{there['podIP']}:8080/etc/hostname"),
        (other, f"http://{here['podIP']}:8080/etc/hostname"),
        (node, "http://web/etc/hostname"),
    ]:
        caller = shell("main", f"curl -sf --retry 9 --retry-all-errors --retry-delay 1 {url}")
        await pods.create(pod("caller", caller, restartPolicy="Never", **on(source)))
        await pods.in_phase("caller", "Succeeded")
        await pods.delete("caller")
        await pods.gone("caller")


async def test_a_drain_moves_the_pods_and_honours_their_disruption_budget(
    cluster: Cluster, api: KubernetesApi, namespace: str, pods: Pods, node: RunningNode, other: RunningNode
) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    probe = {"exec": {"command": ["true"]}, "periodSeconds": 1, "initialDelaySeconds": 1}
    selector = {"matchLabels": {"app": "web"}}
    budget = {"metadata": {"name": "web"}, "spec": {"minAvailable": MIN_AVAILABLE, "selector": selector}}
    await api.create(f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets", budget)
    await asyncio.to_thread(kubectl, cluster.kubeconfig, "cordon", other.name)
    await api.create(path, deployment("web", REPLICAS, shell("main", UNTIL_TERM, readinessProbe=probe)))

    async def ready_on(name: str) -> bool:
        found = [each for each in await pods.all() if condition(each, "Ready").get("status") == "True"]
        return len(found) == REPLICAS and {each["spec"]["nodeName"] for each in found} == {name}

    await eventually(lambda: ready_on(node.name), "the pods run on the first node")
    await asyncio.to_thread(kubectl, cluster.kubeconfig, "uncordon", other.name)
    try:
        least = await available_during_drain(cluster, api, f"{path}/web", node.name)
        await eventually(lambda: ready_on(other.name), "the pods run on the other node")
        assert least >= MIN_AVAILABLE
    finally:
        await asyncio.to_thread(kubectl, cluster.kubeconfig, "uncordon", node.name)


async def available_during_drain(cluster: Cluster, api: KubernetesApi, path: str, node: str) -> int:
    """The fewest replicas that were available."""
    drain = asyncio.create_task(
        asyncio.to_thread(kubectl, cluster.kubeconfig, "drain", node, "--timeout=60s")
    )
    least = REPLICAS
    while not drain.done():
        least = min(least, (await api.get(path))["status"].get("availableReplicas", 0))
        await asyncio.wait([drain], timeout=0.05)
    await drain
    return least
