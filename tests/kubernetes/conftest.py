"""One cluster for all tests of this folder, and a namespace for each."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support import kubernetes_cluster
from tests.support.cluster_objects import create_node
from tests.support.crds import install_crds
from tests.support.kubernetes_api import KubernetesApi, eventually, kubernetes_api
from tests.support.kubernetes_cluster import Cluster
from tests.support.node import RunningNode, require_node, running_node
from tests.support.pod_specs import IMAGES, Pods


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
    """For tests that run a control plane, which writes the trusted roots into every namespace."""
    cluster.started_here()


@pytest.fixture
async def api(cluster: Cluster) -> AsyncIterator[KubernetesApi]:
    """A client with the permissions of the cluster's administrator."""
    async with kubernetes_api(cluster.kubeconfig) as administrator:
        yield administrator


@pytest.fixture
async def namespace(api: KubernetesApi) -> AsyncIterator[str]:
    """The name of a new namespace that has its default service account, so that pods can be created."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    await api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    await eventually(lambda: api.get(account), "the namespace's service account")
    yield name
    await api.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="module")
def node(cluster: Cluster) -> Iterator[RunningNode]:
    """One for each file, so that pods of other files do not run on it."""
    with running_node(cluster.kubeconfig, IMAGES, back_off_s=0.5) as node:
        yield node


@pytest.fixture
async def pods(api: KubernetesApi, namespace: str, node: RunningNode) -> AsyncIterator[Pods]:
    """The pods of the test's namespace, on the file's node. None of them is left for the next test; their
    processes may still be ending."""
    pods = Pods(api, namespace)
    yield pods
    await api.delete(f"/apis/apps/v1/namespaces/{namespace}/deployments")
    await api.delete(f"/apis/batch/v1/namespaces/{namespace}/jobs", {"propagationPolicy": "Background"})
    await api.delete(pods.path, {"gracePeriodSeconds": 0})

    async def gone() -> bool:
        return not await pods.all()

    await eventually(gone, "the test's pods are gone")


@pytest.fixture
async def mesh_kinds(api: KubernetesApi) -> None:
    """Installs the CRDs of all kinds that the control plane reads."""
    await install_crds(api)


@pytest.fixture
async def node_name(api: KubernetesApi, namespace: str) -> AsyncIterator[str]:
    """The name of a Node object. It runs no pods: tests write their statuses."""
    name = f"node-{namespace}"
    await create_node(api, name, region="eu", zone="eu-1")
    yield name
    await api.delete(f"/api/v1/nodes/{name}")
