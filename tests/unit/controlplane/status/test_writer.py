"""Which statuses are written, when, and what happens after a failed write. The API server is a table."""

from __future__ import annotations

import asyncio
import dataclasses

from prometheus_client import CollectorRegistry

from controlplane.model.proxy import ProxyProgress
from controlplane.model.snapshot import ResourceKey, SnapshotChange
from controlplane.model.status import ResourceStatus
from controlplane.status.metrics import StatusMetrics
from controlplane.status.writer import Pace, StatusTiming, StatusWriter
from tests.support.documents import document, virtual_service
from tests.support.meshes import sidecar_proxy
from tests.support.status_cluster import PROXY, Cluster, route


async def test_a_status_is_written_by_the_version_that_the_cluster_serves() -> None:
    cluster = Cluster()
    older = route("a") | {"apiVersion": "networking.istio.io/v1beta1"}
    cluster.put(older)
    assert await cluster.write() == ["a"]
    assert cluster.objects[cluster.path(older)]["status"]["observedGeneration"] == 1
    assert await cluster.write() == []


async def test_each_resource_is_written_once() -> None:
    cluster = Cluster()
    cluster.put(route("a"), route("b"))
    assert await cluster.write() == ["a", "b"]
    assert await cluster.write() == []
    assert cluster.count("outrigger_status_writes_total") == 2


async def test_a_change_of_one_writes_that_one() -> None:
    cluster = Cluster()
    cluster.put(route("a"), route("b"))
    await cluster.write()
    cluster.put({**route("b", 201), "status": cluster.status("b")})
    assert await cluster.write() == ["b"]
    assert cluster.status("b")["observedGeneration"] == 2


async def test_a_resource_that_the_store_has_not_read_yet_is_not_written() -> None:
    """Between the watch's event and the next build, the store speaks of the generation before."""
    cluster = Cluster()
    cluster.put(route("a"))
    newer = route("a", 201)
    newer["metadata"] |= {"generation": 2, "resourceVersion": "2"}
    cluster.tell(newer)
    assert await cluster.write() == []


async def test_a_generation_that_changes_nothing_that_we_read_is_observed_too() -> None:
    cluster = Cluster()
    cluster.put(route("a"))
    await cluster.write()
    cluster.put({**route("a"), "status": cluster.status("a")})
    await cluster.write()
    assert cluster.status("a")["observedGeneration"] == 2


async def test_a_version_counts_as_acknowledged_from_the_snapshot_that_brought_it() -> None:
    cluster = Cluster()
    cluster.put(route("a"), route("b"))  # snapshot 1
    cluster.put(route("a", 201))  # snapshot 2
    cluster.proxies = [ProxyProgress(proxy=sidecar_proxy(), generation=1)]
    await cluster.write()
    assert cluster.status("a")["proxies"] == {"concerned": 1, "acknowledged": 0}
    assert cluster.status("b")["proxies"] == {"concerned": 1, "acknowledged": 1}
    cluster.proxies = [ProxyProgress(proxy=sidecar_proxy(), generation=2)]
    assert await cluster.write() == ["a"]
    assert cluster.status("a")["proxies"] == {"concerned": 1, "acknowledged": 1}


async def test_a_resource_that_is_not_in_force_affects_no_proxy() -> None:
    cluster = Cluster()
    cluster.proxies = [ProxyProgress(proxy=sidecar_proxy(), generation=1)]
    cluster.put(route("a"), virtual_service("z", ["a.example.com"], {"destination": {"host": "z"}}))
    await cluster.write()
    assert cluster.status("z")["proxies"] == {"concerned": 0, "acknowledged": 0}
    assert [each["reason"] for each in cluster.status("z")["conditions"]] == ["Conflicted"] * 3


async def test_few_writes_are_active_at_a_time() -> None:
    cluster = Cluster()
    cluster.put(*(route(f"r{number}") for number in range(50)))
    assert len(await cluster.write()) == 50
    assert 1 < cluster.most_running <= 4


async def test_counts_are_kept_while_proxies_reconnect() -> None:
    cluster = Cluster(StatusTiming(reconnect_s=30.0))
    cluster.proxies = [ProxyProgress(proxy=sidecar_proxy(), generation=1)]
    cluster.put(route("a"))
    await cluster.write()
    cluster.proxies = []
    assert await cluster.write() == []
    cluster.now_s += 30
    assert await cluster.write() == ["a"]
    assert cluster.status("a")["proxies"] == {"concerned": 0, "acknowledged": 0}


async def test_a_new_resource_is_programmed_when_the_sidecars_of_all_ready_pods_have_reconnected() -> None:
    cluster = Cluster(StatusTiming(reconnect_s=30.0))
    cluster.observe_pod(PROXY.workload, ready=True)
    cluster.observe_pod("starting", ready=False)
    cluster.put(route("a"))
    await cluster.write()
    assert cluster.programmed("a") == "False"
    cluster.proxies = [ProxyProgress(proxy=PROXY, generation=1)]
    assert await cluster.write() == ["a"]
    assert cluster.programmed("a") == "True"


async def test_a_sidecar_that_stays_away_delays_a_resource_for_as_long_as_proxies_may_reconnect() -> None:
    cluster = Cluster(StatusTiming(reconnect_s=30.0))
    cluster.observe_pod("gone", ready=True)
    cluster.put(route("a"))
    await cluster.write()
    assert cluster.programmed("a") == "False"
    cluster.now_s += 30
    await cluster.write()
    assert cluster.programmed("a") == "True"


async def test_kinds_without_a_status_of_ours_are_not_written() -> None:
    cluster = Cluster()
    key = ResourceKey(kind="Service", namespace="default", name="a")
    cluster.ledger.note(key, {"metadata": {"resourceVersion": "1"}})
    assert list(cluster.ledger) == []


async def test_changed_endpoints_cause_no_poll() -> None:
    cluster = Cluster()
    cluster.put(route("a"))
    looked: list[int] = []
    settled = asyncio.Event()

    def statuses() -> list[ResourceStatus]:
        looked.append(cluster.ledger.snapshot.generation if cluster.ledger.snapshot else 0)
        return cluster.store.statuses()

    def progress() -> list[ProxyProgress]:
        """With each look there is another snapshot, which the proxy has acknowledged."""
        snapshot = cluster.ledger.snapshot
        assert snapshot is not None
        if cluster.status("a"):
            changed = SnapshotChange(full=False, endpoints=frozenset({"b.example.com"}))
            snapshot = dataclasses.replace(snapshot, generation=snapshot.generation + 1)
            cluster.ledger.publish(snapshot, changed, cluster.store.in_force)
        if snapshot.generation > 50:
            settled.set()
        return [ProxyProgress(proxy=PROXY, generation=snapshot.generation)]

    inputs = cluster.inputs(statuses=statuses, progress=progress)
    timing = StatusTiming(look_s=0.001, reconnect_s=0.0)
    writer = StatusWriter(cluster, cluster.ledger, inputs, StatusMetrics(CollectorRegistry()), timing=timing)
    running = asyncio.create_task(writer.run(), name="writer")
    async with asyncio.timeout(5):
        await settled.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert len(looked) == 2  # once to write, and once more to see the result
    assert cluster.status("a")["proxies"] == {"concerned": 1, "acknowledged": 1}


async def test_a_later_warning_is_written_without_a_new_snapshot() -> None:
    """As when a service account goes that the resource names."""
    cluster = Cluster()
    entry = document("WorkloadEntry", "vm", {"address": "10.0.0.1", "serviceAccount": "vm"})
    vm, other = ("default", "vm"), ("default", "other")
    cluster.store.observe_accounts(present=[vm])
    cluster.put(entry)
    looks = 0

    def progress() -> list[ProxyProgress]:
        nonlocal looks
        looks += 1
        return []

    timing = StatusTiming(look_s=0.001, reconnect_s=0.0)
    metrics = StatusMetrics(CollectorRegistry())
    writer = StatusWriter(cluster, cluster.ledger, cluster.inputs(progress=progress), metrics, timing=timing)
    running = asyncio.create_task(writer.run(), name="writer")

    async def until(message: str) -> None:
        while message not in str(cluster.objects[cluster.path(entry)].get("status")):
            await asyncio.sleep(0.001)

    async with asyncio.timeout(5):
        await until("Accepted")
        written_at = looks
        while looks < written_at + 10:  # it has seen its own write, and does nothing more
            await asyncio.sleep(0.001)
        cluster.store.observe_accounts(present=[other], gone=[vm])
        cluster.build()
        await until("default has no service account vm")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


class TestPace:
    def test_a_stable_state_is_acted_on_once(self) -> None:
        pace = Pace(3.0)
        assert [pace.is_time("a", now) for now in (0.0, 0.5, 1.0, 1.5)] == [False, True, False, False]

    def test_a_changing_state_is_acted_on_after_a_limit(self) -> None:
        pace = Pace(3.0)
        assert [pace.is_time(now, now) for now in (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0)] == [
            *[False, False, False, True],
            *[False, False, False, True],
        ]

    def test_a_state_that_returns_to_the_handled_one_needs_nothing(self) -> None:
        pace = Pace(3.0)
        seen = ["a", "a", "b", "a", "a"]
        assert [pace.is_time(sight, 0.0) for sight in seen] == [False, True, False, False, False]
