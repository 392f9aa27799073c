"""Real controllers take the node for a kubelet: Deployments, Jobs, Services."""

from __future__ import annotations

import signal

import pytest

from tests.support.kubernetes_api import KubernetesApi, Resource, eventually
from tests.support.kubernetes_cluster import Cluster
from tests.support.node import RunningNode
from tests.support.pod_specs import (
    UNTIL_TERM,
    Pods,
    condition,
    container_status,
    deployment,
    pod,
    printed,
    shell,
    signal_first_process,
    web_server,
)

pytestmark = pytest.mark.needs_node

REPLICAS = 3


async def test_the_node_is_ready_and_says_where_it_is(api: KubernetesApi, node: RunningNode) -> None:
    found = await api.get(f"/api/v1/nodes/{node.name}")
    assert condition(found, "Ready")["status"] == "True"
    labels = found["metadata"]["labels"]
    assert labels["kubernetes.io/hostname"] == node.name
    assert {"topology.kubernetes.io/region", "topology.kubernetes.io/zone"} <= labels.keys()
    lease = await api.get(f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{node.name}")
    assert lease["spec"]["holderIdentity"] == node.name


async def test_a_deployment_becomes_available_and_fills_its_services_endpoint_slice(
    api: KubernetesApi, namespace: str, pods: Pods
) -> None:
    await serve(api, namespace, "web")
    await deploy(api, namespace, web_server())
    addresses = {each["status"]["podIP"] for each in await pods.all()}
    assert len(addresses) == REPLICAS
    slices = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"

    async def filled() -> bool:
        endpoints = [each for found in (await api.get(slices))["items"] for each in found["endpoints"] or ()]
        return {each["addresses"][0] for each in endpoints if each["conditions"]["ready"]} == addresses

    await eventually(filled, "the EndpointSlice has the pods' addresses")


async def test_a_rollout_replaces_the_pods(api: KubernetesApi, namespace: str, pods: Pods) -> None:
    await deploy(api, namespace, shell("main", UNTIL_TERM))
    before = {each["metadata"]["uid"] for each in await pods.all()}
    containers = [shell("main", UNTIL_TERM, env=[{"name": "VERSION", "value": "2"}])]
    change = {"spec": {"template": {"spec": {"containers": containers}}}}
    await api.patch(f"/apis/apps/v1/namespaces/{namespace}/deployments/web", change)
    await available(api, namespace, "web")

    async def replaced() -> bool:
        found = await pods.all()
        return len(found) == REPLICAS and not before & {each["metadata"]["uid"] for each in found}

    await eventually(replaced, "the former pods are gone")


async def test_a_job_completes(api: KubernetesApi, namespace: str, pods: Pods) -> None:
    template = {"spec": {"restartPolicy": "Never", "containers": [shell("main", "true")]}}
    jobs = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    await api.create(jobs, {"metadata": {"name": "job"}, "spec": {"template": template}})

    async def complete() -> bool:
        return bool(condition(await api.get(f"{jobs}/job"), "Complete").get("status") == "True")

    await eventually(complete, "the Job is complete")
    (worker,) = await pods.all()
    assert worker["status"]["phase"] == "Succeeded"
    assert condition(worker, "Ready")["reason"] == "PodCompleted"


async def test_a_pod_reaches_another_by_the_name_of_its_service(
    api: KubernetesApi, namespace: str, pods: Pods
) -> None:
    await serve(api, namespace, "web")
    await deploy(api, namespace, web_server())
    fetch = "import urllib.request; print(urllib.request.urlopen('http://web/etc/hostname').read())"
    main = {"name": "main", "image": "python", "args": ["-c", fetch]}
    await pods.create(pod("caller", main, restartPolicy="OnFailure"))
    await pods.in_phase("caller", "Succeeded")


async def test_pods_run_on_while_the_api_server_is_away(
    cluster: Cluster, node: RunningNode, pods: Pods
) -> None:
    cluster.started_here()
    await pods.create(pod("steady", shell("main", f"echo begins; {UNTIL_TERM}")))
    await pods.with_condition("steady", "Ready")
    cluster.kill_api_server()
    try:
        signal_first_process("steady", signal.SIGKILL)
        await printed(node, pods, "steady", "main", "begins\nbegins")
    finally:
        cluster.start_api_server()

    async def told() -> bool:
        status = container_status(await pods.get("steady"), "main")
        return bool(status["restartCount"] == 1 and status["ready"])

    await eventually(told, "the status says so")


async def available(api: KubernetesApi, namespace: str, name: str) -> Resource:
    async def look() -> Resource | None:
        found = await api.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}")
        status = found["status"]
        complete = status.get("observedGeneration") == found["metadata"]["generation"]
        counts = [status.get(count, 0) for count in ("replicas", "updatedReplicas", "availableReplicas")]
        return found if complete and counts == [REPLICAS] * 3 else None

    return await eventually(look, f"Deployment {name} is available")


async def deploy(api: KubernetesApi, namespace: str, *containers: Resource) -> None:
    body = deployment("web", REPLICAS, *containers)
    await api.create(f"/apis/apps/v1/namespaces/{namespace}/deployments", body)
    await available(api, namespace, "web")


async def serve(api: KubernetesApi, namespace: str, name: str) -> None:
    spec = {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": "http"}]}
    await api.create(f"/api/v1/namespaces/{namespace}/services", {"metadata": {"name": name}, "spec": spec})
