"""The control plane's service account may do exactly what the control plane does."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx
import pytest

from controlplane.resources.foreign import AUTHORIZATION_POLICY, REQUEST_AUTHENTICATION
from tests.support.cluster_control_plane import (
    ROOTS_CONFIG_MAP,
    ClusterControlPlane,
    cluster_control_plane,
    published_roots,
)
from tests.support.cluster_webhooks import registered
from tests.support.crds import FOREIGN, foreign_crds, install_crds
from tests.support.documents import destination_rule, document, virtual_service, workload
from tests.support.kubernetes_api import KubernetesApi, KubernetesError, Resource, eventually
from tests.support.kubernetes_cluster import Cluster
from tests.support.manifests import DEPLOY, apply, manifests, path_of
from tests.support.own_address import own_address
from tests.support.rights import Request, granted, requests, with_token
from tests.support.service_account_tokens import API_AUDIENCE, AUDIENCE, request_token

pytestmark = pytest.mark.usefixtures("own_cluster")

KINDS = {"Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}
RIGHTS = [each for each in manifests(DEPLOY / "outrigger.yaml") if each["kind"] in KINDS]
NAMESPACE = "outrigger-system"
ACCOUNT = "outrigger-controlplane"
SECRETS = f"/api/v1/namespaces/{NAMESPACE}/secrets"


def one_of_each_kind(namespace: str) -> list[Resource]:
    host = f"a.{namespace}.example.com"
    resources = [
        virtual_service("a", [host], {"destination": {"host": host}}),
        destination_rule("a", host),
        document("ServiceEntry", "a", {"hosts": [host], "ports": [{"number": 80, "name": "http"}]}),
        workload("a", "10.0.0.1", {"app": "a"}),
        document("Sidecar", "a", {"egress": [{"hosts": ["./*"]}]}),
        document("PeerAuthentication", "a", {"mtls": {"mode": "STRICT"}}),
    ]
    for each in resources:
        each["metadata"]["namespace"] = namespace
    return resources


def restricting_resources(namespace: str) -> list[Resource]:
    """They have no effect, and their status tells this."""
    return [
        {
            "apiVersion": f"{kind.group}/v1",
            "kind": kind.name,
            "metadata": {"name": "a", "namespace": namespace},
            "spec": {},
        }
        for kind in (AUTHORIZATION_POLICY, REQUEST_AUTHENTICATION)
    ]


async def test_it_has_exactly_the_permissions_that_it_needs(
    cluster: Cluster, api: KubernetesApi, namespace: str, tmp_path: Path
) -> None:
    await install_crds(api)
    await apply(api, RIGHTS)
    await without(api, f"{SECRETS}/outrigger-ca-secret")
    token = await request_token(api, NAMESPACE, audience=API_AUDIENCE, account=ACCOUNT)
    own = with_token(cluster.kubeconfig, token, tmp_path)
    bind = ("--bind-address", own_address())
    async with (
        foreign_crds(api, *FOREIGN.values()),
        cluster_control_plane(own, api, NAMESPACE, tmp_path / "plane", *bind) as plane,
    ):
        resources = [*one_of_each_kind(namespace), *restricting_resources(namespace)]
        await apply(api, resources)
        for each in resources:
            await has_status(api, each)
        await plane.sign(await request_token(api, namespace, audience=AUDIENCE))
        config_map = f"/api/v1/namespaces/{namespace}/configmaps/{ROOTS_CONFIG_MAP}"
        roots = await published_roots(api, namespace)
        await api.patch(config_map, {"data": {"root-cert.pem": "an attacker's"}})

        async def is_repaired() -> bool:
            return await published_roots(api, namespace) == roots

        await eventually(is_repaired, "the roots are repaired")

        await breaks_and_recovers(api, namespace)
        async with registered(api, plane):
            pass
        await asks_about_a_new_namespace(plane)
        await asks_who_reads_the_debug_api(plane, await request_token(api, namespace, audience=API_AUDIENCE))

        async def renews() -> bool:
            return any(each.right.verb == "update" for each in asked(cluster))

        await eventually(renews, "the Lease is renewed")

        async def follows_what_it_does_not_support() -> bool:
            watched = {each.right.resource for each in asked(cluster) if each.right.verb == "watch"}
            return {plural for _, plural in FOREIGN} <= watched

        await eventually(follows_what_it_does_not_support, "every kind of Istio's is watched")

    made = asked(cluster)
    assert [each for each in made if each.status in (401, 403)] == []
    rights = granted(RIGHTS)
    assert [right for right in rights if not any(each.needs(right) for each in made)] == []
    assert [each for each in made if not any(each.needs(right) for right in rights)] == []


async def breaks_and_recovers(api: KubernetesApi, namespace: str) -> None:
    """The last good version of one is kept, and then that of another."""
    config_map = f"/api/v1/namespaces/{NAMESPACE}/configmaps/outrigger-last-good"
    for name in ("one", "two"):
        route = virtual_service(
            name, [f"{name}.{namespace}.example.com"], {"destination": {"host": f"a.{namespace}.example.com"}}
        )
        route["metadata"]["namespace"] = namespace
        await apply(api, [route])
        await has_status(api, route)
        fault = {"spec": {"http": [{"match": [{"uri": {"regex": "("}}], "redirect": {"uri": "/"}}]}}
        await api.patch(await path_of(api, route), fault)

        async def is_kept(name: str = name) -> bool:
            data = (await api.get(config_map)).get("data") or {}
            return f"VirtualService.{namespace}.{name}" in data

        await eventually(is_kept, f"the last good version of {name} is kept")


async def asks_about_a_new_namespace(plane: ClusterControlPlane) -> None:
    """The watch does not know it."""
    request = {
        "uid": "u",
        "operation": "CREATE",
        "namespace": "unknown",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "object": {"metadata": {"name": "a"}, "spec": {"containers": []}},
    }
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    trust = ssl.create_default_context(cafile=plane.roots)
    async with httpx.AsyncClient(verify=trust, trust_env=False) as http:
        answer = (await http.post(f"https://{plane.webhooks}/inject", json=review)).json()["response"]
    assert not answer["allowed"]
    assert 'namespaces "unknown" not found' in answer["status"]["message"]


async def asks_who_reads_the_debug_api(plane: ClusterControlPlane, token: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        headers = {"Authorization": f"Bearer {token}"}
        response = await http.get(f"http://{plane.debug}/debug/syncz", headers=headers)
    assert response.status_code == 403
    assert "has no permission to get the path /debug/syncz" in response.json()["detail"]


def asked(cluster: Cluster) -> list[Request]:
    user = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
    return list(requests(cluster.folder / "audit.log", user))


async def has_status(api: KubernetesApi, resource: Resource) -> None:
    path = await path_of(api, resource)

    async def look() -> bool:
        return "status" in await api.get(path)

    await eventually(look, f"the status of {path}")


async def without(api: KubernetesApi, path: str) -> None:
    try:
        await api.delete(path)
    except KubernetesError as error:
        if error.status != 404:
            raise
