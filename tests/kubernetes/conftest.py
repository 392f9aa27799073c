"""One cluster for all tests of this folder, and a namespace for each."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support import kubernetes_cluster
from tests.support.kubernetes_api import KubernetesApi, eventually, kubernetes_api
from tests.support.kubernetes_cluster import Cluster
from tests.support.node import require_node


def pytest_runtest_setup(item: pytest.Item) -> None:
    kubernetes_cluster.require_cluster()
    if item.get_closest_marker("needs_node"):
        require_node()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with kubernetes_cluster.cluster() as running:
        yield running


@pytest.fixture
def own_cluster(cluster: Cluster) -> None:
    """For tests that run a control plane: it tells every namespace which roots to trust."""
    cluster.started_here()


@pytest.fixture
async def api(cluster: Cluster) -> AsyncIterator[KubernetesApi]:
    """As the cluster's administrator."""
    async with kubernetes_api(cluster.kubeconfig) as administrator:
        yield administrator


@pytest.fixture
async def namespace(api: KubernetesApi) -> AsyncIterator[str]:
    """The name of a new one, in which pods may be created: it has its service account."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    await api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    await eventually(lambda: api.get(account), "the namespace's service account")
    yield name
    await api.delete(f"/api/v1/namespaces/{name}")
