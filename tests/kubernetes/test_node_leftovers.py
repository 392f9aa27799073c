"""A node leaves nothing behind on the machine, whether it stops or is killed."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support.kubernetes_api import KubernetesApi, KubernetesError, Resource, eventually
from tests.support.kubernetes_cluster import Cluster
from tests.support.node import RunningNode, running_node
from tests.support.node_agent.claims import try_to_claim
from tests.support.node_agent.commands import run
from tests.support.pod_specs import (
    IMAGES,
    UNTIL_TERM,
    Pods,
    condition,
    container_status,
    pod,
    processes_of,
    shell,
)

pytestmark = pytest.mark.needs_node

NODE = "short-lived-node"


async def run_a_pod(pods: Pods, name: str) -> Resource:
    """On this file's own node."""
    volumes = [{"name": "shared", "emptyDir": {}}]
    main = shell("main", UNTIL_TERM, volumeMounts=[{"name": "shared", "mountPath": "/shared"}])
    selector = {"kubernetes.io/hostname": NODE}
    await pods.create(pod(name, main, volumes=volumes, nodeSelector=selector))
    found = await pods.with_condition(name, "Ready")

    async def has_begun() -> bool:
        return bool(processes_of(name))

    await eventually(has_begun, "its process has become its own program")
    return found


async def traces(pod: Resource, node: RunningNode) -> list[str]:
    """Traces of the pod and its node on the machine: processes, network namespaces, links, mounts, files."""
    name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
    found = [f"process {pid}" for pid in processes_of(name)]
    namespaces = [line.split()[0] for line in (await run("ip", "netns", "list")).splitlines()]
    found += [f"namespace {each}" for each in namespaces if each.endswith(uid)]
    links = [each for each in (await run("ip", "-brief", "address", "show")).splitlines() if "@" in each]
    own = [each for each in links if pod["status"]["hostIP"] in each and not has_another(node, each)]
    found += [f"link {each}" for each in own]
    found += [each for each in Path("/proc/mounts").read_text().splitlines() if str(node.logs.parent) in each]
    return found + [str(each) for each in [node.logs.parent] if each.exists()]


def has_another(ended: RunningNode, link: str) -> bool:
    """Whether another node has the number by now, and so a link of that name and address."""
    if ended.process.poll() is None:
        return False
    claim = try_to_claim(link.partition("@")[0])
    if claim is not None:
        claim.release()
    return claim is None


async def rules() -> list[str]:
    """Those of the machine's packet filter, in all tables."""
    return [line for line in (await run("iptables-save")).splitlines() if line.startswith("-A")]


async def test_nothing_is_left_when_a_node_has_stopped(
    cluster: Cluster, api: KubernetesApi, namespace: str
) -> None:
    rules_before = await rules()
    with running_node(cluster.kubeconfig, IMAGES, name=NODE) as node:
        found = await run_a_pod(Pods(api, namespace), "left")
        assert {each.split()[0] for each in await traces(found, node)} >= {"process", "namespace", "link"}
    assert await traces(found, node) == []
    assert await rules() == rules_before
    with pytest.raises(KubernetesError, match="not found"):
        await api.get(f"/api/v1/nodes/{NODE}")


async def test_a_node_stops_at_the_end_of_its_input(
    cluster: Cluster, api: KubernetesApi, namespace: str
) -> None:
    with running_node(cluster.kubeconfig, IMAGES, name=NODE) as node:
        found = await run_a_pod(Pods(api, namespace), "left")
        assert node.process.stdin is not None
        node.process.stdin.close()
        assert node.process.wait(10) == 0
    assert await traces(found, node) == []


async def test_the_next_node_removes_the_leftovers_of_a_killed_one(
    cluster: Cluster, api: KubernetesApi, namespace: str
) -> None:
    pods = Pods(api, namespace)
    with running_node(cluster.kubeconfig, IMAGES, name=NODE) as node:
        found = await run_a_pod(pods, "left")
        node.process.send_signal(signal.SIGKILL)
        node.process.wait(10)

    async def processes_gone() -> bool:
        return processes_of("left") == []

    await eventually(processes_gone, "its containers ended with it")
    assert await traces(found, node)
    with running_node(cluster.kubeconfig, IMAGES, name=NODE) as following:
        assert not node.logs.exists()
        await run_a_pod(pods, "next")

        async def runs_again() -> bool:
            now = await pods.get("left")
            return identity(now) != identity(found) and condition(now, "Ready")["status"] == "True"

        await eventually(runs_again, "the pod that was left runs again")

        async def runs_once() -> bool:
            return len(processes_of("left")) == len(processes_of("next"))

        await eventually(runs_once, "none of its former processes is left")
    assert await traces(found, following) == []


def identity(pod: Resource) -> str:
    """Of its container's present run."""
    return str(container_status(pod, "main").get("containerID"))
