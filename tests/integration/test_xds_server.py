"""The ADS server over real sockets, with hand-written clients."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import trustme
from envoy.config.core.v3.base_pb2 import Node
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest
from google.protobuf.message import Message
from prometheus_client import CollectorRegistry

from controlplane.errors import AuthorityUnavailableError, UnauthenticatedError
from controlplane.model.known_workloads import KnownWorkloads
from controlplane.model.proxy import Caller, Proxy
from controlplane.model.service import Registry, Workload
from controlplane.model.snapshot import MeshSnapshot, SnapshotChange
from controlplane.xds.server import SERVER_OPTIONS, Authenticate, XdsServer
from controlplane.xds.status import ProxyStatus, SyncState
from protos.spiffe import SpiffeId
from protos.type_urls import CLUSTER, ENDPOINT, LISTENER, ROUTE
from tests.support.ads_client import DeltaClient, SotwClient, node_of
from tests.support.bookinfo_mesh import bookinfo
from tests.support.metrics import MOVED_IN, moved
from tests.support.xds_exchange import names_in, outline
from tests.support.xds_world import FULL, FakeGenerator, cluster, endpoints, listener, route

REVIEWS = "outbound|9080||reviews"
RATINGS = "outbound|9080||ratings"


@dataclass
class Mesh:
    generator: FakeGenerator
    server: XdsServer
    registry: CollectorRegistry
    channel: grpc.aio.Channel
    target: str
    generation: int = 0

    def publish(self, change: SnapshotChange = FULL) -> None:
        self.generation += 1
        self.server.set_snapshot(MeshSnapshot(generation=self.generation), change)

    def endpoints_changed(self, *hostnames: str) -> None:
        self.publish(SnapshotChange(full=False, endpoints=frozenset(hostnames)))

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0

    def narrow_channel(self) -> grpc.aio.Channel:
        """A channel with small transport buffers, so that unread responses stay in the server."""
        return grpc.aio.insecure_channel(self.target, options=[("grpc.http2.bdp_probe", 0)])

    @property
    def status(self) -> ProxyStatus:
        [only] = self.server.proxies()
        return only


@asynccontextmanager
async def serving(
    generator: FakeGenerator,
    *,
    registry: CollectorRegistry | None = None,
    authenticate: Authenticate | None = None,
    tls: trustme.CA | None = None,
    knows_all: bool = False,
    workload_patience_s: float = 60.0,
) -> AsyncIterator[tuple[XdsServer, grpc.aio.Channel, str]]:
    """A server on a separate port, a channel to it, and its address."""
    xds = XdsServer(
        generator,
        registry=registry or CollectorRegistry(),
        authenticate=authenticate,
        knows_all=knows_all,
        workload_patience_s=workload_patience_s,
        write_timeout_s=0.5,
    )
    server = grpc.aio.server(options=SERVER_OPTIONS)
    xds.add_to(server)
    if tls is None:
        target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        channel = grpc.aio.insecure_channel(target)
    else:
        leaf = tls.issue_cert("127.0.0.1")
        pair = (leaf.private_key_pem.bytes(), leaf.cert_chain_pems[0].bytes())
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
        target = f"127.0.0.1:{port}"
        roots = grpc.ssl_channel_credentials(tls.cert_pem.bytes())
        channel = grpc.aio.secure_channel(target, roots)
    await server.start()
    try:
        async with channel:
            yield xds, channel, target
    finally:
        await xds.close()
        await server.stop(None)


@pytest.fixture
async def mesh() -> AsyncIterator[Mesh]:
    generator, registry = FakeGenerator(), CollectorRegistry()
    generator.put(
        cluster(REVIEWS), cluster(RATINGS), endpoints(REVIEWS), endpoints(RATINGS), listener("l"), route("r")
    )
    async with serving(generator, registry=registry) as (xds, channel, target):
        mesh = Mesh(generator, xds, registry, channel, target)
        mesh.publish()
        yield mesh


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def stream_tasks() -> list[str]:
    names = (task.get_name() for task in asyncio.all_tasks())
    return [name for name in names if name.startswith(("xds-read", "xds-write"))]


async def test_an_envoy_gets_its_configuration_and_later_changes(mesh: Mesh) -> None:
    async with SotwClient(mesh.channel, node_of("envoy")) as envoy:
        await envoy.subscribe(CLUSTER)
        assert names_in(await envoy.accept(CLUSTER)) == {REVIEWS, RATINGS}
        await envoy.subscribe(ENDPOINT, REVIEWS, RATINGS)
        assert names_in(await envoy.accept(ENDPOINT)) == {REVIEWS, RATINGS}
        await envoy.subscribe(LISTENER)
        await envoy.accept(LISTENER)
        await envoy.subscribe(ROUTE, "r")
        await envoy.accept(ROUTE)
        await until(lambda: all(each.state is SyncState.SYNCED for each in mesh.status.types.values()))

        mesh.generator.put(endpoints(REVIEWS, 1), endpoints(RATINGS, 1))
        mesh.endpoints_changed("reviews")
        assert names_in(await envoy.accept(ENDPOINT)) == {REVIEWS}

        mesh.generator.put(cluster(REVIEWS, 1), route("r", 1))
        mesh.publish()
        await envoy.accept(CLUSTER)
        assert names_in(await envoy.accept(ENDPOINT)) == {REVIEWS, RATINGS}
        await envoy.accept(ROUTE)
        assert mesh.metric("pilot_xds_pushes_total", type="cds") == 2
        assert mesh.metric("pilot_xds_pushes_total", type="eds") == 3
        assert mesh.metric("pilot_xds_pushes_total", type="lds") == 1


async def test_a_sidecar_gets_only_what_changed(mesh: Mesh) -> None:
    async with DeltaClient(mesh.channel, node_of("sidecar")) as sidecar:
        await sidecar.follow(2)
        mesh.generator.put(endpoints(RATINGS, 1))
        mesh.endpoints_changed("ratings")
        assert outline([await sidecar.accept(ENDPOINT)]) == [("eds", {RATINGS})]
        mesh.generator.remove(CLUSTER, REVIEWS)
        mesh.generator.remove(ENDPOINT, REVIEWS)
        mesh.publish()
        assert outline([await sidecar.accept(CLUSTER)]) == [("cds", {f"-{REVIEWS}"})]
        assert outline([await sidecar.accept(ENDPOINT)]) == [("eds", {f"-{REVIEWS}"})]


async def test_routes_wait_for_the_clusters_they_need(mesh: Mesh) -> None:
    async with DeltaClient(mesh.channel, node_of("sidecar")) as sidecar:
        await sidecar.follow(2)
        await sidecar.subscribe(ROUTE, "r")
        await sidecar.accept(ROUTE)
        mesh.generator.put(cluster("new"), endpoints("new"), route("r", 1))
        mesh.publish()
        clusters = await sidecar.receive(CLUSTER)
        await sidecar.subscribe(ENDPOINT, "new")
        await sidecar.accept(ENDPOINT)
        assert mesh.metric("pilot_xds_pushes_total", type="rds") == 1
        await sidecar.acknowledge(clusters)
        assert outline([await sidecar.accept(ROUTE)]) == [("rds", {"r"})]


async def test_a_rejection_is_reported_with_its_reason_and_the_version_in_force(mesh: Mesh) -> None:
    async with DeltaClient(mesh.channel, node_of("sidecar")) as sidecar:
        await sidecar.subscribe(LISTENER)
        good = await sidecar.accept(LISTENER)
        await until(lambda: mesh.status.types["lds"].state is SyncState.SYNCED)
        mesh.generator.put(listener("l", 1))
        mesh.publish()
        bad = await sidecar.receive(LISTENER)
        await sidecar.acknowledge(bad, error="l: port 80 is taken")
        await until(lambda: mesh.status.types["lds"].state is SyncState.ERROR)
        status = mesh.status.types["lds"]
        assert status.rejection == "l: port 80 is taken"
        assert status.rejected_version == bad.system_version_info
        assert status.accepted_version == good.system_version_info
        assert mesh.metric("pilot_total_xds_rejects_total", type="lds") == 1
        assert mesh.metric("pilot_xds_lds_reject") == 1
        mesh.generator.put(listener("l", 2))
        mesh.publish()
        await sidecar.accept(LISTENER)
        await until(lambda: mesh.status.types["lds"].state is SyncState.SYNCED)
        assert mesh.metric("pilot_xds_lds_reject") == 0


async def test_after_a_reconnect_only_the_difference_is_sent(mesh: Mesh) -> None:
    async with DeltaClient(mesh.channel, node_of("sidecar")) as sidecar:
        await sidecar.subscribe(CLUSTER)
        first = await sidecar.accept(CLUSTER)
    has = {resource.name: resource.version for resource in first.resources}
    mesh.generator.put(cluster(RATINGS, 1))
    mesh.publish()
    async with DeltaClient(mesh.channel, node_of("sidecar")) as again:
        await again.subscribe(CLUSTER, has=has)
        assert outline([await again.receive(CLUSTER)]) == [("cds", {RATINGS})]


async def test_versions_survive_a_restart_of_the_control_plane(mesh: Mesh) -> None:
    async with DeltaClient(mesh.channel, node_of("sidecar")) as sidecar:
        await sidecar.subscribe(CLUSTER)
        first = await sidecar.accept(CLUSTER)
    has = {resource.name: resource.version for resource in first.resources}
    generator = FakeGenerator()
    generator.put(cluster(REVIEWS), cluster(RATINGS))
    async with (
        serving(generator) as (restarted, channel, _),
        DeltaClient(channel, node_of("sidecar")) as sidecar,
    ):
        restarted.set_snapshot(MeshSnapshot(), FULL)
        await sidecar.subscribe(CLUSTER, has=has)
        assert outline([await sidecar.receive(CLUSTER)]) == [("cds", set())]


async def test_a_stale_request_is_ignored(mesh: Mesh) -> None:
    async with SotwClient(mesh.channel, node_of("envoy")) as envoy:
        await envoy.subscribe(ENDPOINT, REVIEWS)
        first = await envoy.receive(ENDPOINT)
        mesh.generator.put(endpoints(REVIEWS, 1))
        mesh.endpoints_changed("reviews")
        second = await envoy.receive(ENDPOINT)
        await envoy.subscribe(ENDPOINT, REVIEWS, RATINGS, nonce=first.nonce)
        await envoy.subscribe(ENDPOINT, RATINGS, nonce=second.nonce)
        assert names_in(await envoy.receive(ENDPOINT)) == {RATINGS}


async def test_endpoints_are_not_sent_to_proxies_without_a_subscription(mesh: Mesh) -> None:
    async with DeltaClient(mesh.channel, node_of("sidecar")) as sidecar:
        await sidecar.subscribe(ENDPOINT, REVIEWS)
        await sidecar.accept(ENDPOINT)
        mesh.generator.built.clear()
        mesh.endpoints_changed("ratings")
        mesh.generator.put(endpoints(REVIEWS, 1))
        mesh.endpoints_changed("reviews")
        await sidecar.receive(ENDPOINT)
        assert mesh.generator.built == [(ENDPOINT, [REVIEWS])]


async def test_a_proxy_may_connect_before_there_is_a_mesh() -> None:
    generator = FakeGenerator()
    async with (
        serving(generator) as (xds, channel, _),
        DeltaClient(channel, node_of("early")) as early,
    ):
        await early.subscribe(CLUSTER)
        await until(lambda: len(xds.proxies()) == 1 and "cds" in xds.proxies()[0].types)
        generator.put(cluster("a"))
        # The first snapshot is pushed to all proxies, regardless of its changes.
        xds.set_snapshot(MeshSnapshot(), SnapshotChange(full=False))
        assert outline([await early.receive(CLUSTER)]) == [("cds", {"a"})]


async def test_two_streams_of_one_proxy_are_independent(mesh: Mesh) -> None:
    node = node_of("sidecar")
    async with DeltaClient(mesh.channel, node) as new:
        async with DeltaClient(mesh.channel, node) as old:
            await old.subscribe(CLUSTER)
            await old.accept(CLUSTER)
            await new.subscribe(LISTENER)
            await new.accept(LISTENER)
            ids = [(status.proxy_id, set(status.types)) for status in mesh.server.proxies()]
            assert ids == [(node.id, {"cds"}), (node.id, {"lds"})]
            dump = mesh.server.config_dump(node.id)
            assert [config["@type"].rsplit(".", 1)[-1] for config in dump["configs"]] == [
                "ListenersConfigDump"
            ]
        await until(lambda: len(mesh.server.proxies()) == 1)
        mesh.generator.put(listener("l", 1))
        mesh.publish()
        await new.accept(LISTENER)


async def test_the_sent_configuration_can_be_dumped_in_envoys_format(mesh: Mesh) -> None:
    async with DeltaClient(mesh.channel, node_of("sidecar")) as sidecar:
        await sidecar.follow(2)
        await sidecar.subscribe(ROUTE, "r")
        await sidecar.accept(ROUTE)
        dump = mesh.server.config_dump(sidecar.node.id)
        by_type = {config["@type"].rsplit(".", 1)[-1]: config for config in dump["configs"]}
        clusters = by_type["ClustersConfigDump"]["dynamic_active_clusters"]
        assert {each["cluster"]["name"] for each in clusters} == {REVIEWS, RATINGS}
        assert clusters[0]["cluster"]["@type"] == CLUSTER
        [dumped] = by_type["RoutesConfigDump"]["dynamic_route_configs"]
        assert dumped["route_config"]["name"] == "r"
        assert len(by_type["EndpointsConfigDump"]["dynamic_endpoint_configs"]) == 2


async def test_a_disconnected_proxy_leaves_nothing(mesh: Mesh) -> None:
    async with DeltaClient(mesh.channel, node_of("sidecar")) as sidecar:
        await sidecar.follow(2)
        assert mesh.metric("pilot_xds", version="unknown") == 1
    await until(lambda: mesh.server.proxies() == [])
    assert mesh.registry.get_sample_value("pilot_xds", {"version": "unknown"}) is None
    await until(lambda: not stream_tasks())


async def test_proxies_that_vanish_during_a_push_do_not_affect_others(mesh: Mesh) -> None:
    for number in range(500):
        mesh.generator.put(cluster(f"c{number}"))
    async with DeltaClient(mesh.channel, node_of("stays")) as stays:
        for number in range(10):
            async with DeltaClient(mesh.channel, node_of(f"goes-{number}")) as goes:
                await goes.subscribe(CLUSTER)
                await until(lambda: len(mesh.server.proxies()) > 0)
        await stays.subscribe(CLUSTER)
        assert len(names_in(await stays.accept(CLUSTER))) == 502
    await until(lambda: mesh.server.proxies() == [])
    assert mesh.metric("pilot_total_xds_internal_errors_total") == 0


async def test_a_proxy_that_does_not_read_delays_no_other_and_gets_the_latest_when_it_reads(
    mesh: Mesh,
) -> None:
    big = listener("l")
    big.stat_prefix = "x" * 3_000_000
    mesh.generator.put(big)
    async with (
        mesh.narrow_channel() as channel,
        DeltaClient(channel, node_of("deaf")) as deaf,
        DeltaClient(mesh.channel, node_of("fine")) as fine,
    ):
        await deaf.subscribe(LISTENER)
        await deaf.subscribe(CLUSTER)
        await until(lambda: mesh.metric("pilot_xds_pushes_total", type="lds") == 1)
        await fine.subscribe(CLUSTER)
        await fine.accept(CLUSTER)
        for content in range(1, 6):
            mesh.generator.put(listener("l", content))
            mesh.generator.put(cluster(RATINGS, content))
            mesh.publish()
            assert outline([await fine.accept(CLUSTER)]) == [("cds", {RATINGS})]
        await until(lambda: mesh.metric("pilot_xds_write_timeout_total") == 1)
        assert mesh.metric("pilot_xds_pushes_total", type="lds") == 1
        assert outline([await deaf.accept(LISTENER)]) == [("lds", {"l"})]
        await deaf.accept(CLUSTER)
        latest = await deaf.accept(LISTENER)
        assert latest.resources[0].resource.value == listener("l", 5).SerializeToString()


async def test_a_proxy_that_does_not_read_finally_receives_the_status(mesh: Mesh) -> None:
    big = listener("l")
    big.stat_prefix = "x" * 3_000_000
    mesh.generator.put(big)
    async with mesh.narrow_channel() as channel, DeltaClient(channel, node_of("deaf")) as deaf:
        await deaf.subscribe(LISTENER)
        await until(lambda: mesh.metric("pilot_xds_pushes_total", type="lds") == 1)
        await deaf.subscribe(ENDPOINT, "")
        await until(lambda: mesh.server.proxies() == [])
        await deaf.receive(LISTENER)
        code, details = await deaf.failure()
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "0 characters" in details


async def test_a_proxy_that_vanishes_while_it_is_written_to_leaves_nothing(mesh: Mesh) -> None:
    big = listener("l")
    big.stat_prefix = "x" * 3_000_000
    mesh.generator.put(big)
    async with mesh.narrow_channel() as channel, DeltaClient(channel, node_of("deaf")) as deaf:
        await deaf.subscribe(LISTENER)
        await until(lambda: mesh.metric("pilot_xds_write_timeout_total") == 1)
    await until(lambda: mesh.server.proxies() == [] and not stream_tasks())


async def test_a_builder_that_fails_for_one_type_leaves_the_others_alone(
    mesh: Mesh, caplog: pytest.LogCaptureFixture
) -> None:
    mesh.generator.broken.add(LISTENER)
    async with DeltaClient(mesh.channel, node_of("sidecar")) as sidecar:
        await sidecar.subscribe(LISTENER)
        await sidecar.follow(2)
        assert "cannot build lds" in caplog.text
        assert mesh.metric("pilot_total_xds_internal_errors_total") >= 1
        mesh.generator.broken.clear()
        mesh.publish()
        await sidecar.accept(LISTENER)


async def test_everything_is_counted(mesh: Mesh) -> None:
    large = bookinfo()
    big = listener("l")
    big.stat_prefix = "x" * 3_000_000
    async with (
        DeltaClient(mesh.channel, node_of("sidecar")) as sidecar,
        mesh.narrow_channel() as channel,
        DeltaClient(channel, node_of("deaf")) as deaf,
    ):
        for type_url, *names in ((CLUSTER,), (ENDPOINT, REVIEWS, RATINGS), (LISTENER,), (ROUTE, "r")):
            await sidecar.subscribe(type_url, *names)
            await sidecar.acknowledge(await sidecar.receive(type_url))
        mesh.generator.put(cluster(REVIEWS, 1), endpoints(RATINGS, 1), big, route("r", 1))
        mesh.server.set_snapshot(dataclasses.replace(large, generation=2), FULL)
        for type_url in (CLUSTER, ENDPOINT, LISTENER, ROUTE):
            await sidecar.acknowledge(await sidecar.receive(type_url), error="no")
        await deaf.subscribe(LISTENER)
        await until(lambda: mesh.metric("pilot_xds_write_timeout_total") == 1)
        mesh.generator.broken.add(ROUTE)
        mesh.server.set_snapshot(dataclasses.replace(large, generation=3), FULL)
        expected = MOVED_IN["integration/test_xds_server.py"]
        await until(lambda: moved(mesh.registry) == expected)


async def test_a_proxy_that_was_not_sent_the_newest_is_stale(mesh: Mesh) -> None:
    async with DeltaClient(mesh.channel, node_of("sidecar")) as sidecar:
        await sidecar.subscribe(LISTENER)
        await sidecar.accept(LISTENER)
        await until(lambda: mesh.status.types["lds"].state is SyncState.SYNCED)
        mesh.generator.broken.add(LISTENER)
        mesh.publish()
        await until(lambda: mesh.metric("pilot_total_xds_internal_errors_total") >= 1)
        assert mesh.status.types["lds"].state is SyncState.STALE


@pytest.mark.parametrize("client_type", [SotwClient, DeltaClient])
@pytest.mark.parametrize(
    ("node", "words"),
    [
        (Node(), "node.id"),
        (Node(id="garbage"), "'garbage'"),
        (node_of("a", NAMESPACE="other"), "NAMESPACE"),
    ],
)
async def test_an_invalid_node_is_rejected_with_the_reason(
    mesh: Mesh, client_type: type[SotwClient | DeltaClient], node: Node, words: str
) -> None:
    async with client_type(mesh.channel, node) as client:
        await client.subscribe(CLUSTER)
        code, details = await client.failure()
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert words in details
    assert mesh.server.proxies() == []


async def test_too_many_names_end_the_stream(mesh: Mesh) -> None:
    async with DeltaClient(mesh.channel, node_of("greedy")) as greedy:
        await greedy.subscribe(CLUSTER)
        await greedy.receive(CLUSTER)
        await greedy.subscribe(ENDPOINT, *(str(number) for number in range(60_000)))
        code, details = await greedy.failure()
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "60000 subscribed resource names" in details


async def test_a_request_too_large_ends_the_stream(mesh: Mesh) -> None:
    async with DeltaClient(mesh.channel, node_of("greedy")) as greedy:
        await greedy.subscribe(ENDPOINT, *("x" * 1000 + str(number) for number in range(6_000)))
        code, _ = await greedy.failure()
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert mesh.server.proxies() == []


@pytest.mark.parametrize("after_the_first", [False, True])
async def test_malformed_bytes_end_the_stream(mesh: Mesh, after_the_first: bool) -> None:
    method = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
    call = mesh.channel.stream_stream(method)()
    if after_the_first:
        request = DeltaDiscoveryRequest(node=node_of("a"), type_url=CLUSTER)
        await call.write(request.SerializeToString())
        await call.read()
    await call.write(b"\xff\xff garbage")
    assert await asyncio.wait_for(call.code(), 10) is grpc.StatusCode.INVALID_ARGUMENT
    await until(lambda: mesh.server.proxies() == [])


async def test_a_type_that_is_not_served_does_not_end_the_stream(
    mesh: Mesh, caplog: pytest.LogCaptureFixture
) -> None:
    async with SotwClient(mesh.channel, node_of("envoy")) as envoy:
        secret = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
        await envoy.subscribe(secret, "default")
        await envoy.subscribe(secret, "default")
        await envoy.subscribe(CLUSTER)
        await envoy.accept(CLUSTER)
    assert caplog.text.count("which is not served") == 1


async def test_closing_ends_every_stream_with_a_status(mesh: Mesh) -> None:
    async with DeltaClient(mesh.channel, node_of("sidecar")) as sidecar:
        await sidecar.follow(2)
        await mesh.server.close()
        code, details = await sidecar.failure()
        assert code is grpc.StatusCode.UNAVAILABLE
        assert "stopping" in details


async def test_a_proxy_that_hangs_up_is_not_a_failure(mesh: Mesh) -> None:
    async with DeltaClient(mesh.channel, node_of("sidecar")) as sidecar:
        await sidecar.subscribe(CLUSTER)
        await sidecar.accept(CLUSTER)
        await sidecar.call.done_writing()
        assert (await sidecar.failure())[0] is grpc.StatusCode.OK


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
