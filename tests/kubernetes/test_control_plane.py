"""A control plane process starts from a cluster, follows it and can be stopped."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from controlplane.runtime import ControlPlane, serve
from controlplane.settings import Settings, read_settings
from tests.support.cluster_objects import (
    hostname,
    service,
)
from tests.support.control_plane import FREE_PORTS
from tests.support.followed_cluster import (
    DEADLINE_S,
    by_way_of,
    server_of,
)
from tests.support.kubernetes_api import KubernetesApi, eventually
from tests.support.kubernetes_cluster import Cluster
from tests.support.pods import OPENER
from tests.support.tcp_proxy import cutting_proxy

pytestmark = pytest.mark.usefixtures("mesh_kinds")


@pytest.mark.usefixtures("own_cluster")
async def test_a_control_plane_starts_from_a_cluster_and_follows_it(
    cluster: Cluster, api: KubernetesApi, namespace: str, tmp_path: Path
) -> None:
    await api.create(f"/api/v1/namespaces/{namespace}/services", service("early"))
    addresses = tmp_path / "addresses.json"
    flags = ["--system-namespace", namespace, "--addresses-file", str(addresses)]
    plane = ControlPlane(settings(cluster.kubeconfig, tmp_path, *flags))
    stop = asyncio.Event()
    try:
        await plane.start()
        following = asyncio.create_task(plane.follow(stop), name="follow")
        metrics = f"http://{json.loads(addresses.read_text())['metrics']}/metrics"
        assert 'outrigger_kubernetes_seconds_since_sync{kind="Pod"}' in await asyncio.to_thread(read, metrics)
        debug = f"http://{json.loads(addresses.read_text())['debug']}/debug/registryz"
        assert hostname(namespace, "early") in await asyncio.to_thread(read, debug)
        await api.create(f"/api/v1/namespaces/{namespace}/services", service("late"))

        async def late_is_there() -> bool:
            return hostname(namespace, "late") in await asyncio.to_thread(read, debug)

        await eventually(late_is_there, "the later service")
        stop.set()
        await following
    finally:
        await plane.close()


async def test_a_control_plane_that_waits_for_the_api_server_can_be_stopped(
    cluster: Cluster, tmp_path: Path
) -> None:
    async with cutting_proxy(*server_of(cluster.kubeconfig)) as proxy:
        proxy.cut_after(0)
        kubeconfig = by_way_of(cluster.kubeconfig, proxy.port, tmp_path)
        serving = asyncio.create_task(serve(settings(kubeconfig, tmp_path)), name="serve")

        async def has_tried() -> bool:
            return proxy.cuts > 3

        await eventually(has_tried, "attempts")
        assert not serving.done()
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(DEADLINE_S):
            await serving


def settings(kubeconfig: Path, folder: Path, *flags: str) -> Settings:
    source = ["--source", "kubernetes", "--kubeconfig", str(kubeconfig)]
    return read_settings([*source, "--state-dir", str(folder / "state"), *FREE_PORTS, *flags], {})


def read(url: str) -> str:
    with OPENER.open(url, timeout=10) as answer:
        return str(answer.read().decode())
