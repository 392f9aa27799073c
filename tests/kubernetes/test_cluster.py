"""The test cluster is Kubernetes: its API server, its admission, its history and its controllers."""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import aclosing
from typing import Any

import pytest

from tests.support.admission_webhook import Review, admission_webhook
from tests.support.kubectl import kubectl
from tests.support.kubernetes_api import KubernetesApi, KubernetesError, Resource, eventually
from tests.support.kubernetes_binaries import kubernetes_version
from tests.support.kubernetes_cluster import Cluster


async def test_the_api_server_is_healthy(api: KubernetesApi) -> None:
    assert await api.ask("/readyz") == "ok"


async def test_the_api_server_is_of_the_release_that_was_asked_for(
    cluster: Cluster, api: KubernetesApi
) -> None:
    cluster.started_here()
    version = await api.get("/version")
    assert version["gitVersion"] == f"v{kubernetes_version()}"
    assert f"{version['major']}.{version['minor']}" in version["gitVersion"]


def test_kubectl_reads_the_kubeconfig(cluster: Cluster) -> None:
    printed = kubectl(cluster.kubeconfig, "get", "namespaces", "--output", "name")
    assert "namespace/kube-system" in printed.split()


async def test_the_controllers_fill_a_new_namespace(api: KubernetesApi, namespace: str) -> None:
    """`kube-root-ca.crt` is how pods know the API server's certificate."""
    path = f"/api/v1/namespaces/{namespace}"
    account = await api.get(f"{path}/serviceaccounts/default")
    assert account["metadata"]["namespace"] == namespace
    root = await eventually(lambda: api.get(f"{path}/configmaps/kube-root-ca.crt"), "the root's ConfigMap")
    assert "BEGIN CERTIFICATE" in root["data"]["ca.crt"]


async def test_a_deleted_namespace_goes_with_all_that_is_in_it(api: KubernetesApi) -> None:
    await api.create("/api/v1/namespaces", {"metadata": {"name": "short-lived"}})
    await create_config_map(api, "short-lived", "inside")
    await api.delete("/api/v1/namespaces/short-lived")

    async def is_gone() -> bool:
        try:
            await api.get("/api/v1/namespaces/short-lived")
        except KubernetesError as error:
            return error.status == 404
        return False

    await eventually(is_gone, "the namespace is gone")


async def test_a_mutating_webhook_changes_created_objects(api: KubernetesApi, namespace: str) -> None:
    def add_a_label(_: Review) -> Review:
        patch = json.dumps([{"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}])
        return {
            "allowed": True,
            "patchType": "JSONPatch",
            "patch": base64.b64encode(patch.encode()).decode(),
        }

    with admission_webhook(add_a_label) as webhook:
        registrations = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
        await api.create(registrations, registration(webhook.client_config, namespace))
        try:

            async def is_mutated() -> bool:  # a registration takes effect a little later
                created = await create_config_map(api, namespace, None)
                return bool(created["metadata"].get("labels") == {"a": "b"})

            await eventually(is_mutated, "the webhook's label")
        finally:
            await api.delete(f"{registrations}/{namespace}")
        request = webhook.requests[0]
    assert request["operation"] == "CREATE"
    assert request["namespace"] == namespace
    assert request["object"]["kind"] == "ConfigMap"


async def test_a_validating_webhook_refuses_with_its_message(api: KubernetesApi, namespace: str) -> None:
    def refuse(_: Review) -> Review:
        return {"allowed": False, "status": {"message": "not on a Monday"}}

    with admission_webhook(refuse) as webhook:
        registrations = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
        await api.create(registrations, registration(webhook.client_config, namespace))
        try:

            async def refusal() -> str | None:
                try:
                    await create_config_map(api, namespace, None)
                except KubernetesError as error:
                    return str(error)
                return None

            assert "not on a Monday" in await eventually(refusal, "a refusal")
        finally:
            await api.delete(f"{registrations}/{namespace}")


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_what_was_written_is_there_when_the_api_server_is_back(
    cluster: Cluster, api: KubernetesApi, namespace: str, how: str
) -> None:
    before = await create_config_map(api, namespace, "kept")
    await asyncio.to_thread(cluster.stop_api_server if how == "stop" else cluster.kill_api_server)
    with pytest.raises(OSError, match="Cannot connect"):
        await api.ask("/readyz")
    await asyncio.to_thread(cluster.start_api_server)
    after = await api.get(f"/api/v1/namespaces/{namespace}/configmaps/kept")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    await the_controllers_work(api, f"{namespace}-{how}")


async def test_a_watch_ends_when_the_api_server_stops(
    cluster: Cluster, api: KubernetesApi, namespace: str
) -> None:
    created = await create_config_map(api, namespace, "first")
    version = created["metadata"]["resourceVersion"]
    watch = api.watch(f"/api/v1/namespaces/{namespace}/configmaps", version)
    await create_config_map(api, namespace, "second")
    async with aclosing(watch):
        events = [await anext(watch)]
        await asyncio.to_thread(cluster.stop_api_server)
        try:
            events += [event async for event in watch]
        finally:
            await asyncio.to_thread(cluster.start_api_server)
    assert [event["type"] for event in events if name_of(event) == "second"] == ["ADDED"]


async def test_a_watch_from_a_compacted_revision_gets_410(
    cluster: Cluster, api: KubernetesApi, namespace: str
) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    first = await create_config_map(api, namespace, "first")
    version = first["metadata"]["resourceVersion"]
    await create_config_map(api, namespace, "second")
    remembered = await first_event(api, path, version)
    assert remembered["type"] == "ADDED"

    # The API server remembers what it has seen itself, so it must forget as well.
    await asyncio.to_thread(cluster.kill_api_server)
    revision = await asyncio.to_thread(cluster.compact)
    await asyncio.to_thread(cluster.start_api_server)
    assert revision > int(version)
    forgotten = await first_event(api, path, version)
    assert forgotten["type"] == "ERROR"
    assert forgotten["object"]["code"] == 410
    assert forgotten["object"]["reason"] == "Expired"


def test_a_word_that_the_cluster_does_not_know_is_refused(cluster: Cluster) -> None:
    process = cluster.started_here()
    with pytest.raises(AssertionError, match='"reboot" is none of stop-api-server'):
        process.ask("reboot")
    with pytest.raises(AssertionError, match="kube-apiserver runs already"):
        process.ask("start-api-server")


async def create_config_map(api: KubernetesApi, namespace: str, name: str | None) -> Resource:
    """Without a name, it gets a generated one."""
    metadata = {"generateName": "any-"} if name is None else {"name": name}
    return await api.create(f"/api/v1/namespaces/{namespace}/configmaps", {"metadata": metadata})


async def first_event(api: KubernetesApi, path: str, version: str) -> Resource:
    async with aclosing(api.watch(path, version)) as watch:
        return await anext(watch)


def registration(client_config: dict[str, str], namespace: str) -> dict[str, Any]:
    """A webhook for the ConfigMaps of one namespace, whose name it bears."""
    webhook = {
        "name": "test.outrigger.example",
        "clientConfig": client_config,
        "rules": [
            {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
        ],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    return {"metadata": {"name": namespace}, "webhooks": [webhook]}


def name_of(event: Resource) -> str | None:
    name: str | None = event["object"].get("metadata", {}).get("name")
    return name


async def the_controllers_work(api: KubernetesApi, namespace: str) -> None:
    """They followed the API server through its absence."""
    await api.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
    account = f"/api/v1/namespaces/{namespace}/serviceaccounts/default"
    await eventually(lambda: api.get(account), "a service account from the controllers")
    await api.delete(f"/api/v1/namespaces/{namespace}")
