"""A store that follows a real cluster loses no change when the API server or the connections fail."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from controlplane.model.snapshot import MeshSnapshot
from tests.support.cluster_objects import (
    NETWORKING,
    create_pod,
    delete_pod,
    hostname,
    service,
    set_ready,
    virtual_service,
)
from tests.support.followed_cluster import (
    DEADLINE_S,
    Follower,
    by_way_of,
    follower,
    fresh_list,
    server_of,
)
from tests.support.kubernetes_api import KubernetesApi
from tests.support.kubernetes_cluster import Cluster
from tests.support.tcp_proxy import cutting_proxy

pytestmark = pytest.mark.usefixtures("mesh_kinds")


async def churn(api: KubernetesApi, namespace: str, node_name: str, round_: int) -> None:
    """Objects of several kinds are created, changed and deleted."""
    name, address = f"pod-{round_}", f"10.9.1.{round_ + 1}"
    routes = f"{NETWORKING}/namespaces/{namespace}/virtualservices"
    await create_pod(api, namespace, name, node_name, address, {"app": "reviews", "round": str(round_)})
    await api.create(routes, virtual_service(f"route-{round_}", f"host-{round_}.{namespace}.example.com"))
    await api.patch(f"{routes}/route-{round_}", {"metadata": {"labels": {"round": str(round_)}}})
    await api.create(f"/api/v1/namespaces/{namespace}/services", service(f"service-{round_}"))
    if round_ % 3 == 1:
        await delete_pod(api, namespace, f"pod-{round_ - 1}")
        await api.delete(f"{routes}/route-{round_ - 1}")
        await set_ready(api, namespace, name, address, ready=False)


async def until_equal_to_fresh_list(following: Follower, kubeconfig: Path) -> MeshSnapshot:
    """The controllers write during the comparison, so it is repeated until both are equal."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            while (fresh := await fresh_list(kubeconfig)) != following.snapshot():
                pass
    except TimeoutError:
        assert following.snapshot() == await fresh_list(kubeconfig)
        raise
    return fresh


async def test_nothing_is_lost_while_the_api_server_restarts(
    cluster: Cluster, api: KubernetesApi, namespace: str, node_name: str
) -> None:
    cluster.started_here()
    await api.create(f"/api/v1/namespaces/{namespace}/services", service("reviews"))
    async with follower(cluster.kubeconfig) as following:
        for round_ in range(6):
            await churn(api, namespace, node_name, round_)
            if round_ % 2 == 1:
                end = cluster.kill_api_server if round_ % 4 == 1 else cluster.stop_api_server
                await asyncio.to_thread(end)
                before = following.snapshot()
                await asyncio.to_thread(cluster.start_api_server)
                assert before.endpoints.keys() <= following.snapshot().endpoints.keys()
        fresh = await until_equal_to_fresh_list(following, cluster.kubeconfig)
    assert {f"{hostname(namespace, f'service-{round_}')}" for round_ in range(6)} <= fresh.services.keys()


async def test_changes_before_a_compaction_are_found_by_a_list(
    cluster: Cluster,
    api: KubernetesApi,
    namespace: str,
    node_name: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster.started_here()
    caplog.set_level(logging.INFO, "controlplane.kubernetes.list_watch")
    async with cutting_proxy(*server_of(cluster.kubeconfig)) as proxy:
        kubeconfig = by_way_of(cluster.kubeconfig, proxy.port, tmp_path)
        async with follower(kubeconfig) as following:
            await churn(api, namespace, node_name, 0)
            await following.until(lambda world: hostname(namespace, "service-0") in world.services, "round 0")
            proxy.cut_after(0)
            proxy.cut_all()
            await churn(api, namespace, node_name, 1)
            await asyncio.to_thread(cluster.kill_api_server)
            await asyncio.to_thread(cluster.compact)
            await asyncio.to_thread(cluster.start_api_server)
            assert hostname(namespace, "service-1") not in following.snapshot().services
            assert following.staleness_s("Pod") > 0.5
            proxy.stop_cutting()
            await following.until(lambda world: hostname(namespace, "service-1") in world.services, "round 1")
            await until_equal_to_fresh_list(following, cluster.kubeconfig)
    assert any("/pods: listing again: 410" in record.message for record in caplog.records)
