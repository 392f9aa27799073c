"""What authors read in ``.status`` of their resources, in a real cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster_objects import NETWORKING, virtual_service
from tests.support.crds import install_crds
from tests.support.kubernetes_api import KubernetesApi, Resource, eventually
from tests.support.kubernetes_cluster import Cluster
from tests.support.status_replica import replica


@pytest.fixture(autouse=True)
async def mesh_kinds(api: KubernetesApi) -> None:
    await install_crds(api)


def routes(namespace: str) -> str:
    return f"{NETWORKING}/namespaces/{namespace}/virtualservices"


def condition(resource: Resource, kind: str) -> dict[str, Any]:
    conditions = resource.get("status", {}).get("conditions", ())
    return next((each for each in conditions if each["type"] == kind), {})


async def with_status(api: KubernetesApi, path: str, **wanted: str) -> Resource:
    """The resource, once its newest generation has conditions of these statuses."""

    async def look() -> Resource | None:
        found = await api.get(path)
        current = found.get("status", {}).get("observedGeneration") == found["metadata"]["generation"]
        held = {kind: condition(found, kind).get("status") for kind in wanted}
        return found if current and held == wanted else None

    return await eventually(look, f"{path} is {wanted}")


async def test_a_resource_is_accepted_then_broken_then_mended(
    cluster: Cluster, api: KubernetesApi, namespace: str, tmp_path: Path
) -> None:
    path = f"{routes(namespace)}/a"
    async with replica(cluster.kubeconfig, namespace, tmp_path):
        await api.create(routes(namespace), virtual_service("a", "a.example.com", 201))
        found = await with_status(api, path, Accepted="True", Programmed="True")
        print(found["status"])
