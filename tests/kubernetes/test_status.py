"""The ``.status`` of resources in a real cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from controlplane.errors import RefusedError
from controlplane.kinds.registry import KINDS
from controlplane.kubernetes.api import ClientApi
from protos.type_urls import CLUSTER, ROUTE
from tests.support.ads_client import DeltaClient, node_of
from tests.support.cluster_objects import NETWORKING, crd, hostname, service, virtual_service
from tests.support.crds import CRDS
from tests.support.followed_cluster import follower
from tests.support.kubernetes_api import KubernetesApi, KubernetesError, Resource, eventually
from tests.support.kubernetes_cluster import Cluster
from tests.support.status_replica import QUICK, Replica, replica

OWN_KINDS = [name for name, kind in KINDS.items() if not kind.is_core]


pytestmark = pytest.mark.usefixtures("mesh_kinds")


@pytest.fixture
async def secluded(api: KubernetesApi, namespace: str) -> None:
    """Proxies of the namespace see no other namespace: changes elsewhere do not push to them."""
    spec = {"egress": [{"hosts": ["./*"]}]}
    sidecar = {"apiVersion": "networking.istio.io/v1", "kind": "Sidecar", "spec": spec}
    await api.create(
        f"{NETWORKING}/namespaces/{namespace}/sidecars", {**sidecar, "metadata": {"name": "secluded"}}
    )


def routes(namespace: str) -> str:
    return f"{NETWORKING}/namespaces/{namespace}/virtualservices"


def condition(resource: Resource, kind: str) -> dict[str, Any]:
    conditions = resource.get("status", {}).get("conditions", ())
    return next((each for each in conditions if each["type"] == kind), {})


async def until_proxies(api: KubernetesApi, path: str, *, concerned: int, acknowledged: int) -> Resource:
    wanted = {"concerned": concerned, "acknowledged": acknowledged}

    async def look() -> Resource | None:
        found = await api.get(path)
        return found if found.get("status", {}).get("proxies") == wanted else None

    return await eventually(look, f"{path} has {wanted}")


async def with_status(api: KubernetesApi, path: str, **wanted: str) -> Resource:
    """The resource, once its newest generation has conditions of these statuses."""

    async def look() -> Resource | None:
        found = await api.get(path)
        current = found.get("status", {}).get("observedGeneration") == found["metadata"]["generation"]
        held = {kind: condition(found, kind).get("status") for kind in wanted}
        return found if current and held == wanted else None

    return await eventually(look, f"{path} is {wanted}")


def version(resource: Resource) -> str:
    return str(resource["metadata"]["resourceVersion"])


async def sentinel(api: KubernetesApi, namespace: str, name: str = "sentinel") -> None:
    """Whatever was to be written before this returns has been."""
    await api.create(routes(namespace), virtual_service(name, f"{name}.{namespace}.example.com"))
    await with_status(api, f"{routes(namespace)}/{name}", Accepted="True")


def routing(namespace: str, status: int) -> Resource:
    """A route for the Service ``reviews``, which is in the route configuration that proxies subscribe to."""
    return virtual_service("reviews", hostname(namespace), status)


@asynccontextmanager
async def proxy(running: Replica, name: str, namespace: str, type_url: str) -> AsyncIterator[DeltaClient]:
    """It has acknowledged what was there when it came."""
    node = node_of(name, namespace, LABELS={"app": name})
    async with grpc.aio.insecure_channel(running.xds) as channel, DeltaClient(channel, node) as client:
        await client.subscribe(type_url, *(["80"] if type_url == ROUTE else []))
        await client.accept(type_url)
        yield client


async def test_a_resource_is_accepted_then_broken_then_mended(
    cluster: Cluster, api: KubernetesApi, namespace: str, tmp_path: Path
) -> None:
    path = f"{routes(namespace)}/a"
    host = f"a.{namespace}.example.com"
    async with replica(cluster.kubeconfig, namespace, tmp_path):
        await api.create(routes(namespace), virtual_service("a", host, 201))
        good = await with_status(api, path, Accepted="True", Programmed="True")
        assert good["status"]["observedGeneration"] == 1
        assert condition(good, "Accepted")["reason"] == "Accepted"
        assert f"no service has the host {host}" in condition(good, "Accepted")["message"]
        assert condition(good, "Programmed")["message"] == "no connected proxy is affected"

        # What a schema cannot see, and only our validation does.
        broken = virtual_service("a", host, 202, match=[{"uri": {"regex": "("}}])
        await api.patch(path, {"spec": broken["spec"]})
        bad = await with_status(api, path, Accepted="False", Programmed="False")
        assert bad["status"]["observedGeneration"] == bad["metadata"]["generation"] == 2
        assert condition(bad, "Accepted")["reason"] == "Invalid"
        words = condition(bad, "Accepted")["message"]
        assert words.startswith("spec.http[0].match[0].uri.regex: ")
        assert "; the last good version stays in force (generation 1, since 20" in words

        await api.patch(path, {"spec": virtual_service("a", host, 203, match=None)["spec"]})
        mended = await with_status(api, path, Accepted="True", Programmed="True")
        assert mended["status"]["observedGeneration"] == 3


async def test_a_cluster_whose_crds_serve_no_v1_is_followed_by_the_version_that_they_serve(
    cluster: Cluster, api: KubernetesApi, namespace: str, tmp_path: Path
) -> None:
    """Istio's before 1.22."""
    cluster.started_here()
    async with older_sidecars(api):
        sidecars = f"/apis/networking.istio.io/v1beta1/namespaces/{namespace}/sidecars"
        async with replica(cluster.kubeconfig, namespace, tmp_path):
            written = {
                "apiVersion": "networking.istio.io/v1beta1",
                "kind": "Sidecar",
                "metadata": {"name": "a"},
                "spec": {"egress": [{"hosts": ["./*"]}]},
            }
            await api.create(sidecars, written)
            await with_status(api, f"{sidecars}/a", Accepted="True", Programmed="True")


@asynccontextmanager
async def older_sidecars(api: KubernetesApi) -> AsyncIterator[None]:
    """Meanwhile the CRD of Sidecars serves all versions but v1."""
    path = f"{CRDS}/sidecars.networking.istio.io"
    versions = (await api.get(path))["spec"]["versions"]
    older = [{**each, "served": each["name"] != "v1"} for each in versions]
    collection = f"{NETWORKING}/sidecars"
    await api.patch(path, {"spec": {"versions": older}})
    try:
        await eventually(lambda: is_served(api, collection, served=False), f"{collection} is served no more")
        yield
    finally:
        await api.patch(path, {"spec": {"versions": versions}})
        await eventually(lambda: is_served(api, collection, served=True), f"{collection} is served")


async def is_served(api: KubernetesApi, path: str, *, served: bool) -> bool:
    try:
        await api.get(path)
    except KubernetesError as error:
        return not served and error.status == 404
    return served


async def test_a_missing_destination_is_reported_until_it_exists(
    cluster: Cluster, api: KubernetesApi, namespace: str, tmp_path: Path
) -> None:
    path = f"{routes(namespace)}/a"
    route = {"route": [{"destination": {"host": "later"}}]}
    async with replica(cluster.kubeconfig, namespace, tmp_path):
        await api.create(
            routes(namespace),
            virtual_service("a", "later") | {"spec": {"hosts": ["later"], "http": [route]}},
        )
        dangling = await with_status(api, path, Accepted="True", ResolvedRefs="False", Programmed="True")
        assert condition(dangling, "ResolvedRefs")["reason"] == "BackendNotFound"
        assert condition(dangling, "ResolvedRefs")["message"].endswith(": requests for it get 503 (NC)")
        await api.create(f"/api/v1/namespaces/{namespace}/services", service("later"))
        resolved = await with_status(api, path, Accepted="True", ResolvedRefs="True", Programmed="True")
        assert resolved["status"]["observedGeneration"] == 1


@pytest.mark.usefixtures("secluded")
async def test_the_proxies_that_acknowledge_are_counted_and_one_that_refuses_is_quoted(
    cluster: Cluster, api: KubernetesApi, namespace: str, tmp_path: Path
) -> None:
    path = f"{routes(namespace)}/reviews"
    await api.create(f"/api/v1/namespaces/{namespace}/services", service("reviews"))
    async with (
        replica(cluster.kubeconfig, namespace, tmp_path) as running,
        proxy(running, "willing", namespace, ROUTE) as willing,
    ):
        async with proxy(running, "other", namespace, ROUTE) as other:
            await api.create(routes(namespace), routing(namespace, 201))
            await willing.accept(ROUTE)
            unanswered = await other.receive(ROUTE)
            await until_proxies(api, path, concerned=2, acknowledged=1)
            pending = await with_status(api, path, Accepted="True", Programmed="False")
            assert condition(pending, "Programmed")["reason"] == "Pending"
            assert condition(pending, "Programmed")["message"] == "1 of 2 proxies have acknowledged"

            await other.acknowledge(unanswered, error="I take no direct response")

            async def rejected() -> Resource | None:
                found = await api.get(path)
                return found if condition(found, "Programmed").get("reason") == "Rejected" else None

            message = condition(await eventually(rejected, "rejected"), "Programmed")["message"]
            assert message.startswith("1 of 2 proxies have acknowledged; ")
            assert f"~other.{namespace}~" in message
            assert message.endswith("rejected rds: I take no direct response")

            await api.patch(path, {"spec": routing(namespace, 202)["spec"]})
            await willing.accept(ROUTE)
            await other.accept(ROUTE)
            await until_proxies(api, path, concerned=2, acknowledged=2)
            programmed = await with_status(api, path, Accepted="True", Programmed="True")
            words = condition(programmed, "Programmed")["message"]
            assert words == "all affected proxies have acknowledged"
        await until_proxies(api, path, concerned=1, acknowledged=1)


async def test_every_kind_has_a_status_and_counts_the_proxies_that_it_concerns(
    cluster: Cluster, api: KubernetesApi, namespace: str, tmp_path: Path
) -> None:
    selector = {"selector": {"matchLabels": {"app": "nobody"}}}
    specs: dict[str, tuple[dict[str, Any], int]] = {
        "VirtualService": (routing(namespace, 201)["spec"], 2),
        "DestinationRule": ({"host": "reviews", "subsets": [{"name": "v1", "labels": {"version": "v1"}}]}, 2),
        "ServiceEntry": (
            {
                "hosts": [f"api.{namespace}.example.com"],
                "resolution": "STATIC",
                "ports": [{"number": 80, "name": "http"}],
            }
            | {"workloadSelector": {"labels": {"app": "api"}}, "exportTo": ["."]},
            2,
        ),
        "WorkloadEntry": ({"address": "10.9.9.9", "labels": {"app": "api"}}, 2),
        "Sidecar": ({"workloadSelector": {"labels": {"app": "one"}}, "egress": [{"hosts": ["*/*"]}]}, 1),
        "PeerAuthentication": ({**selector, "mtls": {"mode": "STRICT"}}, 0),
    }
    assert specs.keys() == set(OWN_KINDS)
    await api.create(f"/api/v1/namespaces/{namespace}/services", service("reviews"))
    async with (
        replica(cluster.kubeconfig, namespace, tmp_path) as running,
        proxy(running, "one", namespace, CLUSTER) as one,
        proxy(running, "two", namespace, CLUSTER) as two,
    ):
        accepting = [asyncio.create_task(accept_all(each), name="accept") for each in (one, two)]
        for kind, (spec, concerned) in specs.items():
            api_version = KINDS[kind].api_versions[0]
            path = f"/apis/{api_version}/namespaces/{namespace}/{KINDS[kind].plural}"
            document = {
                "apiVersion": api_version,
                "kind": kind,
                "metadata": {"name": "reviews"},
                "spec": spec,
            }
            await api.create(path, document)
            await with_status(api, f"{path}/reviews", Accepted="True", Programmed="True")
            await until_proxies(api, f"{path}/reviews", concerned=concerned, acknowledged=concerned)
        for task in accepting:
            task.cancel()
        await asyncio.gather(*accepting, return_exceptions=True)


async def accept_all(client: DeltaClient) -> None:
    while (response := await client.call.read()) is not grpc.aio.EOF:
        await client.acknowledge(response)


@pytest.mark.usefixtures("secluded")
async def test_nothing_is_written_while_nothing_changes_not_even_by_the_next_control_plane(
    cluster: Cluster, api: KubernetesApi, namespace: str, tmp_path: Path
) -> None:
    path = f"{routes(namespace)}/reviews"
    await api.create(f"/api/v1/namespaces/{namespace}/services", service("reviews"))
    async with (
        replica(cluster.kubeconfig, namespace, tmp_path / "first") as running,
        proxy(running, "pod", namespace, ROUTE) as client,
    ):
        await api.create(routes(namespace), routing(namespace, 201))
        await client.accept(ROUTE)
        written = await until_proxies(api, path, concerned=1, acknowledged=1)
        await sentinel(api, namespace, "first")
        assert version(await api.get(path)) == version(written)

    # The next one lists everything again, and the proxy has not reconnected yet.
    patient = replace(QUICK, reconnect_s=600.0)
    async with replica(cluster.kubeconfig, namespace, tmp_path / "second", patient) as running:
        await sentinel(api, namespace, "second")
        async with proxy(running, "pod", namespace, ROUTE):
            await sentinel(api, namespace, "third")
        assert version(await api.get(path)) == version(written)

    async with replica(cluster.kubeconfig, namespace, tmp_path / "third"):
        await until_proxies(api, path, concerned=0, acknowledged=0)


async def test_a_status_write_is_not_a_new_version_of_the_resource(
    cluster: Cluster, api: KubernetesApi, namespace: str
) -> None:
    path = f"{routes(namespace)}/a"
    await api.create(routes(namespace), virtual_service("a", f"a.{namespace}.example.com"))
    async with follower(cluster.kubeconfig) as following:

        def configs() -> dict[str, object]:
            found = following.snapshot().virtual_services
            return {each.key.name: each for each in found if each.key.namespace == namespace}

        before = configs()["a"]
        for count in range(10):
            await api.patch(
                f"{path}/status", {"status": {"proxies": {"concerned": count, "acknowledged": 0}}}
            )
        await api.create(routes(namespace), virtual_service("b", f"b.{namespace}.example.com"))
        await following.until(lambda _: "b" in configs(), "what came after them")
        assert configs()["a"] is before


async def test_what_others_wrote_into_the_status_stays(
    cluster: Cluster, api: KubernetesApi, namespace: str, tmp_path: Path
) -> None:
    path = f"{routes(namespace)}/a"
    foreign = {
        "type": "example.com/Reconciled",
        "status": "True",
        "reason": "Reconciled",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    await api.create(routes(namespace), virtual_service("a", f"a.{namespace}.example.com"))
    await api.patch(f"{path}/status", {"status": {"conditions": [foreign]}})
    async with replica(cluster.kubeconfig, namespace, tmp_path):
        found = await with_status(api, path, Accepted="True", Programmed="True")
        assert condition(found, foreign["type"]) == foreign
        # And a removed status is written again.
        await api.patch(f"{path}/status", {"status": {"conditions": [foreign], "proxies": None}})
        found = await with_status(api, path, Accepted="True", Programmed="True")
        assert condition(found, foreign["type"]) == foreign


async def test_statuses_are_written_again_once_the_api_server_is_back(
    cluster: Cluster, api: KubernetesApi, namespace: str, tmp_path: Path
) -> None:
    cluster.started_here()
    async with replica(cluster.kubeconfig, namespace, tmp_path) as running:
        await sentinel(api, namespace, "before")
        await asyncio.to_thread(cluster.kill_api_server)

        async def has_stopped() -> bool:
            return not await asyncio.to_thread(lambda: running.leads)

        await eventually(has_stopped, "it leads no more")
        await asyncio.to_thread(cluster.start_api_server)
        await sentinel(api, namespace, "after")
        assert await asyncio.to_thread(lambda: running.leads)


async def test_the_api_server_tells_a_missing_status_from_a_missing_object_by_a_get(
    cluster: Cluster, api: KubernetesApi, namespace: str
) -> None:
    """What the writer relies on where another's CRD has no status subresource."""
    group = "statusless.outrigger.example"
    await api.create(CRDS, crd(group, "widgets", "Widget"))
    widgets = f"/apis/{group}/v1/namespaces/{namespace}/widgets"
    client = await ClientApi.connect(cluster.kubeconfig)
    try:
        await eventually(lambda: api.get(widgets), "the kind is served")
        await api.create(widgets, {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": "a"}})
        for name in ("a", "b"):
            with pytest.raises(RefusedError) as refused:
                await client.merge(f"{widgets}/{name}/status", {"status": {}})
            assert refused.value.status == 404
        assert (await client.get(f"{widgets}/a"))["metadata"]["name"] == "a"
    finally:
        await client.close()
        await api.delete(f"{CRDS}/widgets.{group}")
