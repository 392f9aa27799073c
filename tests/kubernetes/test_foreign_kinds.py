"""Reports about unsupported Istio kinds in a real cluster."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.crds import foreign_crds, install_crds
from tests.support.kubernetes_api import KubernetesApi, Resource, eventually
from tests.support.kubernetes_cluster import Cluster
from tests.support.status_replica import Replica, replica

SECURITY = "/apis/security.istio.io/v1"
RECONCILED = {"type": "Reconciled", "status": "True", "reason": "Another", "message": "another's"}


@pytest.fixture(autouse=True)
async def mesh_kinds(cluster: Cluster, api: KubernetesApi) -> None:
    cluster.started_here()  # Istio's own CRDs are installed, and removed
    await install_crds(api)


def policy(name: str) -> Resource:
    """An empty spec denies all requests."""
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": name},
        "spec": {},
    }


async def unsupported(running: Replica, kind: str) -> dict[str, Any]:
    """Returns the entry of a kind in `/debug/statusz`, if there is one."""
    async with httpx.AsyncClient(trust_env=False) as client:
        listed = (await client.get(f"http://{running.debug}/debug/statusz")).json().get("unsupported", [])
    return next((each for each in listed if each["kind"] == kind), {})


async def accepted(api: KubernetesApi, path: str) -> dict[str, Any]:
    conditions = (await api.get(path)).get("status", {}).get("conditions", ())
    return next((each for each in conditions if each["type"] == "Accepted"), {})


async def test_an_unsupported_policy_has_a_status(
    cluster: Cluster, api: KubernetesApi, namespace: str, tmp_path: Path
) -> None:
    policies = f"{SECURITY}/namespaces/{namespace}/authorizationpolicies"
    async with replica(cluster.kubeconfig, namespace, tmp_path) as running:
        async with foreign_crds(api, "AuthorizationPolicy"):
            await api.create(policies, policy("deny-all"))
            path = f"{policies}/deny-all"
            await api.patch(f"{path}/status", {"status": {"conditions": [RECONCILED]}})
            words = await eventually(lambda: accepted(api, path), "the author is told")
            assert (words["status"], words["reason"]) == ("False", "Unsupported")
            assert "it has no effect, and no request is denied" in words["message"]
            found = await api.get(path)
            assert RECONCILED in found["status"]["conditions"]

            listed = await unsupported(running, "AuthorizationPolicy")
            assert (listed["count"], listed["resources"]) == (1, [f"{namespace}/deny-all"])
            assert await metric(running) == 1

            # Nothing more is written, although the watch has reported the control plane's own write.
            await api.create(policies, policy("second"))
            await eventually(lambda: accepted(api, f"{policies}/second"), "the second is told too")
            assert (await api.get(path))["metadata"]["resourceVersion"] == found["metadata"][
                "resourceVersion"
            ]

        async def is_forgotten() -> bool:
            return not await unsupported(running, "AuthorizationPolicy")

        await eventually(is_forgotten, "a kind that is gone is listed no more")
        assert await metric(running) == 0


async def test_a_resource_that_restricts_nothing_is_listed_and_not_changed(
    cluster: Cluster, api: KubernetesApi, namespace: str, tmp_path: Path
) -> None:
    filters = f"/apis/networking.istio.io/v1/namespaces/{namespace}/envoyfilters"
    document = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "EnvoyFilter",
        "metadata": {"name": "a"},
        "spec": {},
    }
    async with (
        foreign_crds(api, "EnvoyFilter", "Telemetry"),
        replica(cluster.kubeconfig, namespace, tmp_path) as running,
    ):
        await api.create(filters, document)

        async def is_listed() -> bool:
            return bool((await unsupported(running, "EnvoyFilter")).get("count") == 1)

        await eventually(is_listed, "the filter is listed")
        assert (await unsupported(running, "Telemetry"))["count"] == 0
        assert "status" not in await api.get(f"{filters}/a")


async def metric(running: Replica) -> float:
    return await asyncio.to_thread(running.metric, "outrigger_unsupported_resources")
