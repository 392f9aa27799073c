"""Certificates and streams in a cluster: only for callers that the API server authenticates."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from controlplane.ca.tokens import create_token, load_or_create_token_key
from protos.spiffe import SpiffeId
from protos.type_urls import CLUSTER
from sidecar.errors import IdentityError, IdentityRefusedError
from sidecar.identity.key import WorkloadKey
from sidecar.identity.verification import accept
from tests.support.ads_client import DeltaClient, node_of
from tests.support.cluster_control_plane import ClusterControlPlane, cluster_control_plane
from tests.support.cluster_objects import delete_pod
from tests.support.kubernetes_api import KubernetesApi, Resource, eventually
from tests.support.kubernetes_cluster import Cluster
from tests.support.service_account_tokens import API_AUDIENCE, AUDIENCE, request_token, sign_token

pytestmark = pytest.mark.usefixtures("own_cluster")

TRUST_DOMAIN = "mesh.example.com"


@pytest.fixture
async def plane(
    cluster: Cluster, api: KubernetesApi, namespace: str, tmp_path: Path
) -> AsyncIterator[ClusterControlPlane]:
    flags = ["--trust-domain", TRUST_DOMAIN]
    async with cluster_control_plane(cluster.kubeconfig, api, namespace, tmp_path / "plane", *flags) as plane:
        yield plane


@pytest.fixture
async def pod(api: KubernetesApi, namespace: str) -> Resource:
    containers = [{"name": "main", "image": "none"}]
    return await api.create(
        f"/api/v1/namespaces/{namespace}/pods",
        {"metadata": {"name": "reviews-1"}, "spec": {"containers": containers}},
    )


async def test_a_pods_token_gets_a_certificate_of_its_service_account(
    plane: ClusterControlPlane, api: KubernetesApi, namespace: str, pod: Resource
) -> None:
    token = await request_token(api, namespace, audience=AUDIENCE, pod=pod)
    key, expected = WorkloadKey(), SpiffeId(TRUST_DOMAIN, namespace, "default")
    signed = await plane.sign(token, key.signing_request(expected))
    svid = accept(signed, key, expected, time.time())
    assert svid.pem().trust_bundle == plane.roots.read_bytes()


async def test_a_pods_token_is_not_accepted_for_another_service_account(
    plane: ClusterControlPlane, api: KubernetesApi, namespace: str, pod: Resource
) -> None:
    token = await request_token(api, namespace, audience=AUDIENCE, pod=pod)
    other = WorkloadKey().signing_request(SpiffeId(TRUST_DOMAIN, namespace, "admin"))
    with pytest.raises(IdentityRefusedError, match="PERMISSION_DENIED"):
        await plane.sign(token, other)


async def test_a_token_for_another_audience_is_rejected(
    plane: ClusterControlPlane, api: KubernetesApi, namespace: str
) -> None:
    token = await request_token(api, namespace, audience=API_AUDIENCE)
    with pytest.raises(IdentityRefusedError, match=r"UNAUTHENTICATED: the token is invalid: .*audience"):
        await plane.sign(token)


async def test_an_expired_token_is_rejected(
    plane: ClusterControlPlane, cluster: Cluster, api: KubernetesApi, namespace: str
) -> None:
    account = await api.get(f"/api/v1/namespaces/{namespace}/serviceaccounts/default")
    await plane.sign(sign_token(cluster, account, expires_at=time.time() + 60))
    with pytest.raises(IdentityRefusedError, match=r"UNAUTHENTICATED: the token is invalid: .*expired"):
        await plane.sign(sign_token(cluster, account, expires_at=time.time() - 60))


async def test_a_token_that_the_api_server_did_not_issue_is_rejected(
    plane: ClusterControlPlane, tmp_path: Path
) -> None:
    """This includes a token of the command `outrigger`, which is valid without a cluster only."""
    ours = create_token(
        load_or_create_token_key(tmp_path), "default", "default", lifetime_s=60, now=time.time()
    )
    for token in (ours, "nonsense"):
        with pytest.raises(IdentityRefusedError, match="UNAUTHENTICATED: the token is invalid"):
            await plane.sign(token)


async def test_a_deleted_pods_token_is_rejected(
    plane: ClusterControlPlane, api: KubernetesApi, namespace: str, pod: Resource
) -> None:
    token = await request_token(api, namespace, audience=AUDIENCE, pod=pod)
    await plane.sign(token)
    await delete_pod(api, namespace, pod["metadata"]["name"])

    async def refusal() -> str:
        try:
            await plane.sign(token)
        except IdentityRefusedError as error:
            return str(error)
        return ""

    # The API server caches a token review for ten seconds; the control plane adds no cache.
    async with asyncio.timeout(15):
        assert "UNAUTHENTICATED" in await eventually(refusal, "the token is refused")


async def test_no_token_is_accepted_while_the_api_server_is_unreachable(
    plane: ClusterControlPlane, cluster: Cluster, api: KubernetesApi, namespace: str
) -> None:
    token = await request_token(api, namespace, audience=AUDIENCE)
    await plane.sign(token)
    cluster.stop_api_server()
    try:
        with pytest.raises(IdentityError, match="UNAVAILABLE: the API server cannot review tokens") as away:
            await plane.sign(token)
        assert not isinstance(away.value, IdentityRefusedError), "a sidecar would not try again"
    finally:
        cluster.start_api_server()
    await plane.sign(token)


async def test_a_proxy_connects_with_its_pods_token_and_its_own_identity_only(
    plane: ClusterControlPlane, api: KubernetesApi, namespace: str, pod: Resource
) -> None:
    token = await request_token(api, namespace, audience=AUDIENCE, pod=pod)
    metadata = (("authorization", f"Bearer {token}"),)
    credentials = grpc.ssl_channel_credentials(plane.roots.read_bytes())
    # By the name that pods use, which must be in its certificate.
    options = [("grpc.ssl_target_name_override", f"outrigger-controlplane.{namespace}.svc")]
    async with grpc.aio.secure_channel(plane.xds_tls, credentials, options) as channel:
        async with DeltaClient(channel, node_of("reviews-1", namespace), metadata=metadata) as proxy:
            await proxy.subscribe(CLUSTER)
            await proxy.accept(CLUSTER)
        async with DeltaClient(channel, node_of("reviews-1", "default"), metadata=metadata) as stranger:
            await stranger.subscribe(CLUSTER)
            assert (await stranger.failure())[0] is grpc.StatusCode.PERMISSION_DENIED
        async with DeltaClient(channel, node_of("reviews-1", namespace)) as nobody:
            await nobody.subscribe(CLUSTER)
            assert (await nobody.failure())[0] is grpc.StatusCode.UNAUTHENTICATED
