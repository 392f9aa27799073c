"""The roots are in every namespace, whatever people do to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from controlplane.ca.root_certificates import RootCertificates
from controlplane.kubernetes.api import ClientApi
from tests.support.cluster_control_plane import ROOTS_CONFIG_MAP, published_roots
from tests.support.followed_cluster import QUICK
from tests.support.kubernetes_api import KubernetesApi, eventually
from tests.support.kubernetes_cluster import Cluster

pytestmark = pytest.mark.usefixtures("own_cluster")

BUNDLE = "the roots of this test"


@asynccontextmanager
async def published(cluster: Cluster) -> AsyncIterator[None]:
    client = await ClientApi.connect(cluster.kubeconfig)
    running = asyncio.create_task(
        RootCertificates(client, BUNDLE, timing=QUICK, pause_s=0.05).run(), name="publish"
    )
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await client.close()


@pytest.fixture
def config_map(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps/{ROOTS_CONFIG_MAP}"


async def until_right(api: KubernetesApi, config_map: str) -> str:
    """The version that is right."""

    async def look() -> str:
        found = await api.get(config_map)
        return found["metadata"]["resourceVersion"] if found["data"] == {"root-cert.pem": BUNDLE} else ""

    return await eventually(look, "the roots are right")


async def test_what_people_change_or_delete_is_repaired(
    cluster: Cluster, api: KubernetesApi, config_map: str
) -> None:
    async with published(cluster):
        created = await until_right(api, config_map)
        await api.patch(config_map, {"data": {"root-cert.pem": "an attacker's"}})
        assert await until_right(api, config_map) != created
        await api.delete(config_map)
        await until_right(api, config_map)


async def test_a_later_namespace_gets_them_too(cluster: Cluster, api: KubernetesApi, namespace: str) -> None:
    later = f"{namespace}-later"
    async with published(cluster):
        assert await published_roots(api, namespace) == BUNDLE
        await api.create("/api/v1/namespaces", {"metadata": {"name": later}})
        assert await published_roots(api, later) == BUNDLE
    await api.delete(f"/api/v1/namespaces/{later}")
