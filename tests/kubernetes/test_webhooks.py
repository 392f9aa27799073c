"""The webhooks, called by a real API server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable
from itertools import product
from pathlib import Path

import httpx
import pytest

from controlplane.ca.signer import make_root
from tests.support.cluster_control_plane import ClusterControlPlane, cluster_control_plane
from tests.support.cluster_webhooks import all_have, bundles, configurations, metric, registered, unregister
from tests.support.crds import foreign_crds, install_crds
from tests.support.documents import destination, destination_rule, document, virtual_service
from tests.support.kubectl import kubectl_environment
from tests.support.kubernetes_api import KubernetesApi, KubernetesError, Resource, eventually
from tests.support.kubernetes_binaries import KUBECTL
from tests.support.kubernetes_cluster import Cluster
from tests.support.manifests import apply, path_of

pytestmark = pytest.mark.usefixtures("own_cluster")

WRONG_MODE = {"sidecar.istio.io/interceptionMode": "SOMETIMES"}


@pytest.fixture
async def plane(
    cluster: Cluster, api: KubernetesApi, namespace: str, tmp_path: Path
) -> AsyncIterator[ClusterControlPlane]:
    await install_crds(api)
    async with (
        cluster_control_plane(cluster.kubeconfig, api, namespace, tmp_path / "plane") as plane,
        registered(api, plane),
    ):
        yield plane


@pytest.fixture
async def meshed(api: KubernetesApi) -> AsyncIterator[str]:
    """The name of a namespace whose pods get sidecars."""
    metadata = {"generateName": "meshed-", "labels": {"istio-injection": "enabled"}}
    name = (await api.create("/api/v1/namespaces", {"metadata": metadata}))["metadata"]["name"]
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    await eventually(lambda: api.get(account), "the namespace's service account")
    yield name
    await api.delete(f"/api/v1/namespaces/{name}")


def pod(annotations: dict[str, str] | None = None, **labels: str) -> Resource:
    return {
        "metadata": {"generateName": "web-", "labels": labels, "annotations": annotations or {}},
        "spec": {"containers": [{"name": "web", "image": "web"}]},
    }


async def create_pod(api: KubernetesApi, namespace: str, document: Resource) -> Resource:
    return await api.create(f"/api/v1/namespaces/{namespace}/pods", document)


def has_sidecar(created: Resource) -> bool:
    spec = created["spec"]
    containers = [*spec["containers"], *spec.get("initContainers", ())]
    return "outrigger-sidecar" in [each["name"] for each in containers]


async def refused(creating: Awaitable[object]) -> str:
    with pytest.raises(KubernetesError) as error:
        await creating
    return str(error.value)


async def read(address: str, path: str) -> str:
    async with httpx.AsyncClient(trust_env=False) as http:
        return (await http.get(f"http://{address}{path}")).raise_for_status().text


async def test_pods_of_a_labelled_namespace_get_a_sidecar(
    api: KubernetesApi, plane: ClusterControlPlane, namespace: str, meshed: str
) -> None:
    assert has_sidecar(await create_pod(api, meshed, pod()))
    assert not has_sidecar(await create_pod(api, meshed, pod(**{"sidecar.istio.io/inject": "false"})))
    message = await refused(create_pod(api, meshed, pod(WRONG_MODE)))
    assert "sidecar-injector.outrigger.dev" in message
    assert "sidecar.istio.io/interceptionMode" in message
    assert "SOMETIMES" in message
    # A namespace without a label: the pod decides. The control plane's own namespace is never asked about.
    assert not has_sidecar(await create_pod(api, "default", pod()))
    asking = pod(**{"sidecar.istio.io/inject": "true"})
    assert has_sidecar(await create_pod(api, "default", asking))
    page = await read(plane.metrics, "/metrics")
    assert metric(page, "sidecar_injection_success_total") == 2
    assert metric(page, "sidecar_injection_failure_total") == 1
    await api.delete("/api/v1/namespaces/default/pods")


async def test_pods_without_the_sidecar_that_their_namespace_asks_for_are_reported(
    cluster: Cluster, api: KubernetesApi, namespace: str, meshed: str, tmp_path: Path
) -> None:
    """They were created before the webhook was registered."""
    created = await create_pod(api, meshed, pod())
    await create_pod(api, meshed, pod(**{"sidecar.istio.io/inject": "false"}))
    async with cluster_control_plane(cluster.kubeconfig, api, namespace, tmp_path / "plane") as plane:
        found = json.loads(await read(plane.debug, "/debug/unmeshedz"))
        page = await read(plane.metrics, "/metrics")
    name = created["metadata"]["name"]
    asked_by = "namespace: istio-injection=enabled"
    assert [each for each in found if each["namespace"] == meshed] == [
        {"namespace": meshed, "name": name, "asked_by": asked_by}
    ]
    assert f'outrigger_unmeshed_pods{{namespace="{meshed}"}} 1.0' in page


def kubectl_apply(cluster: Cluster, *documents: Resource) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [KUBECTL.path, "apply", "-f", "-"],
        input=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(documents)}),
        env=kubectl_environment(cluster.kubeconfig),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_an_invalid_resource_is_refused_with_the_words_of_its_status(
    cluster: Cluster, api: KubernetesApi, namespace: str, tmp_path: Path
) -> None:
    """It is stored while no webhook is registered, and quarantined; then it is refused."""
    await install_crds(api)
    fault = {"hosts": ["reviews"], "http": [{"match": [{"uri": {"regex": "("}}], "redirect": {"uri": "/"}}]}
    invalid = document("VirtualService", "reviews", fault, namespace)
    path = await path_of(api, invalid)
    async with cluster_control_plane(cluster.kubeconfig, api, namespace, tmp_path / "plane") as plane:
        await apply(api, [invalid])

        async def status() -> str | None:
            conditions = (await api.get(path)).get("status", {}).get("conditions", ())
            return next((each["message"] for each in conditions if each["type"] == "Accepted"), None)

        words = (await eventually(status, "the status")).removesuffix("; it is not in force")
        await api.delete(path)
        async with registered(api, plane):
            applied = await asyncio.to_thread(kubectl_apply, cluster, invalid)
            assert applied.returncode != 0
            assert f'"validation.outrigger.dev" denied the request: {words}' in applied.stderr
            valid = virtual_service("reviews", ["nowhere"], destination("reviews", "v9"), namespace=namespace)
            applied = await asyncio.to_thread(
                kubectl_apply,
                cluster,
                valid,
                destination_rule("reviews", "reviews", "v1", namespace=namespace),
            )
            assert applied.returncode == 0, applied.stderr
            assert f"Warning: spec.hosts[0]: no service has the host nowhere.{namespace}" in applied.stderr
            assert "Warning: spec.http[0].route[0].destination.host: no service" in applied.stderr
            # The status is written by the control plane itself, and a deletion is not asked about.
            assert await eventually(status, "the status of the valid version")
            assert words in await refused(api.patch(path, {"spec": fault}))
            await api.delete(path)
            page = await read(plane.metrics, "/metrics")
    assert metric(page, "galley_validation_failed") == 2
    assert metric(page, "galley_validation_passed") >= 2


async def test_a_kind_that_is_not_supported_gets_a_warning(
    cluster: Cluster, api: KubernetesApi, namespace: str, plane: ClusterControlPlane
) -> None:
    async with foreign_crds(api, "AuthorizationPolicy"):
        policy = {
            **document("AuthorizationPolicy", "deny", {}, namespace),
            "apiVersion": "security.istio.io/v1",
        }
        applied = await asyncio.to_thread(kubectl_apply, cluster, policy)
    assert applied.returncode == 0, applied.stderr
    assert "Warning: kind: AuthorizationPolicy is a kind of Istio that is not supported" in applied.stderr
    assert "no request is denied" in applied.stderr


async def test_while_the_control_plane_is_away_pods_and_resources_are_refused(
    cluster: Cluster, api: KubernetesApi, namespace: str, meshed: str, tmp_path: Path
) -> None:
    await install_crds(api)
    rule = destination_rule("reviews", "reviews", namespace=namespace)
    async with contextlib.AsyncExitStack() as registration:
        async with cluster_control_plane(cluster.kubeconfig, api, namespace, tmp_path / "plane") as plane:
            await registration.enter_async_context(registered(api, plane))
            assert has_sidecar(await create_pod(api, meshed, pod()))
        for creating in (create_pod(api, meshed, pod()), apply(api, [rule])):
            message = await refused(creating)
            assert "failed calling webhook" in message
            assert "outrigger.dev" in message
        # Pods that need no sidecar, and our own namespace, are not locked out.
        assert not has_sidecar(await create_pod(api, namespace, pod()))
        assert not has_sidecar(await create_pod(api, meshed, pod(**{"sidecar.istio.io/inject": "false"})))
        port = plane.webhooks.rpartition(":")[2]
        flags = ("--webhook-port", port)
        async with cluster_control_plane(cluster.kubeconfig, api, namespace, tmp_path / "again", *flags):

            async def is_created() -> bool:
                try:
                    return has_sidecar(await create_pod(api, meshed, pod()))
                except KubernetesError:
                    return False

            await eventually(is_created, "pods are injected again")
            await apply(api, [rule])


async def test_the_bundle_follows_the_certificate_authority(
    cluster: Cluster, api: KubernetesApi, namespace: str, meshed: str, tmp_path: Path
) -> None:
    files = tmp_path / "certificate.pem", tmp_path / "key.pem"

    def replace_root() -> str:
        certificate, key = make_root("cluster.local", time.time())
        for path, content in zip(files, (certificate, key), strict=True):
            path.write_bytes(content)
            path.chmod(0o600)
        return certificate.decode()

    first = replace_root()
    flags = ("--signing-cert", str(files[0]), "--signing-key", str(files[1]))
    async with (
        cluster_control_plane(cluster.kubeconfig, api, namespace, tmp_path / "plane", *flags) as plane,
        registered(api, plane),
    ):
        assert has_sidecar(await create_pod(api, meshed, pod()))
        second = replace_root()

        async def has_both() -> bool:
            return all(each == second + first for each in await bundles(api))

        await eventually(has_both, "every caBundle has the new root, and the old one for other replicas")
        assert has_sidecar(await create_pod(api, meshed, pod()))


async def test_replicas_repair_a_bundle_without_fighting(
    cluster: Cluster,
    api: KubernetesApi,
    namespace: str,
    plane: ClusterControlPlane,
    meshed: str,
    tmp_path: Path,
) -> None:
    istios = configurations(plane.webhooks)[0]
    istios["metadata"] |= {"name": "istio-sidecar-injector", "labels": {"istio.io/rev": "default"}}
    canary = configurations(plane.webhooks, **{"istio.io/rev": "canary"})[0]
    canary["metadata"]["name"] = "outrigger-sidecar-injector-canary"
    for each in (istios, canary):  # they must not be called
        each["webhooks"] = [{**each["webhooks"][0], "namespaceSelector": {"matchLabels": {"no": "one"}}}]
    await apply(api, [istios, canary])
    try:
        async with cluster_control_plane(cluster.kubeconfig, api, namespace, tmp_path / "second"):
            injection, validation = configurations(plane.webhooks)
            await break_bundle(api, injection)
            await all_have(api, plane.roots.read_text())
            assert has_sidecar(await create_pod(api, meshed, pod()))
            found = await version(api, injection)
            for _ in range(2):  # in each repair both replicas look at all configurations
                await break_bundle(api, validation)
                await all_have(api, plane.roots.read_text())
            assert await version(api, injection) == found
        for each in (istios, canary):
            (webhook,) = (await api.get(await path_of(api, each)))["webhooks"]
            assert "caBundle" not in webhook["clientConfig"]
    finally:
        await unregister(api, [istios, canary])


async def break_bundle(api: KubernetesApi, configuration: Resource) -> None:
    path = await path_of(api, configuration)
    webhooks = (await api.get(path))["webhooks"]
    webhooks[0]["clientConfig"]["caBundle"] = ""
    await api.patch(path, {"webhooks": webhooks})


async def version(api: KubernetesApi, configuration: Resource) -> str:
    found: str = (await api.get(await path_of(api, configuration)))["metadata"]["resourceVersion"]
    return found


BAD_REVIEWS = [
    (b"", "application/json", 400),
    (b"{}", "text/plain", 415),
    (b" " * (8 * 1024 * 1024), "application/json", 413),
    (b"not JSON", "application/json", 200),
    (b'{"kind": "AdmissionReview", "apiVersion": "v7", "request": {"uid": "u"}}', "application/json", 200),
]


async def test_other_clients_get_an_answer_too(plane: ClusterControlPlane) -> None:
    trust = ssl.create_default_context(cafile=plane.roots)
    async with httpx.AsyncClient(verify=trust, trust_env=False) as http:
        for path, (content, content_type, status) in product(("/inject", "/validate"), BAD_REVIEWS):
            url = f"https://{plane.webhooks}{path}"
            response = await http.post(url, content=content, headers={"content-type": content_type})
            assert response.status_code == status
            if status == 200:
                answer = response.json()["response"]
                assert not answer["allowed"]
                assert answer["status"]["message"]
