"""Permissions and tokens in the test cluster."""

from __future__ import annotations

import time

import pytest

from tests.support.kubernetes_api import KubernetesApi, KubernetesError, Resource, eventually, kubernetes_api
from tests.support.kubernetes_cluster import Cluster
from tests.support.service_account_tokens import API_AUDIENCE, AUDIENCE, request_token, review, sign_token


async def test_rbac_denies_until_a_role_is_bound(
    cluster: Cluster, api: KubernetesApi, namespace: str
) -> None:
    token = await request_token(api, namespace, audience=API_AUDIENCE)
    services = f"/api/v1/namespaces/{namespace}/services"
    async with kubernetes_api(cluster.kubeconfig, token=token) as account:
        with pytest.raises(KubernetesError, match=f"system:serviceaccount:{namespace}:default") as refused:
            await account.get(services)
        assert refused.value.status == 403
        await bind_reader(api, namespace, "services")

        async def allowed() -> Resource | None:  # the authorizer follows the API by a watch
            try:
                return await account.get(services)
            except KubernetesError as error:
                if error.status != 403:
                    raise
                return None

        assert (await eventually(allowed, "the role takes effect"))["kind"] == "ServiceList"
        with pytest.raises(KubernetesError) as still_refused:
            await account.get(f"/api/v1/namespaces/{namespace}/secrets")
        assert still_refused.value.status == 403


async def test_requests_without_credentials_are_refused(cluster: Cluster) -> None:
    async with kubernetes_api(cluster.kubeconfig, token="nonsense") as stranger:
        with pytest.raises(KubernetesError) as refused:
            await stranger.get("/api/v1/namespaces")
    assert refused.value.status == 401


async def test_a_token_is_valid_for_its_own_audience(api: KubernetesApi, namespace: str) -> None:
    token = await request_token(api, namespace, audience=AUDIENCE)
    status = await review(api, token, audience=AUDIENCE)
    assert status["authenticated"] is True
    assert status["user"]["username"] == f"system:serviceaccount:{namespace}:default"
    assert status["audiences"] == [AUDIENCE]


async def test_a_token_is_refused_before_another_audience(api: KubernetesApi, namespace: str) -> None:
    token = await request_token(api, namespace, audience=API_AUDIENCE)
    status = await review(api, token, audience=AUDIENCE)
    assert not status.get("authenticated")
    assert "audience" in status["error"]


async def test_an_expired_token_is_refused(cluster: Cluster, api: KubernetesApi, namespace: str) -> None:
    """The API server issues none that lives less than ten minutes: these are signed here, by its own key."""
    account = await api.get(f"/api/v1/namespaces/{namespace}/serviceaccounts/default")
    valid = sign_token(cluster, account, expires_at=time.time() + 60)
    assert (await review(api, valid, audience=AUDIENCE)).get("authenticated") is True
    expired = sign_token(cluster, account, expires_at=time.time() - 60)
    status = await review(api, expired, audience=AUDIENCE)
    assert not status.get("authenticated")
    assert "expired" in status["error"]


async def test_a_deleted_pods_token_is_refused(api: KubernetesApi, namespace: str) -> None:
    pods = f"/api/v1/namespaces/{namespace}/pods"
    containers = [{"name": "main", "image": "none"}]
    pod = await api.create(pods, {"metadata": {"name": "short-lived"}, "spec": {"containers": containers}})
    token = await request_token(api, namespace, audience=AUDIENCE, pod=pod)
    status = await review(api, token, audience=AUDIENCE)
    assert status["authenticated"] is True
    assert status["user"]["extra"]["authentication.kubernetes.io/pod-name"] == ["short-lived"]
    await api.delete(f"{pods}/short-lived")

    async def refusal() -> (
        Resource | None
    ):  # the API server believes a token for ten seconds without looking again
        status = await review(api, token, audience=AUDIENCE)
        return None if status.get("authenticated") else status

    assert await eventually(refusal, "the token is refused")


async def bind_reader(api: KubernetesApi, namespace: str, resource: str) -> None:
    """Lets the namespace's default service account list one kind of resource there."""
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    rules = [{"apiGroups": [""], "resources": [resource], "verbs": ["get", "list"]}]
    await api.create(f"{rbac}/roles", {"metadata": {"name": "reader"}, "rules": rules})
    binding = {
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": namespace}],
    }
    await api.create(f"{rbac}/rolebindings", binding)
