"""Lists and watches of a real API server: each version is passed on once, and kinds may come and go."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from controlplane.errors import SettingsError
from controlplane.kubernetes.api import ClientApi
from controlplane.kubernetes.list_watch import Changes, ListWatch, Timing, name_of, version_of
from tests.support.cluster_objects import (
    crd,
)
from tests.support.crds import CRDS
from tests.support.followed_cluster import (
    DEADLINE_S,
    QUICK,
    by_way_of,
    server_of,
)
from tests.support.kubernetes_api import KubernetesApi, eventually
from tests.support.kubernetes_cluster import Cluster
from tests.support.tcp_proxy import cutting_proxy


@asynccontextmanager
async def watching(kubeconfig: Path, path: str, timing: Timing) -> AsyncIterator[list[Changes]]:
    """Follows a collection after its first list. Yields the changes that are passed on."""
    passed_on: list[Changes] = []
    client = await ClientApi.connect(kubeconfig)
    watch = ListWatch(client, path, passed_on.append, timing=timing)
    running = asyncio.create_task(watch.run(), name="watch")
    try:
        async with asyncio.timeout(DEADLINE_S):
            await watch.synced.wait()
        yield passed_on
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await client.close()


def known(passed_on: list[Changes]) -> dict[tuple[str, str], str]:
    """The versions of the objects that are present after all changes."""
    versions: dict[tuple[str, str], str] = {}
    for changes in passed_on:
        for name in changes.gone:
            del versions[name]
        versions |= {name_of(each): version_of(each) for each in changes.present}
    return versions


async def test_every_version_is_passed_on_once_although_connections_break(
    cluster: Cluster, api: KubernetesApi, namespace: str, tmp_path: Path
) -> None:
    maps = f"/api/v1/namespaces/{namespace}/configmaps"
    timing = replace(QUICK, watch_s=2.0, resync_s=1.0)
    async with (
        cutting_proxy(*server_of(cluster.kubeconfig)) as proxy,
        watching(by_way_of(cluster.kubeconfig, proxy.port, tmp_path), maps, timing) as passed_on,
    ):
        proxy.cut_after(9_000)  # a handshake, a list and a few events
        proxy.cut_all()
        for number in range(60):
            await api.create(maps, {"metadata": {"name": f"map-{number}"}, "data": {"a": "b" * 700}})
            if number % 3 == 0:
                await api.patch(f"{maps}/map-{number}", {"data": {"a": "c"}})
            if number % 5 == 0:
                await api.delete(f"{maps}/map-{number}")
        proxy.stop_cutting()
        present = {name_of(each): version_of(each) for each in (await api.get(maps))["items"]}

        async def caught_up() -> bool:
            return known(passed_on) == present

        await eventually(caught_up, "the store of a fresh list")
    versions = Counter((name_of(each), version_of(each)) for told in passed_on for each in told.present)
    assert proxy.cuts > 5
    assert set(versions.values()) == {1}


async def test_a_kind_can_be_installed_later_and_removed_again(
    cluster: Cluster, api: KubernetesApi, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    group = "late.outrigger.example"
    widgets = f"/apis/{group}/v1/namespaces/{namespace}/widgets"
    async with watching(cluster.kubeconfig, f"/apis/{group}/v1/widgets", QUICK) as passed_on:
        await api.create(CRDS, crd(group, "widgets", "Widget"))
        widget = {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": "a"}}
        await eventually(lambda: api.get(widgets), "the kind is served")
        await api.create(widgets, widget)

        async def found() -> bool:
            return known(passed_on).keys() == {(namespace, "a")}

        async def lost() -> bool:
            return not known(passed_on)

        await eventually(found, "the widget")
        await api.delete(f"{CRDS}/widgets.{group}")
        await eventually(lost, "no widget")
    told = [record.message for record in caplog.records if "is its CRD installed?" in record.message]
    assert 1 <= len(told) <= 2  # before the CRD is installed, and after it is removed


async def test_many_pages_are_one_list(api: KubernetesApi, cluster: Cluster, namespace: str) -> None:
    maps = f"/api/v1/namespaces/{namespace}/configmaps"
    for number in range(12):
        await api.create(maps, {"metadata": {"name": f"map-{number}"}})
    async with watching(cluster.kubeconfig, maps, replace(Timing(), page_size=5)) as passed_on:
        pass
    [listed] = passed_on
    assert {(namespace, f"map-{number}") for number in range(12)} <= {
        name_of(each) for each in listed.present
    }


async def test_an_unreadable_kubeconfig_is_a_settings_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"the kubeconfig .*nowhere cannot be used"):
        await ClientApi.connect(tmp_path / "nowhere")
