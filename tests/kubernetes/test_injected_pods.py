"""The real API server accepts what the injector makes of each fixture, without unknown fields."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from controlplane.injection.injector import inject
from controlplane.yaml_documents import read_documents
from tests.support.injection import pod, request
from tests.support.injection_fixtures import FIXTURES
from tests.support.kubernetes_api import KubernetesApi, KubernetesError

_STRICT = "?dryRun=All&fieldValidation=Strict"
_PATHS = {
    "CronJob": "/apis/batch/v1/namespaces/{}/cronjobs",
    "DaemonSet": "/apis/apps/v1/namespaces/{}/daemonsets",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "Job": "/apis/batch/v1/namespaces/{}/jobs",
    "Pod": "/api/v1/namespaces/{}/pods",
    "ReplicaSet": "/apis/apps/v1/namespaces/{}/replicasets",
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "StatefulSet": "/apis/apps/v1/namespaces/{}/statefulsets",
}
_NETWORK_PLUGIN = "values: {init: {cni: true}}"
_RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
}


async def refusal(api: KubernetesApi, namespace: str, value: Any) -> str:
    """Creates an object without storing it. Returns why it is refused, or an empty string."""
    value["metadata"]["namespace"] = namespace
    try:
        await api.create(_PATHS[value["kind"]].format(namespace) + _STRICT, value)
    except KubernetesError as error:
        return str(error)
    return ""


async def test_the_api_server_accepts_every_injected_fixture(api: KubernetesApi, namespace: str) -> None:
    async def refusals(text: str) -> list[str]:
        [document] = read_documents(text)
        values = document.value["items"] if document.value["kind"] == "List" else [document.value]
        return [reason for value in values if (reason := await refusal(api, namespace, value))]

    reasons = await asyncio.gather(*(refusals(fixture.result.read_text()) for fixture in FIXTURES))
    assert {fixture.name: found for fixture, found in zip(FIXTURES, reasons, strict=True) if found} == {}


async def test_a_stored_pod_can_be_injected_again(api: KubernetesApi, namespace: str) -> None:
    """The API server adds defaults and the token of the service account to our containers, too."""
    given = pod(
        container={"readinessProbe": {"httpGet": {"port": 80}}}, annotations={"prometheus.io/port": "1"}
    )
    asked = request()
    path = _PATHS["Pod"].format(namespace)
    stored = await api.create(path, inject(given, asked).pod)
    again = inject(stored, asked).pod
    assert inject(again, asked).pod == again
    for field in ("uid", "resourceVersion", "creationTimestamp", "managedFields"):
        again["metadata"].pop(field, None)
    again["metadata"]["name"] = "again"
    await api.create(path + _STRICT, {"apiVersion": "v1", "kind": "Pod", **again})


@asynccontextmanager
async def restricted(api: KubernetesApi, namespace: str) -> AsyncIterator[None]:
    label = "pod-security.kubernetes.io/enforce"
    await api.patch(f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": {label: "restricted"}}})
    yield
    await api.patch(f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": {label: None}}})


@pytest.mark.parametrize("annotation", ["outrigger.dev/proxy", "example.com/none"], ids=["envoy", "sidecar"])
@pytest.mark.parametrize("config", [_NETWORK_PLUGIN, ""], ids=["network plug-in", "init container"])
async def test_only_the_init_container_is_not_restricted(
    api: KubernetesApi, namespace: str, annotation: str, config: str
) -> None:
    given = pod(container={"securityContext": _RESTRICTED}, annotations={annotation: "envoy"})
    async with restricted(api, namespace):
        injected = inject(given, request(config=config)).pod
        reason = await refusal(api, namespace, {"apiVersion": "v1", "kind": "Pod", **injected})
    assert bool(reason) == (config == "")
    if reason:
        assert "outrigger-init" in reason
        assert "outrigger-sidecar" not in reason
        assert "outrigger-agent" not in reason
