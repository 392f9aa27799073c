"""In a cluster, every replica and the next one serve the same version of a quarantined resource."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

from tests.support.cluster_objects import NETWORKING, Resource, virtual_service
from tests.support.crds import install_crds
from tests.support.json_api import get_json
from tests.support.kubernetes_api import KubernetesApi, KubernetesError, eventually
from tests.support.kubernetes_cluster import Cluster
from tests.support.status_replica import Replica, replica, replica_process


def routes(namespace: str) -> str:
    return f"{NETWORKING}/namespaces/{namespace}/virtualservices"


def valid(namespace: str) -> Resource:
    return virtual_service("a", f"a.{namespace}.example.com", 201)


def broken(namespace: str) -> Resource:
    return virtual_service("a", f"a.{namespace}.example.com", 202, match=[{"uri": {"regex": "("}}])


async def until_it_says(running: Replica, namespace: str, **wanted: object) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        resources = await asyncio.to_thread(get_json, running.debug, "/debug/statusz")
        found = [
            each for each in resources["resources"] if (each["namespace"], each["name"]) == (namespace, "a")
        ]
        return found[0] if found and found[0].items() >= wanted.items() else None

    return await eventually(look, f"{wanted}")


async def kept(api: KubernetesApi, namespace: str) -> list[int]:
    """The generations that are kept of the namespace's resources."""
    try:
        config_map = await api.get(f"/api/v1/namespaces/{namespace}/configmaps/outrigger-last-good")
    except KubernetesError:
        return []
    data: dict[str, str] = config_map.get("data") or {}
    return [json.loads(text)["generation"] for name, text in data.items() if f".{namespace}." in name]


async def test_a_new_replica_serves_the_same_versions_as_the_others(
    cluster: Cluster, api: KubernetesApi, namespace: str, tmp_path: Path
) -> None:
    await install_crds(api)
    async with replica(cluster.kubeconfig, namespace, tmp_path / "first") as first:
        await api.create(routes(namespace), valid(namespace))
        await until_it_says(first, namespace, state="APPLIED")
        await api.patch(f"{routes(namespace)}/a", {"spec": broken(namespace)["spec"]})
        before = await until_it_says(first, namespace, state="QUARANTINED", in_force=True)

        async def is_kept() -> bool:
            return await kept(api, namespace) == [1]

        await eventually(is_kept, "the last good version is kept")
        async with replica(cluster.kubeconfig, namespace, tmp_path / "second") as second:
            assert await until_it_says(second, namespace, state="QUARANTINED") == before
    async with replica(cluster.kubeconfig, namespace, tmp_path / "third") as third:
        assert await until_it_says(third, namespace, state="QUARANTINED") == before
        assert before["serving_generation"] == 1

        await api.patch(
            f"{routes(namespace)}/a", {"spec": virtual_service("a", "b", 203, match=None)["spec"]}
        )
        await until_it_says(third, namespace, state="APPLIED", generation=3)

        async def is_forgotten() -> bool:
            return await kept(api, namespace) == []

        await eventually(is_forgotten, "nothing is kept any more")


async def test_a_killed_replica_does_not_change_the_versions_in_force(
    cluster: Cluster, api: KubernetesApi, namespace: str, tmp_path: Path
) -> None:
    await install_crds(api)
    with replica_process(cluster.kubeconfig, namespace, tmp_path / "first") as first:
        await api.create(routes(namespace), valid(namespace))
        await until_it_says(first, namespace, state="APPLIED")
        await api.patch(f"{routes(namespace)}/a", {"spec": broken(namespace)["spec"]})

        async def is_kept() -> bool:
            return await kept(api, namespace) == [1]

        await eventually(is_kept, "the last good version is kept")
        os.kill(first.process.pid, signal.SIGKILL)
    async with replica(cluster.kubeconfig, namespace, tmp_path / "second") as second:
        await until_it_says(second, namespace, state="QUARANTINED", in_force=True, serving_generation=1)
