"""The files and variables of containers: volumes, tokens, configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.kubernetes_api import KubernetesApi, Resource, eventually
from tests.support.node import RunningNode
from tests.support.pod_specs import (
    UNTIL_TERM,
    Pods,
    container_status,
    pod,
    printed,
    shell,
)

pytestmark = pytest.mark.needs_node


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            {"volumes": [{"name": "machine", "hostPath": {"path": "/"}}]},
            "volume 'machine': hostPath is not supported by this node",
        ),
        ({"shareProcessNamespace": True}, "shareProcessNamespace is not supported by this node"),
    ],
)
async def test_unsupported_features_of_the_node_are_reported(pods: Pods, spec: Resource, words: str) -> None:
    await pods.create(pod("asks", shell("main", UNTIL_TERM), **spec))

    async def told() -> str:
        status = container_status(await pods.get("asks"), "main")
        return str(status.get("state", {}).get("waiting", {}).get("message", ""))

    assert await eventually(told, "why it waits") == words


async def test_a_projected_token_is_valid_for_its_audience(
    api: KubernetesApi, namespace: str, node: RunningNode, pods: Pods
) -> None:
    token = {"audience": "outrigger-ca", "expirationSeconds": 600, "path": "token"}
    volumes = [{"name": "tokens", "projected": {"sources": [{"serviceAccountToken": token}]}}]
    mounts = [{"name": "tokens", "mountPath": "/var/run/secrets/tokens"}]
    main = shell("main", f"cat /var/run/secrets/tokens/token; echo; {UNTIL_TERM}", volumeMounts=mounts)
    await pods.create(pod("bearer", main, volumes=volumes))
    (value, *_) = await printed(node, pods, "bearer", "main", "\n")
    reviews = "/apis/authentication.k8s.io/v1/tokenreviews"
    review = {"spec": {"token": value, "audiences": ["outrigger-ca"]}}
    status = (await api.create(reviews, review))["status"]
    assert status["authenticated"] is True
    assert status["user"]["username"] == f"system:serviceaccount:{namespace}:default"
    assert status["user"]["extra"]["authentication.kubernetes.io/pod-name"] == ["bearer"]


async def test_a_pod_talks_to_the_api_server_with_the_in_cluster_configuration(
    namespace: str, node: RunningNode, pods: Pods
) -> None:
    script = """
from kubernetes import client, config
config.load_incluster_config()
print(client.AuthenticationV1Api().create_self_subject_review({}).status.user_info.username)
"""
    main = {"name": "main", "image": "python", "args": ["-c", script]}
    await pods.create(pod("inside", main, restartPolicy="Never"))
    await pods.in_phase("inside", "Succeeded")
    await printed(node, pods, "inside", "main", f"system:serviceaccount:{namespace}:default")


async def test_config_maps_secrets_and_the_downward_api_are_files_and_variables(
    api: KubernetesApi, namespace: str, node: RunningNode, pods: Pods
) -> None:
    path = f"/api/v1/namespaces/{namespace}"
    await api.create(f"{path}/configmaps", {"metadata": {"name": "settings"}, "data": {"colour": "red"}})
    await api.create(f"{path}/secrets", {"metadata": {"name": "keys"}, "stringData": {"door": "1234"}})
    volumes = [
        {"name": "settings", "configMap": {"name": "settings"}},
        {"name": "keys", "secret": {"secretName": "keys", "items": [{"key": "door", "path": "a/b"}]}},
        {
            "name": "me",
            "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]},
        },
    ]
    mounts = [{"name": each["name"], "mountPath": f"/data/{each['name']}"} for each in volumes]
    mounts.append({"name": "settings", "mountPath": "/etc/colour", "subPath": "colour"})
    env = [
        {"name": "DOOR", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "door"}}},
        {"name": "ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "GREETING", "value": "$(DOOR) at $(ADDRESS)"},
    ]
    script = """
echo $(cat /data/settings/colour /etc/colour /data/keys/a/b /data/me/labels)
echo $GREETING $SET_colour
until grep blue /data/settings/colour; do sleep 0.1; done
"""
    env_from = [{"prefix": "SET_", "configMapRef": {"name": "settings"}}]
    main = shell("main", script, env=env, envFrom=env_from, volumeMounts=mounts)
    await pods.create(pod("reader", main, volumes=volumes, restartPolicy="Never"))
    files, variables = await printed(node, pods, "reader", "main", "at 10.")
    assert files.startswith('redred1234app="reader"')
    address = (await pods.get("reader"))["status"]["podIP"]
    assert variables == f"1234 at {address} red"
    await api.patch(f"{path}/configmaps/settings", {"data": {"colour": "blue"}})
    await printed(node, pods, "reader", "main", "blue")


async def test_a_container_waits_for_its_config(api: KubernetesApi, namespace: str, pods: Pods) -> None:
    env_from = [{"configMapRef": {"name": "late"}}]
    await pods.create(pod("waits", shell("main", UNTIL_TERM, envFrom=env_from)))

    async def reason() -> str:
        waiting = container_status(await pods.get("waits"), "main").get("state", {}).get("waiting", {})
        return str(waiting["reason"]) if "message" in waiting else ""

    assert await eventually(reason, "a reason") == "CreateContainerConfigError"
    await api.create(f"/api/v1/namespaces/{namespace}/configmaps", {"metadata": {"name": "late"}})

    async def runs() -> bool:
        return "running" in container_status(await pods.get("waits"), "main")["state"]

    await eventually(runs, "it runs once the ConfigMap is there")


async def test_a_container_writes_nothing_to_the_machine(
    node: RunningNode, pods: Pods, namespace: str
) -> None:
    name = f"outrigger-{namespace}"
    script = f"touch /etc/{name} /tmp/{name} && ls /etc/{name} /tmp/{name} && id -u && hostname"
    user = {"runAsUser": 65534}
    main = shell("main", script)
    other = shell("other", "id -u", securityContext=user)
    await pods.create(pod("writer", main, other, restartPolicy="Never"))
    await pods.in_phase("writer", "Succeeded")
    assert await printed(node, pods, "writer", "main", "writer") == [
        f"/etc/{name}",
        f"/tmp/{name}",
        "0",
        "writer",
    ]
    assert await printed(node, pods, "writer", "other", "65534") == ["65534"]
    assert not any(Path(folder, name).exists() for folder in ("/etc", "/tmp"))
