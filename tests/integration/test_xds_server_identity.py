"""Who a client of the ADS server is: its token, and the pod that it says it runs in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
import trustme
from envoy.config.core.v3.base_pb2 import Node
from google.protobuf.message import Message

from controlplane.errors import AuthorityUnavailableError, UnauthenticatedError
from controlplane.model.known_workloads import KnownWorkloads
from controlplane.model.proxy import Caller, Proxy
from controlplane.model.service import Registry, Workload
from controlplane.model.snapshot import MeshSnapshot, SnapshotChange
from controlplane.xds.server import XdsServer
from protos.spiffe import SpiffeId
from protos.type_urls import CLUSTER
from tests.support.ads_client import DeltaClient, SotwClient, node_of
from tests.support.xds_serving import serving
from tests.support.xds_world import FULL, FakeGenerator, cluster


async def known_tokens(metadata: Iterable[tuple[str, str | bytes]]) -> Caller:
    token = dict(metadata).get("authorization")
    if token is None:
        raise UnauthenticatedError("the bearer token is missing")
    if token == "Bearer unheard":
        raise AuthorityUnavailableError("nobody can tell whose token it is")
    if token != "Bearer reviews":
        raise UnauthenticatedError("the token is not of this mesh")
    return Caller(identity=SpiffeId("cluster.local", "bookinfo", "reviews"))


@pytest.mark.parametrize(
    ("token", "node", "code", "words"),
    [
        (None, node_of("a", "bookinfo"), grpc.StatusCode.UNAUTHENTICATED, "bearer token"),
        ("Bearer unheard", node_of("a", "bookinfo"), grpc.StatusCode.UNAVAILABLE, "nobody can tell"),
        ("Bearer forged", node_of("a", "bookinfo"), grpc.StatusCode.UNAUTHENTICATED, "not of this mesh"),
        ("Bearer reviews", node_of("a", "other"), grpc.StatusCode.PERMISSION_DENIED, "'other'"),
        (
            "Bearer reviews",
            node_of("a", "bookinfo", SERVICE_ACCOUNT="ratings"),
            grpc.StatusCode.PERMISSION_DENIED,
            "'ratings'",
        ),
    ],
)
async def test_over_tls_a_proxy_must_authenticate(
    token: str | None, node: Node, code: grpc.StatusCode, words: str
) -> None:
    metadata = (("authorization", token),) if token else ()
    generator = FakeGenerator()
    async with (
        serving(generator, authenticate=known_tokens, tls=trustme.CA()) as (xds, channel, _),
        SotwClient(channel, node, metadata=metadata) as client,
    ):
        xds.set_snapshot(MeshSnapshot(), FULL)
        await client.subscribe(CLUSTER)
        refused, details = await client.failure()
        assert refused is code
        assert words in details
        assert xds.proxies() == []


async def test_over_tls_a_proxy_with_its_own_token_is_served() -> None:
    generator = FakeGenerator()
    generator.put(cluster("a"))
    node = node_of("a", "bookinfo", SERVICE_ACCOUNT="reviews")
    async with (
        serving(generator, authenticate=known_tokens, tls=trustme.CA()) as (xds, channel, _),
        SotwClient(channel, node, metadata=(("authorization", "Bearer reviews"),)) as client,
    ):
        xds.set_snapshot(MeshSnapshot(), FULL)
        await client.subscribe(CLUSTER)
        await client.accept(CLUSTER)


async def test_plaintext_requires_no_token() -> None:
    generator = FakeGenerator()
    async with (
        serving(generator, authenticate=known_tokens) as (xds, channel, _),
        SotwClient(channel, node_of("a")) as client,
    ):
        xds.set_snapshot(MeshSnapshot(), FULL)
        await client.subscribe(CLUSTER)
        await client.accept(CLUSTER)


# --- identification of proxies in a cluster

REVIEWS_TOKEN = (("authorization", "Bearer reviews"),)


class LabelGenerator(FakeGenerator):
    """One cluster, which is named after the labels of the subscribing proxy."""

    def build(
        self, type_url: str, snapshot: MeshSnapshot, proxy: Proxy, names: Collection[str] | None
    ) -> Mapping[str, Message]:
        if type_url != CLUSTER:
            return {}
        name = ",".join(f"{label}={value}" for label, value in sorted(proxy.labels.items()))
        return {name: cluster(name)}


def cluster_of(**labels: str) -> MeshSnapshot:
    """A mesh of one Pod."""
    pod = Workload(
        name="a",
        namespace="bookinfo",
        address="",
        labels=labels,
        service_account="reviews",
        registry=Registry.KUBERNETES,
        uid="1",
    )
    return MeshSnapshot(known_workloads=KnownWorkloads(pods={("bookinfo", "a"): pod}))


@asynccontextmanager
async def proxy_in_cluster(
    *, patience_s: float = 60.0, **metadata: Any
) -> AsyncIterator[tuple[XdsServer, DeltaClient]]:
    """A proxy that has sent its token and its node, and subscribes to clusters."""
    async with (
        serving(
            LabelGenerator(),
            authenticate=known_tokens,
            tls=trustme.CA(),
            knows_all=True,
            workload_patience_s=patience_s,
        ) as (xds, channel, _),
        DeltaClient(channel, node_of("a", "bookinfo", **metadata), metadata=REVIEWS_TOKEN) as client,
    ):
        xds.set_snapshot(MeshSnapshot(), FULL)
        await client.subscribe(CLUSTER)
        yield xds, client


async def test_a_proxy_waits_until_its_pod_is_known_and_gets_its_properties() -> None:
    async with proxy_in_cluster() as (xds, client):
        assert xds.proxies() == []
        xds.set_snapshot(cluster_of(app="reviews"), SnapshotChange(full=False))
        response = await client.accept(CLUSTER)
        assert [each.name for each in response.resources] == ["app=reviews"]


async def test_a_proxy_whose_pod_stays_unknown_is_rejected_with_the_reason() -> None:
    async with proxy_in_cluster(patience_s=0.0) as (xds, client):
        code, details = await client.failure()
        assert code is grpc.StatusCode.UNAVAILABLE
        assert "the Pod or WorkloadEntry bookinfo/a does not exist" in details
        assert xds.proxies() == []


async def test_a_proxy_that_contradicts_its_pod_is_rejected_with_the_reason() -> None:
    async with proxy_in_cluster(LABELS={"app": "ratings"}) as (xds, client):
        xds.set_snapshot(cluster_of(app="reviews"), SnapshotChange(full=False))
        code, details = await client.failure()
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert "does not match Pod bookinfo/a: its label app is 'ratings', expected 'reviews'" in details
        assert xds.proxies() == []


async def test_changed_labels_of_a_pod_are_pushed_to_its_proxy_only() -> None:
    async with proxy_in_cluster(LABELS={"app": "reviews"}) as (xds, client):
        xds.set_snapshot(cluster_of(app="reviews"), SnapshotChange(full=False))
        await client.accept(CLUSTER)
        xds.set_snapshot(cluster_of(app="legacy"), SnapshotChange(full=False))
        response = await client.accept(CLUSTER)
        assert [each.name for each in response.resources] == ["app=legacy"]


async def test_a_reconnecting_proxy_gets_the_current_labels_of_its_pod() -> None:
    async with serving(LabelGenerator(), authenticate=known_tokens, tls=trustme.CA(), knows_all=True) as (
        xds,
        channel,
        _,
    ):
        xds.set_snapshot(cluster_of(app="legacy"), FULL)
        node = node_of("a", "bookinfo", LABELS={"app": "reviews"})
        async with DeltaClient(channel, node, metadata=REVIEWS_TOKEN) as client:
            await client.subscribe(CLUSTER, has={"app=reviews": "1"})
            response = await client.accept(CLUSTER)
            assert [each.name for each in response.resources] == ["app=legacy"]


async def test_the_stream_of_a_deleted_pod_ends_with_the_reason() -> None:
    async with proxy_in_cluster() as (xds, client):
        xds.set_snapshot(cluster_of(app="reviews"), SnapshotChange(full=False))
        await client.accept(CLUSTER)
        xds.set_snapshot(MeshSnapshot(), SnapshotChange(full=False))
        code, details = await client.failure()
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert "its Pod bookinfo/a was deleted" in details
