"""A store that follows a real cluster always ends with the same content as a new list of the cluster."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controlplane.errors import SettingsError
from controlplane.kubernetes.api import ClientApi
from controlplane.kubernetes.list_watch import Changes, ListWatch, Timing, name_of, version_of
from controlplane.model.snapshot import MeshSnapshot
from controlplane.model.status import State
from controlplane.runtime import ControlPlane, serve
from controlplane.settings import Settings, read_settings
from tests.support.cluster_objects import (
    NETWORKING,
    crd,
    create_node,
    create_pod,
    delete_pod,
    service,
    set_ready,
    virtual_service,
)
from tests.support.control_plane import FREE_PORTS
from tests.support.crds import CRDS, install_crds
from tests.support.followed_cluster import (
    DEADLINE_S,
    QUICK,
    Follower,
    by_way_of,
    follower,
    fresh_list,
    server_of,
)
from tests.support.kubernetes_api import KubernetesApi, eventually
from tests.support.kubernetes_cluster import Cluster
from tests.support.pods import OPENER
from tests.support.tcp_proxy import cutting_proxy


@pytest.fixture(autouse=True)
async def mesh_kinds(api: KubernetesApi) -> None:
    await install_crds(api)


@pytest.fixture
async def node(api: KubernetesApi, namespace: str) -> AsyncIterator[str]:
    name = f"node-{namespace}"
    await create_node(api, name, region="eu", zone="eu-1")
    yield name
    await api.delete(f"/api/v1/nodes/{name}")


def hostname(namespace: str, name: str = "reviews") -> str:
    return f"{name}.{namespace}.svc.cluster.local"


def healthy(snapshot: MeshSnapshot, namespace: str) -> set[str]:
    endpoints = snapshot.endpoints.get(hostname(namespace), ())
    return {endpoint.address for endpoint in endpoints if endpoint.workload.healthy}


async def test_a_pod_is_an_endpoint_as_the_cluster_decided(
    cluster: Cluster, api: KubernetesApi, namespace: str, node: str
) -> None:
    labels = {"app": "reviews", "version": "v1", "security.istio.io/tlsMode": "istio"}
    async with follower(cluster.kubeconfig) as following:
        await api.create(f"/api/v1/namespaces/{namespace}/services", service("reviews"))
        await create_pod(api, namespace, "reviews-1", node, "10.9.0.1", labels)
        snapshot = await following.until(lambda world: healthy(world, namespace), "a ready endpoint")
        [endpoint] = snapshot.endpoints[hostname(namespace)]
        assert (endpoint.service_port, endpoint.address, endpoint.port) == ("http", "10.9.0.1", 9080)
        workload = endpoint.workload
        assert (workload.name, workload.service_account) == ("reviews-1", "default")
        assert labels.items() <= workload.labels.items()  # Kubernetes adds the node's topology
        assert workload.mesh_tls
        assert workload.locality == "eu/eu-1"
        assert await fresh_list(cluster.kubeconfig) == following.snapshot()

        await set_ready(api, namespace, "reviews-1", "10.9.0.1", ready=False)
        await following.until(lambda world: not healthy(world, namespace), "no ready endpoint")
        await set_ready(api, namespace, "reviews-1", "10.9.0.1", ready=True)
        await following.until(lambda world: healthy(world, namespace), "the endpoint is ready again")
        zone = {"metadata": {"labels": {"topology.kubernetes.io/zone": "eu-2"}}}
        await api.patch(f"/api/v1/nodes/{node}", zone)
        await following.until(
            lambda world: world.endpoints[hostname(namespace)][0].workload.locality == "eu/eu-2",
            "the node's new locality",
        )
        await delete_pod(api, namespace, "reviews-1")
        await following.until(lambda world: hostname(namespace) not in world.endpoints, "no endpoint")


async def test_pods_of_controllers_have_their_owners_names(
    cluster: Cluster, api: KubernetesApi, namespace: str
) -> None:
    """Before they have an address: no node runs them."""

    def template(**spec: Any) -> dict[str, Any]:
        containers = [{"name": "app", "image": "app"}]
        return {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": containers, **spec}}

    selector = {"matchLabels": {"app": "web"}}
    async with follower(cluster.kubeconfig) as following:
        for path, name, spec in (
            ("apps/v1/{}/deployments", "web", {"selector": selector, "template": template()}),
            (
                "apps/v1/{}/statefulsets",
                "db",
                {"selector": selector, "serviceName": "db", "template": template()},
            ),
            ("batch/v1/{}/jobs", "migrate", {"template": template(restartPolicy="Never")}),
            # The name that a CronJob gives to its Jobs.
            ("batch/v1/{}/jobs", "report-28934820", {"template": template(restartPolicy="Never")}),
        ):
            body = {"metadata": {"name": name}, "spec": spec}
            await api.create("/apis/" + path.format(f"namespaces/{namespace}"), body)
        expected = {"web", "db", "migrate", "report"}

        def owners(world: MeshSnapshot) -> set[str]:
            pods = world.known_workloads.pods.values()
            return {pod.owner for pod in pods if pod.namespace == namespace}

        await following.until(lambda world: owners(world) == expected, "all pods are known by their owners")


async def test_a_pod_of_a_headless_service_has_the_host_that_the_cluster_gives_it(
    cluster: Cluster, api: KubernetesApi, namespace: str, node: str
) -> None:
    async with follower(cluster.kubeconfig) as following:
        await api.create(f"/api/v1/namespaces/{namespace}/services", service("es", clusterIP="None"))
        for index in range(2):
            name, address = f"es-{index}", f"10.9.1.{index + 1}"
            own = {"hostname": name, "subdomain": "es"}
            await create_pod(api, namespace, name, node, address, {"app": "es"}, **own)
        host = hostname(namespace, "es")
        snapshot = await following.until(
            lambda world: len(world.endpoints.get(host, ())) == 2, "two endpoints"
        )
        assert snapshot.services[host].headless
        found = {(endpoint.hostname, endpoint.address) for endpoint in snapshot.endpoints[host]}
        assert found == {("es-0", "10.9.1.1"), ("es-1", "10.9.1.2")}


async def test_a_broken_resource_is_quarantined_with_its_last_good_version_in_force(
    cluster: Cluster, api: KubernetesApi, namespace: str
) -> None:
    collection = f"/apis/networking.istio.io/v1/namespaces/{namespace}/virtualservices"
    async with follower(cluster.kubeconfig) as following:

        def statuses_served(world: MeshSnapshot) -> list[int]:
            found = [each for each in world.virtual_services if each.key.namespace == namespace]
            return [route.direct_response.status for each in found for route in each.spec.http]

        await api.create(collection, virtual_service("a", "a.example.com", 201))
        await following.until(lambda world: statuses_served(world) == [201], "applied")
        # An error that the schema cannot detect, only the control plane's validation.
        broken = virtual_service("a", "a.example.com", 202, match=[{"uri": {"regex": "("}}])
        await api.patch(f"{collection}/a", {"spec": broken["spec"]})

        async def quarantined() -> bool:
            return following.status_of("VirtualService", namespace, "a").state is State.QUARANTINED

        await eventually(quarantined, "quarantined")
        status = following.status_of("VirtualService", namespace, "a")
        (reason,) = status.reasons
        assert reason.startswith("spec.http[0].match[0].uri.regex: ")
        assert statuses_served(following.snapshot()) == [201]
        await api.patch(f"{collection}/a", {"spec": virtual_service("a", "b", 202)["spec"]})
        await following.until(lambda world: statuses_served(world) == [202], "applied anew")
        await api.delete(f"{collection}/a")
        await following.until(lambda world: not statuses_served(world), "removed")


async def churn(api: KubernetesApi, namespace: str, node: str, round_: int) -> None:
    """Objects of several kinds are created, changed and deleted."""
    name, address = f"pod-{round_}", f"10.9.1.{round_ + 1}"
    routes = f"{NETWORKING}/namespaces/{namespace}/virtualservices"
    await create_pod(api, namespace, name, node, address, {"app": "reviews", "round": str(round_)})
    await api.create(routes, virtual_service(f"route-{round_}", f"host-{round_}.example.com"))
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
    cluster: Cluster, api: KubernetesApi, namespace: str, node: str
) -> None:
    cluster.started_here()
    await api.create(f"/api/v1/namespaces/{namespace}/services", service("reviews"))
    async with follower(cluster.kubeconfig) as following:
        for round_ in range(6):
            await churn(api, namespace, node, round_)
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
    node: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster.started_here()
    caplog.set_level(logging.INFO, "controlplane.kubernetes.list_watch")
    async with cutting_proxy(*server_of(cluster.kubeconfig)) as proxy:
        kubeconfig = by_way_of(cluster.kubeconfig, proxy.port, tmp_path)
        async with follower(kubeconfig) as following:
            await churn(api, namespace, node, 0)
            await following.until(lambda world: hostname(namespace, "service-0") in world.services, "round 0")
            proxy.cut_after(0)
            proxy.cut_all()
            await churn(api, namespace, node, 1)
            await asyncio.to_thread(cluster.kill_api_server)
            await asyncio.to_thread(cluster.compact)
            await asyncio.to_thread(cluster.start_api_server)
            assert hostname(namespace, "service-1") not in following.snapshot().services
            assert following.staleness_s("Pod") > 0.5
            proxy.stop_cutting()
            await following.until(lambda world: hostname(namespace, "service-1") in world.services, "round 1")
            await until_equal_to_fresh_list(following, cluster.kubeconfig)
    assert any("/pods: listing again: 410" in record.message for record in caplog.records)


async def test_every_version_is_passed_on_once_although_connections_break(
    cluster: Cluster, api: KubernetesApi, namespace: str, tmp_path: Path
) -> None:
    maps = f"/api/v1/namespaces/{namespace}/configmaps"
    handed_on: list[Changes] = []
    timing = replace(QUICK, watch_s=2.0, resync_s=1.0)
    async with cutting_proxy(*server_of(cluster.kubeconfig)) as proxy:
        kubeconfig = by_way_of(cluster.kubeconfig, proxy.port, tmp_path)
        client = await ClientApi.connect(kubeconfig)
        watch = ListWatch(client, maps, handed_on.append, timing=timing)
        running = asyncio.create_task(watch.run(), name="watch")
        await watch.synced.wait()
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
            return known(handed_on) == present

        await eventually(caught_up, "the store of a fresh list")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await client.close()
    versions = Counter((name_of(each), version_of(each)) for told in handed_on for each in told.present)
    assert proxy.cuts > 5
    assert set(versions.values()) == {1}


def known(handed_on: list[Changes]) -> dict[tuple[str, str], str]:
    versions: dict[tuple[str, str], str] = {}
    for changes in handed_on:
        for name in changes.gone:
            del versions[name]
        versions |= {name_of(each): version_of(each) for each in changes.present}
    return versions


async def test_a_kind_can_be_installed_later_and_removed_again(
    cluster: Cluster, api: KubernetesApi, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    group = "late.outrigger.example"
    widgets = f"/apis/{group}/v1/namespaces/{namespace}/widgets"
    handed_on: list[Changes] = []
    client = await ClientApi.connect(cluster.kubeconfig)
    watch = ListWatch(client, f"/apis/{group}/v1/widgets", handed_on.append, timing=QUICK)
    running = asyncio.create_task(watch.run(), name="watch")
    try:
        async with asyncio.timeout(DEADLINE_S):
            await watch.synced.wait()
        await api.create(CRDS, crd(group, "widgets", "Widget"))
        widget = {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": "a"}}
        await eventually(lambda: api.get(widgets), "the kind is served")
        await api.create(widgets, widget)

        async def found() -> bool:
            return known(handed_on).keys() == {(namespace, "a")}

        async def lost() -> bool:
            return not known(handed_on)

        await eventually(found, "the widget")
        await api.delete(f"{CRDS}/widgets.{group}")
        await eventually(lost, "no widget")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await client.close()
    told = [record.message for record in caplog.records if "is its CRD installed?" in record.message]
    assert 1 <= len(told) <= 2  # before it came, and after it went


async def test_many_pages_are_one_list(api: KubernetesApi, cluster: Cluster, namespace: str) -> None:
    maps = f"/api/v1/namespaces/{namespace}/configmaps"
    for number in range(12):
        await api.create(maps, {"metadata": {"name": f"map-{number}"}})
    handed_on: list[Changes] = []
    client = await ClientApi.connect(cluster.kubeconfig)
    watch = ListWatch(client, maps, handed_on.append, timing=replace(Timing(), page_size=5))
    running = asyncio.create_task(watch.run(), name="watch")
    try:
        await watch.synced.wait()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await client.close()
    [listed] = handed_on
    assert {(namespace, f"map-{number}") for number in range(12)} <= {
        name_of(each) for each in listed.present
    }


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


async def test_an_unreadable_kubeconfig_is_a_settings_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"the kubeconfig .*nowhere cannot be used"):
        await ClientApi.connect(tmp_path / "nowhere")
