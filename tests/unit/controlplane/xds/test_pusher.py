"""Pushes without sockets: to which proxies, when and how often."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

import pytest
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest
from google.protobuf.message import Message
from prometheus_client import CollectorRegistry

from controlplane.model.proxy import Proxy, ProxyRejection, ProxyType
from controlplane.model.service import ServiceEndpoint, Workload
from controlplane.model.snapshot import MeshSnapshot, ResourceKey, SnapshotChange
from controlplane.xds.connections import Connection, Connections
from controlplane.xds.delta import DeltaStream
from controlplane.xds.identification import Claims, Identified
from controlplane.xds.metrics import XdsMetrics
from controlplane.xds.pusher import Pusher
from protos.type_urls import CLUSTER, ENDPOINT, NAME_TABLE, NAME_TABLE_NAME, ROUTE
from tests.support.xds_exchange import outline
from tests.support.xds_world import FULL, FakeGenerator, cluster, endpoints, name_table, route


class Harness:
    """Proxies that read when the test lets them."""

    def __init__(self) -> None:
        self.mesh = FakeGenerator()
        self.registry = CollectorRegistry()
        self.connections = Connections()
        self.now = 1000.0
        self.pusher = Pusher(self.mesh, self.connections, XdsMetrics(self.registry), clock=lambda: self.now)
        self.pusher.start()

    def connect(self, workload: str = "w") -> Connection:
        proxy = Proxy(id=workload, type=ProxyType.SIDECAR, namespace="default", workload=workload, ip="")
        connection = Connection(
            connection_id=self.connections.next_id(proxy),
            claims=Claims(proxy=proxy, caller=None, remote=False),
            identified=Identified(proxy=proxy, workload=None),
            version="",
            peer="",
            stream=DeltaStream("d"),
            now=self.now,
        )
        self.connections.add(connection)
        return connection

    async def follow(self, resource: Message, type_url: str, *names: str) -> Connection:
        """Connects a proxy, which subscribes to the type or to names, and acknowledges the resource of
        generation 1."""
        self.mesh.put(resource)
        connection = self.connect()
        self.pusher.set_snapshot(MeshSnapshot(generation=1), FULL)
        self.say(connection, type_url, *names)
        await self.read(connection)
        return connection

    def say(self, connection: Connection, type_url: str, *names: str, nonce: str = "") -> None:
        request = DeltaDiscoveryRequest(
            type_url=type_url, resource_names_subscribe=names, response_nonce=nonce
        )
        connection.stream.receive(request, self.now)
        self.pusher.look_after(connection)

    async def read(self, connection: Connection, *, answer: bool = True) -> list[tuple[str, set[str]]]:
        """Reads one response, which the proxy acknowledges."""
        response: object = await asyncio.wait_for(connection.next_response(), 5)
        self.written(connection)
        if answer:
            self.say(connection, response.type_url, nonce=response.nonce)  # type: ignore[attr-defined]
        return outline([response])

    def written(self, connection: Connection) -> None:
        connection.written()
        if connection.drained:
            self.pusher.drained(connection)

    def pushes(self, short: str) -> float:
        return self.registry.get_sample_value("pilot_xds_pushes_total", {"type": short}) or 0.0


@pytest.fixture
async def harness() -> AsyncIterator[Harness]:
    harness = Harness()
    yield harness
    await harness.pusher.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


def snapshot(**workloads: str) -> MeshSnapshot:
    """Returns one workload for each service, by hostname."""
    return MeshSnapshot(
        endpoints={
            hostname: (
                ServiceEndpoint(
                    service_port="http",
                    address="",
                    port=1,
                    workload=Workload(name=name, namespace="default", address=""),
                ),
            )
            for hostname, name in workloads.items()
        }
    )


def endpoints_of(*hostnames: str) -> SnapshotChange:
    return SnapshotChange(full=False, endpoints=frozenset(hostnames))


async def test_changes_that_come_while_a_proxy_reads_become_one_push(harness: Harness) -> None:
    harness.mesh.put(cluster("a"))
    proxy = harness.connect()
    harness.pusher.set_snapshot(snapshot(), FULL)
    harness.say(proxy, CLUSTER)
    await until(lambda: harness.pushes("cds") == 1)
    for content in range(1, 10):
        harness.mesh.put(cluster("a", content))
        harness.pusher.set_snapshot(snapshot(), FULL)
        await asyncio.sleep(0)
    assert harness.pushes("cds") == 1
    assert await harness.read(proxy) == [("cds", {"a"})]
    assert await harness.read(proxy) == [("cds", {"a"})]
    assert harness.pushes("cds") == 2
    held = proxy.stream.watches[CLUSTER].held["a"].message
    assert held == cluster("a", 9)


async def test_convergence_is_measured_until_the_proxy_was_written_to(harness: Harness) -> None:
    harness.mesh.put(cluster("a"))
    proxy = harness.connect()
    harness.say(proxy, CLUSTER)
    harness.pusher.set_snapshot(snapshot(), FULL)
    await until(lambda: harness.pushes("cds") == 1)
    assert harness.registry.get_sample_value("pilot_proxy_convergence_time_count") == 0
    harness.now += 7
    await harness.read(proxy)
    assert harness.registry.get_sample_value("pilot_proxy_convergence_time_sum") == 7


async def test_a_change_is_one_log_line_for_all_proxies(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    harness.mesh.put(cluster("a"))
    proxies = [harness.connect(str(number)) for number in range(20)]
    for proxy in proxies:
        harness.say(proxy, CLUSTER)
    keys = [ResourceKey(kind="VirtualService", namespace="default", name=name) for name in "abcde"]
    harness.pusher.set_snapshot(
        MeshSnapshot(generation=7), SnapshotChange(full=True, configs=frozenset(keys))
    )
    for proxy in proxies:
        await harness.read(proxy)
    assert caplog.messages == [
        "snapshot 7, for 20 proxies: VirtualService default/a, VirtualService default/b, "
        "VirtualService default/c and 2 more"
    ]


async def test_endpoints_are_sent_to_their_subscribers(harness: Harness) -> None:
    harness.mesh.put(endpoints("a"), endpoints("b"))
    follows_a, follows_b = harness.connect("1"), harness.connect("2")
    harness.pusher.set_snapshot(snapshot(), FULL)
    for proxy, name in ((follows_a, "a"), (follows_b, "b")):
        harness.say(proxy, ENDPOINT, name)
        await harness.read(proxy)
    harness.mesh.built.clear()
    harness.mesh.put(endpoints("a", 1), endpoints("b", 1))
    harness.pusher.set_snapshot(snapshot(), endpoints_of("a"))
    assert await harness.read(follows_a) == [("eds", {"a"})]
    assert harness.mesh.built == [(ENDPOINT, ["a"])]


async def test_addresses_of_a_headless_service_affect_more_than_endpoints_only_for_its_clients(
    harness: Harness,
) -> None:
    harness.mesh.put(cluster("a"), endpoints("a"))
    dials, balances, other = (harness.connect(name) for name in ("dials", "balances", "other"))
    harness.mesh.dialling = {"dials"}
    harness.pusher.set_snapshot(snapshot(), FULL)
    for proxy in (dials, balances, other):
        harness.say(proxy, CLUSTER)
        await harness.read(proxy)
    harness.say(balances, ENDPOINT, "a")
    await harness.read(balances)
    harness.mesh.built.clear()
    harness.mesh.put(cluster("a", 1), endpoints("a", 1))
    change = SnapshotChange(full=False, endpoints=frozenset({"a"}), addresses=frozenset({"a"}))
    harness.pusher.set_snapshot(snapshot(), change)
    assert await harness.read(dials) == [("cds", {"a"})]
    assert await harness.read(balances) == [("eds", {"a"})]
    assert harness.mesh.built == [(CLUSTER, None), (ENDPOINT, ["a"])]


async def test_pods_that_become_ready_are_in_the_name_tables_of_their_clients_alone(harness: Harness) -> None:
    harness.mesh.put(name_table("10.0.0.1"), cluster("a"))
    resolves, blind, plain = (harness.connect(name) for name in ("resolves", "blind", "plain"))
    harness.mesh.dialling = {"resolves", "plain"}
    harness.pusher.set_snapshot(snapshot(), FULL)
    for proxy, type_url in ((resolves, NAME_TABLE), (blind, NAME_TABLE), (plain, CLUSTER)):
        harness.say(proxy, type_url)
        await harness.read(proxy)
    harness.mesh.built.clear()
    harness.mesh.put(name_table("10.0.0.2"))
    harness.pusher.set_snapshot(
        snapshot(), SnapshotChange(full=False, endpoints=frozenset({"a"}), names=frozenset({"a"}))
    )
    assert await harness.read(resolves) == [("nds", {NAME_TABLE_NAME})]
    assert harness.mesh.built == [(NAME_TABLE, None)]


@pytest.mark.parametrize(("before", "after"), [("other", "mine"), ("mine", "other")])
async def test_a_change_of_a_proxys_own_endpoints_affects_all_its_types(
    harness: Harness, before: str, after: str
) -> None:
    harness.mesh.put(cluster("inbound"))
    proxy = harness.connect("mine")
    harness.pusher.set_snapshot(snapshot(a=before), FULL)
    harness.say(proxy, CLUSTER)
    await harness.read(proxy)
    harness.mesh.put(cluster("inbound", 1))
    harness.pusher.set_snapshot(snapshot(a=after), endpoints_of("a"))
    assert await harness.read(proxy) == [("cds", {"inbound"})]


async def test_a_wait_for_a_silent_proxy_ends_by_itself(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controlplane.xds.stream.PATIENCE_S", 0.05)
    harness.mesh.put(cluster("a"), route("r"))
    proxy = harness.connect()
    harness.pusher.set_snapshot(snapshot(), FULL)
    harness.say(proxy, CLUSTER)
    assert await harness.read(proxy, answer=False) == [("cds", {"a"})]
    harness.say(proxy, ROUTE, "r")
    assert not proxy.stream.has_work(harness.now)
    await until(lambda: proxy.wake_up is not None)
    harness.now += 0.05
    assert await harness.read(proxy) == [("rds", {"r"})]


async def test_a_removed_proxy_is_not_pushed_to(harness: Harness) -> None:
    harness.mesh.put(cluster("a"))
    proxy = harness.connect()
    harness.pusher.set_snapshot(snapshot(), FULL)
    harness.say(proxy, CLUSTER)
    harness.pusher.forget(proxy)
    harness.connections.remove(proxy)
    other = harness.connect()
    harness.say(other, CLUSTER)
    await harness.read(other)
    assert harness.pushes("cds") == 1


class TestProgress:
    """The generation of the last snapshot that each proxy has acknowledged completely."""

    async def test_it_is_the_snapshot_that_was_acknowledged_last(self, harness: Harness) -> None:
        harness.mesh.put(cluster("a"))
        proxy = harness.connect()
        harness.pusher.set_snapshot(MeshSnapshot(generation=1), FULL)
        harness.say(proxy, CLUSTER)
        assert generations(harness) == [0]
        await harness.read(proxy, answer=False)
        await until(lambda: proxy.drained)
        assert generations(harness) == [0]
        harness.mesh.put(cluster("a", 1))
        harness.pusher.set_snapshot(MeshSnapshot(generation=2), FULL)
        await harness.read(proxy)
        assert generations(harness) == [2]

    async def test_a_response_in_flight_does_not_end_a_rejection(self, harness: Harness) -> None:
        proxy = await harness.follow(cluster("a"), CLUSTER)
        harness.mesh.put(cluster("a", 1))
        harness.pusher.set_snapshot(MeshSnapshot(generation=2), FULL)
        assert generations(harness) == [1]
        await harness.read(proxy)
        assert generations(harness) == [2]

    async def test_a_push_that_finds_nothing_new_needs_no_acknowledgement(self, harness: Harness) -> None:
        await harness.follow(cluster("a"), CLUSTER)
        harness.pusher.set_snapshot(MeshSnapshot(generation=2), FULL)
        await until(lambda: generations(harness) == [2])

    async def test_an_unaffected_proxy_counts_as_up_to_date(self, harness: Harness) -> None:
        await harness.follow(endpoints("a"), ENDPOINT, "a")
        harness.pusher.set_snapshot(MeshSnapshot(generation=2), endpoints_of("b"))
        harness.pusher.set_snapshot(MeshSnapshot(generation=3), endpoints_of("a"))
        # It has a pending push again, but the second snapshot did not affect it.
        assert generations(harness) == [2]
        await until(lambda: generations(harness) == [3])

    async def test_a_proxy_with_a_pending_older_change_does_not_count_as_up_to_date(
        self, harness: Harness
    ) -> None:
        proxy = await harness.follow(endpoints("a"), ENDPOINT, "a")
        harness.mesh.put(endpoints("a", 1))
        harness.pusher.set_snapshot(MeshSnapshot(generation=2), endpoints_of("a"))
        harness.pusher.set_snapshot(MeshSnapshot(generation=3), endpoints_of("b"))
        assert generations(harness) == [1]
        await harness.read(proxy)
        assert generations(harness) == [3]

    async def test_a_rejection_is_quoted_until_it_is_mended(self, harness: Harness) -> None:
        proxy = await harness.follow(cluster("a"), CLUSTER)
        harness.mesh.put(cluster("a", 1))
        harness.pusher.set_snapshot(MeshSnapshot(generation=2), FULL)
        response: object = await asyncio.wait_for(proxy.next_response(), 5)
        harness.written(proxy)
        refusal = DeltaDiscoveryRequest(type_url=CLUSTER, response_nonce=response.nonce)  # type: ignore[attr-defined]
        refusal.error_detail.message = "no such thing"
        proxy.stream.receive(refusal, harness.now)
        harness.pusher.look_after(proxy)
        [progress] = harness.pusher.progress()
        assert (progress.generation, progress.answered) == (1, 2)
        refused = ProxyRejection(type="cds", names=frozenset({"a"}), reason="no such thing")
        assert progress.rejections == (refused,)
        harness.now += 1
        harness.mesh.put(cluster("a", 2))
        harness.pusher.set_snapshot(MeshSnapshot(generation=3), FULL)
        await harness.read(proxy)
        [progress] = harness.pusher.progress()
        assert (progress.generation, progress.answered, progress.rejections) == (3, 3, ())

    async def test_a_proxy_that_came_back_counts_once_by_its_new_stream(self, harness: Harness) -> None:
        harness.mesh.put(cluster("a"))
        before = harness.connect("w")
        harness.pusher.set_snapshot(MeshSnapshot(generation=1), FULL)
        harness.say(before, CLUSTER)
        await harness.read(before)
        harness.say(harness.connect("w"), CLUSTER)
        assert generations(harness) == [0]


def generations(harness: Harness) -> list[int]:
    return [each.generation for each in harness.pusher.progress()]


async def test_only_the_types_that_may_differ_are_built(harness: Harness) -> None:
    harness.mesh.put(cluster("a"), endpoints("a"), route("r"))
    proxy = harness.connect()
    harness.pusher.set_snapshot(MeshSnapshot(generation=1), FULL)
    for type_url, name in ((CLUSTER, "*"), (ENDPOINT, "a"), (ROUTE, "r")):
        harness.say(proxy, type_url, name)
        await harness.read(proxy)
    await until(lambda: generations(harness) == [1])
    harness.mesh.built.clear()

    harness.mesh.put(cluster("a", 2), endpoints("a", 2), route("r", 2))
    harness.pusher.set_snapshot(snapshot(), SnapshotChange(full=False, types=frozenset({ROUTE})))
    assert await harness.read(proxy) == [("rds", {"r"})]
    assert [type_url for type_url, _ in harness.mesh.built] == [ROUTE]


async def test_types_and_endpoints_that_differ_are_one_push(harness: Harness) -> None:
    harness.mesh.put(cluster("a"), endpoints("a"), endpoints("b"))
    proxy = harness.connect()
    harness.pusher.set_snapshot(snapshot(), FULL)
    for type_url, names in ((CLUSTER, ["*"]), (ENDPOINT, ["a", "b"])):
        harness.say(proxy, type_url, *names)
        await harness.read(proxy)
    harness.mesh.built.clear()
    harness.mesh.put(cluster("a", 2), endpoints("a", 2), endpoints("b", 2))
    change = SnapshotChange(full=False, types=frozenset({CLUSTER}), endpoints=frozenset({"a"}))
    harness.pusher.set_snapshot(snapshot(), change)
    assert await harness.read(proxy) == [("cds", {"a"})]
    assert await harness.read(proxy) == [("eds", {"a"})]
    assert dict(harness.mesh.built) == {CLUSTER: None, ENDPOINT: ["a"]}


async def test_a_proxy_that_changed_itself_is_always_pushed_to(harness: Harness) -> None:
    harness.mesh.put(cluster("a"))
    proxies = [harness.connect(name) for name in ("one", "two")]
    harness.pusher.set_snapshot(snapshot(), FULL)
    for each in proxies:
        harness.say(each, CLUSTER)
        await harness.read(each)
    harness.mesh.put(cluster("a", 2))
    harness.pusher.set_snapshot(snapshot(), SnapshotChange(full=False), [proxies[1]])
    assert await harness.read(proxies[1]) == [("cds", {"a"})]
    assert proxies[0].drained
