"""The identification of a proxy in a real cluster: its Pod object has precedence over its claims."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from envoy.config.listener.v3.listener_pb2 import Listener

from protos.type_urls import LISTENER
from tests.support.ads_client import DeltaClient, node_of
from tests.support.cluster_control_plane import ClusterControlPlane, cluster_control_plane
from tests.support.cluster_objects import delete_pod
from tests.support.crds import install_crds
from tests.support.kubernetes_api import KubernetesApi, Resource
from tests.support.kubernetes_cluster import Cluster
from tests.support.service_account_tokens import AUDIENCE, request_token

pytestmark = pytest.mark.usefixtures("own_cluster")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """A control plane, and a namespace in which workloads with the label ``app=reviews`` accept mesh TLS
    only."""

    api: KubernetesApi
    plane: ClusterControlPlane
    namespace: str

    @property
    def pods(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods"

    async def create_pod(self, name: str, **labels: str) -> Resource:
        """The pod has no address, because no node runs it."""
        containers = [{"name": "main", "image": "none"}]
        document = {"metadata": {"name": name, "labels": labels}, "spec": {"containers": containers}}
        return await self.api.create(self.pods, document)

    @asynccontextmanager
    async def proxy(self, name: str, pod: Resource | None, **metadata: Any) -> AsyncIterator[DeltaClient]:
        """The proxy subscribes to listeners, with a token that is bound to the Pod if there is one."""
        token = await request_token(self.api, self.namespace, audience=AUDIENCE, pod=pod)
        credentials = grpc.ssl_channel_credentials(self.plane.roots.read_bytes())
        options = [("grpc.ssl_target_name_override", f"outrigger-controlplane.{self.namespace}.svc")]
        async with (
            grpc.aio.secure_channel(self.plane.xds_tls, credentials, options) as channel,
            DeltaClient(
                channel,
                node_of(name, self.namespace, **metadata),
                metadata=(("authorization", f"Bearer {token}"),),
            ) as client,
        ):
            await client.subscribe(LISTENER)
            yield client


@pytest.fixture
async def mesh(cluster: Cluster, api: KubernetesApi, namespace: str, tmp_path: Path) -> AsyncIterator[Mesh]:
    await install_crds(api)
    spec = {"selector": {"matchLabels": {"app": "reviews"}}, "mtls": {"mode": "STRICT"}}
    await api.create(
        f"/apis/security.istio.io/v1/namespaces/{namespace}/peerauthentications",
        {
            "apiVersion": "security.istio.io/v1",
            "kind": "PeerAuthentication",
            "metadata": {"name": "reviews"},
            "spec": spec,
        },
    )
    async with cluster_control_plane(cluster.kubeconfig, api, namespace, tmp_path / "plane") as plane:
        yield Mesh(api=api, plane=plane, namespace=namespace)


async def takes_plaintext(client: DeltaClient) -> bool:
    """Whether the proxy's current configuration accepts inbound plaintext."""
    while True:
        response = await client.accept(LISTENER)
        for each in response.resources:
            if each.name == "virtualInbound":
                inbound = Listener.FromString(each.resource.value)
                chains = inbound.filter_chains
                return any(chain.filter_chain_match.transport_protocol == "raw_buffer" for chain in chains)


async def test_a_selector_matches_the_pods_labels_although_its_proxy_claims_none(mesh: Mesh) -> None:
    pod = await mesh.create_pod("reviews-1", app="reviews")
    async with mesh.proxy("reviews-1", pod) as proxy:
        assert not await takes_plaintext(proxy)
    other = await mesh.create_pod("ratings-1", app="ratings")
    async with mesh.proxy("ratings-1", other) as proxy:
        assert await takes_plaintext(proxy)


async def test_labels_count_as_soon_as_they_are_written(mesh: Mesh) -> None:
    pod = await mesh.create_pod("a", app="ratings")
    async with mesh.proxy("a", pod, LABELS={"app": "ratings"}) as proxy:
        assert await takes_plaintext(proxy)
        await mesh.api.patch(f"{mesh.pods}/a", {"metadata": {"labels": {"app": "reviews"}}})
        assert not await takes_plaintext(proxy)


@pytest.mark.parametrize(
    ("claimed", "words"),
    [
        ({"LABELS": {"app": "ratings"}}, "its label app is 'ratings', expected 'reviews'"),
        ({"LABELS": {"role": "admin"}}, "its label role='admin' does not exist on the object"),
        ({"SERVICE_ACCOUNT": "admin"}, "service account 'admin', but its token belongs to spiffe://"),
        ({"NAMESPACE": "default"}, "metadata.NAMESPACE is 'default', but the id"),
    ],
)
async def test_a_claim_that_contradicts_the_pod_is_rejected_with_the_reason(
    mesh: Mesh, claimed: dict[str, Any], words: str
) -> None:
    pod = await mesh.create_pod("reviews-1", app="reviews")
    async with mesh.proxy("reviews-1", pod, **claimed) as proxy:
        code, details = await proxy.failure()
        assert code in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INVALID_ARGUMENT)
        assert words in details


async def test_a_pods_token_is_not_accepted_for_another_pod(mesh: Mesh) -> None:
    """Although both have the same service account."""
    await mesh.create_pod("reviews-1", app="reviews")
    other = await mesh.create_pod("ratings-1", app="ratings")
    async with mesh.proxy("reviews-1", other) as proxy:
        code, details = await proxy.failure()
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert f"its token belongs to the Pod {mesh.namespace}/ratings-1" in details


async def test_a_proxy_waits_for_its_pod_and_is_disconnected_with_it(mesh: Mesh) -> None:
    async with mesh.proxy("reviews-1", None) as proxy:
        await mesh.create_pod("reviews-1", app="reviews")
        assert not await takes_plaintext(proxy)
        await delete_pod(mesh.api, mesh.namespace, "reviews-1")
        code, details = await proxy.failure()
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert details.endswith(f"its Pod {mesh.namespace}/reviews-1 was deleted")


async def test_a_workload_entry_identifies_a_proxy_outside_the_cluster(mesh: Mesh) -> None:
    spec = {"address": "192.0.2.1", "labels": {"app": "reviews"}, "serviceAccount": "default"}
    await mesh.api.create(
        f"/apis/networking.istio.io/v1/namespaces/{mesh.namespace}/workloadentries",
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "WorkloadEntry",
            "metadata": {"name": "machine"},
            "spec": spec,
        },
    )
    async with mesh.proxy("machine", None) as proxy:
        assert not await takes_plaintext(proxy)
