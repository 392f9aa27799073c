"""Events about pods, in the kubelet's words, and `kubectl describe pod` with them."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.kubectl import kubectl
from tests.support.kubernetes_api import KubernetesApi, Resource, eventually
from tests.support.kubernetes_cluster import Cluster
from tests.support.pod_specs import UNTIL_TERM, Pods, container_status, pod, shell

pytestmark = pytest.mark.needs_node


async def told(api: KubernetesApi, namespace: str, *expected: tuple[str, str]) -> list[Resource]:
    """The namespace's Events from the node, once they have these reasons and beginnings of messages."""

    async def look() -> list[Resource]:
        found = (await api.get(f"/api/v1/namespaces/{namespace}/events"))["items"]
        ours = [each for each in found if each["source"].get("component") == "kubelet"]
        missing = [
            (reason, words)
            for reason, words in expected
            if not any(each["reason"] == reason and each["message"].startswith(words) for each in ours)
        ]
        return [] if missing else ours

    return await eventually(look, f"Events {expected}")


async def test_a_container_s_start_and_end_are_told(
    api: KubernetesApi, namespace: str, pods: Pods, cluster: Cluster
) -> None:
    await pods.create(pod("web", shell("main", UNTIL_TERM), initContainers=[shell("init", "true")]))
    await pods.with_condition("web", "Ready")
    beginning = [("Pulled", 'Container image "shell" already present'), ("Created", "Container created")]
    beginning.append(("Started", "Container started"))
    found = await told(api, namespace, *beginning)
    fields = [each["involvedObject"]["fieldPath"] for each in found if each["reason"] == "Started"]
    assert sorted(fields) == ["spec.containers{main}", "spec.initContainers{init}"]
    shown = await asyncio.to_thread(kubectl, cluster.kubeconfig, "-n", namespace, "describe", "pod", "web")
    (started,) = [line for line in shown.splitlines() if "Container started" in line and "{main}" in line]
    assert started.split()[:2] == ["Normal", "Started"]
    await pods.delete("web")
    await told(api, namespace, ("Killing", "Stopping container main"))


async def test_a_missing_image_is_told_as_after_a_failed_pull(
    api: KubernetesApi, namespace: str, pods: Pods
) -> None:
    await pods.create(pod("absent", {"name": "main", "image": "example.org/absent:1"}))

    async def backs_off() -> str:
        waiting = container_status(await pods.get("absent"), "main").get("state", {}).get("waiting", {})
        return str(waiting["message"]) if waiting.get("reason") == "ImagePullBackOff" else ""

    message = await eventually(backs_off, "the pull's back-off")
    assert message.startswith(
        'Back-off pulling image "example.org/absent:1": ErrImagePull: rpc error: code = '
    )
    await told(
        api,
        namespace,
        ("Pulling", 'Pulling image "example.org/absent:1"'),
        ("Failed", 'Failed to pull image "example.org/absent:1": rpc error: code = NotFound'),
        ("Failed", "Error: ErrImagePull"),
        ("BackOff", 'Back-off pulling image "example.org/absent:1"'),
        ("Failed", "Error: ImagePullBackOff"),
    )


async def test_failed_probes_and_restarts_are_told_and_counted(
    api: KubernetesApi, namespace: str, pods: Pods
) -> None:
    liveness = {"tcpSocket": {"port": 9}, "periodSeconds": 1, "failureThreshold": 2}
    readiness = {"exec": {"command": ["sh", "-c", "echo closed; false"]}, "periodSeconds": 1}
    sick = shell("sick", UNTIL_TERM, livenessProbe=liveness, readinessProbe=readiness)
    await pods.create(pod("ill", sick, shell("crashing", "exit 1")))
    found = await told(
        api,
        namespace,
        ("Unhealthy", "Liveness probe failed: dial tcp 10."),
        ("Unhealthy", "Readiness probe failed: closed"),
        ("Killing", "Container sick failed liveness probe, will be restarted"),
        ("BackOff", f"Back-off restarting failed container crashing in pod ill_{namespace}("),
    )
    assert {each["type"] for each in found if each["reason"] in {"Unhealthy", "BackOff"}} == {"Warning"}

    async def counted() -> bool:
        found = await told(api, namespace)
        return any(each["reason"] == "Unhealthy" and each["count"] > 1 for each in found)

    await eventually(counted, "an Event with a count")


async def test_a_container_that_cannot_be_made_is_told(
    api: KubernetesApi, namespace: str, pods: Pods
) -> None:
    volumes = [{"name": "absent", "configMap": {"name": "absent"}}]
    env_from = [{"secretRef": {"name": "absent"}}]
    await pods.create(pod("mounts", shell("main", UNTIL_TERM), volumes=volumes))
    await pods.create(pod("reads", shell("main", UNTIL_TERM, envFrom=env_from)))
    await told(api, namespace, ("FailedMount", ""), ("Failed", "Error: secret 'absent' not found"))
