"""Which statuses are written, when, and what happens after a failed write. The API server is a table."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from controlplane.errors import KubernetesError, RefusedError, UnreachableError
from controlplane.kinds.registry import KINDS
from controlplane.kubernetes.backoff import Backoff
from controlplane.model.proxy import ProxyProgress
from controlplane.model.snapshot import ResourceKey, SnapshotChange
from controlplane.model.status import Origin, ResourceStatus
from controlplane.model.store import Store
from controlplane.networking.build_cache import BuildCache
from controlplane.resources.foreign import AUTHORIZATION_POLICY
from controlplane.resources.kind_registry import unsupported
from controlplane.status.ledger import Document, Ledger
from controlplane.status.metrics import StatusMetrics
from controlplane.status.writer import Pace, StatusInputs, StatusTiming, StatusWriter
from tests.support.documents import document, key_of, virtual_service
from tests.support.meshes import sidecar_proxy
from tests.support.metrics import MOVED_IN, moved

BACKOFF = Backoff(first_delay_s=8.0, longest_delay_s=20.0)
TIMING = StatusTiming(reconnect_s=0.0, backoff=BACKOFF)
ROUTES = "/apis/networking.istio.io/v1/namespaces/default/virtualservices"


PROXY = sidecar_proxy()


class Cluster:
    """Objects by path, and a control plane that follows them."""

    def __init__(self, timing: StatusTiming = TIMING) -> None:
        self.objects: dict[str, Document] = {}
        self.merges: list[str] = []
        self.fails: dict[str, KubernetesError] = {}  # by path
        self.answering: Callable[[], None] = lambda: None
        self.running = self.most_running = 0
        self.now_s = 1000.0
        self.proxies: list[ProxyProgress] = []
        self.store, self.ledger = Store(KINDS), Ledger()
        self.registry = CollectorRegistry()
        inputs = self.inputs(progress=lambda: self.proxies)
        metrics = StatusMetrics(self.registry)
        self.writer = StatusWriter(
            self, self.ledger, inputs, metrics, timing=timing, clock=lambda: self.now_s
        )

    def inputs(self, **replaced: Any) -> StatusInputs:
        known = {
            "statuses": self.store.statuses,
            "status_changes": self.store.status_changes,
            "in_force": self.store.in_force,
            "progress": list,
            "cache": BuildCache(),
        }
        return StatusInputs(**{**known, **replaced})

    def put(self, *resources: Document) -> None:
        """The cluster has a new generation of each, and the watch reports it."""
        for each in resources:
            before = self.objects.get(self.path(each), {"metadata": {}})["metadata"]
            generation, version = before.get("generation", 0) + 1, int(before.get("resourceVersion", 0)) + 1
            each["metadata"] |= {"generation": generation, "resourceVersion": str(version)}
            self.objects[self.path(each)] = each
            self.tell(each)
            origin = Origin(file="Kubernetes", generation=generation)
            self.store.apply(key_of(each), KINDS.parse(each), origin)
        self.build()

    def tell(self, resource: Document) -> None:
        self.ledger.note(key_of(resource), resource)

    def build(self) -> None:
        self.ledger.publish(*self.store.build(), self.store.in_force)

    def path(self, resource: Document) -> str:
        plural, name = KINDS[resource["kind"]].plural, resource["metadata"]["name"]
        return f"/apis/{resource['apiVersion']}/namespaces/default/{plural}/{name}"

    def status(self, name: str) -> Document:
        found: Document = self.objects[f"{ROUTES}/{name}"].get("status", {})
        return found

    async def write(self) -> list[str]:
        """Polls once. Returns the names of the attempted writes."""
        self.merges.clear()
        async with asyncio.timeout(5):
            await self.writer.write_what_differs(self.proxies)
        return sorted(self.merges)

    def count(self, name: str) -> float:
        return self.registry.get_sample_value(name, {"kind": "VirtualService"}) or 0.0

    async def get(self, path: str, query: Mapping[str, str]) -> Document:
        """What is left of the name that the query selects."""
        if path in self.fails:
            raise self.fails[path]
        found = self.objects.get(f"{path}/{query['fieldSelector'].removeprefix('metadata.name=')}")
        return {"items": [found] if found else []}

    async def merge(self, path: str, document: Document) -> Document:
        path = path.removesuffix("/status")
        self.merges.append(path.rpartition("/")[2])
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        if path in self.fails:
            raise self.fails[path]
        if path not in self.objects:
            raise RefusedError(404, "not found")
        found = self.objects[path]
        version = found["metadata"]["resourceVersion"]
        if document["metadata"]["resourceVersion"] != version:
            raise RefusedError(409, "the object has been modified")
        status = {**found.get("status", {}), **document["status"]}
        metadata = {**found["metadata"], "resourceVersion": str(int(version) + 1)}
        self.objects[path] = {**found, "metadata": metadata, "status": status}
        self.answering()
        return self.objects[path]


def route(name: str, status: int = 200) -> Document:
    spec = {"hosts": [f"{name}.example.com"], "http": [{"directResponse": {"status": status}}]}
    return document("VirtualService", name, spec)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == "controlplane.status.writer"]


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


async def test_a_conflict_waits_for_the_newer_version_and_takes_nothing_away() -> None:
    cluster = Cluster()
    cluster.put(route("a"))
    elsewhere = cluster.objects[f"{ROUTES}/a"]
    foreign = {"type": "Reconciled", "status": "True"}
    cluster.objects[f"{ROUTES}/a"] = newer = {
        **elsewhere,
        "metadata": {**elsewhere["metadata"], "resourceVersion": "7"},
        "status": {"conditions": [foreign]},
    }
    assert await cluster.write() == ["a"]
    assert await cluster.write() == []  # backs off
    cluster.tell(newer)
    cluster.now_s += BACKOFF.first_delay_s
    assert await cluster.write() == ["a"]
    assert foreign in cluster.status("a")["conditions"]
    assert len(cluster.status("a")["conditions"]) == 4


async def test_the_watch_may_be_ahead_of_the_answer() -> None:
    """A newer version from the watch must not be replaced by the response about the earlier one."""
    cluster = Cluster()
    cluster.put(route("a"))
    key = key_of(route("a"))

    def somebody_is_quick() -> None:
        mine = cluster.objects[f"{ROUTES}/a"]
        cluster.objects[f"{ROUTES}/a"] = newest = {
            **mine,
            "metadata": {**mine["metadata"], "resourceVersion": "9"},
            "status": {**mine["status"], "proxies": {}},
        }
        cluster.ledger.note(key, mine)
        cluster.ledger.note(key, newest)

    answer: Document = {}

    async def merge(path: str, document: Document, merge: Any = cluster.merge) -> Document:
        answer.update(await merge(path, document))
        somebody_is_quick()
        return answer

    cluster.merge = merge  # type: ignore[method-assign]
    await cluster.write()
    del cluster.merge
    assert dict(cluster.ledger)[key].version == "9"
    assert await cluster.write() == ["a"]


async def test_an_object_that_is_gone_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster()
    cluster.put(route("a"))
    del cluster.objects[f"{ROUTES}/a"]
    assert await cluster.write() == ["a"]
    assert cluster.count("outrigger_status_write_failures_total") == 0
    assert said(caplog) == []
    cluster.ledger.note(key_of(route("a")), None)
    assert await cluster.write() == []


async def test_a_kind_without_a_status_subresource_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster()
    cluster.put(route("a"), route("b"))
    for name in ("a", "b"):
        cluster.fails[f"{ROUTES}/{name}"] = RefusedError(404, "the server could not find the resource")
    await cluster.write()
    cluster.now_s += 3600
    assert await cluster.write() == []
    assert said(caplog) == ["the CRD of VirtualService has no status subresource: no status is written"]


async def test_an_object_that_is_made_anew_meanwhile_says_nothing_of_its_kind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Deleted before the write, back before the look for it: as `kubectl replace --force` does."""
    cluster = Cluster()
    cluster.put(route("a"), route("b"))
    newer = route("a")
    newer["metadata"] |= {"generation": 1, "resourceVersion": "7"}
    cluster.fails[f"{ROUTES}/a"] = RefusedError(404, 'virtualservices "a" not found')
    cluster.objects[f"{ROUTES}/a"] = newer
    await cluster.write()
    assert "no status subresource" not in caplog.text
    cluster.fails.clear()
    cluster.tell(newer)
    cluster.now_s += BACKOFF.first_delay_s
    assert await cluster.write() == ["a"]


async def test_a_kind_that_is_unknown_for_a_moment_is_tried_again() -> None:
    """As by an API server that is just starting."""
    cluster = Cluster()
    cluster.put(route("a"))
    unknown = RefusedError(404, "the server could not find the requested resource")
    cluster.fails = {f"{ROUTES}/a": unknown, ROUTES: unknown}
    await cluster.write()
    assert cluster.count("outrigger_status_write_failures_total") == 1
    cluster.fails.clear()
    cluster.now_s += BACKOFF.first_delay_s
    assert await cluster.write() == ["a"]
    assert moved(cluster.registry) == MOVED_IN["unit/controlplane/status/test_writer.py"]


@pytest.mark.filterwarnings("error")
async def test_a_writer_that_is_cancelled_while_it_looks_leaves_nothing_behind() -> None:
    """A write that was made and never begun would be told of, whenever the garbage is collected."""
    cluster = Cluster()
    cluster.put(*(route(f"r{number}") for number in range(150)))
    looking = asyncio.create_task(cluster.writer.write_what_differs([]), name="look")
    await asyncio.sleep(0)  # the loop has its turn amid the resources
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking
    gc.collect()
    assert cluster.merges == []


async def test_a_fault_in_one_write_leaves_none_to_go_on_by_itself() -> None:
    """A replica that loses the Lease must be able to end everything that it has started."""
    cluster = Cluster()
    cluster.put(*(route(f"r{number}") for number in range(10)))
    merge = cluster.merge

    async def fail_once(path: str, document: Document) -> Document:
        if not cluster.merges:
            cluster.merges.append("fault")
            raise ZeroDivisionError
        return await merge(path, document)

    cluster.merge = fail_once  # type: ignore[method-assign]
    before = asyncio.all_tasks()
    with pytest.raises((ZeroDivisionError, ExceptionGroup)):
        await cluster.writer.write_what_differs([])
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("error", [UnreachableError("nobody there"), RefusedError(403, "forbidden")], ids=str)
async def test_a_failed_write_is_retried_with_growing_delays(
    error: KubernetesError, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = Cluster()
    cluster.put(*(route(f"r{number}") for number in range(5)))
    cluster.fails = {f"{ROUTES}/r{number}": error for number in range(5)}
    await cluster.write()
    assert cluster.count("outrigger_status_write_failures_total") == 5
    cluster.now_s += BACKOFF.first_delay_s / 2 - 1
    assert await cluster.write() == []  # half of the delay is chance
    cluster.now_s += 1 + BACKOFF.first_delay_s / 2
    assert len(await cluster.write()) == 5
    cluster.now_s += BACKOFF.first_delay_s - 1
    assert await cluster.write() == []
    assert len(said(caplog)) == 1
    cluster.fails.clear()
    cluster.now_s += BACKOFF.longest_delay_s
    assert len(await cluster.write()) == 5
    assert await cluster.write() == []


async def test_a_write_to_a_deleted_object_is_not_retried() -> None:
    cluster = Cluster()
    cluster.put(route("a"))
    cluster.fails[f"{ROUTES}/a"] = RefusedError(500, "etcd is slow")
    await cluster.write()
    cluster.ledger.note(key_of(route("a")), None)
    cluster.now_s += 3600
    assert await cluster.write() == []
    cluster.put(route("a"))  # a new object starts without failures
    cluster.fails.clear()
    assert await cluster.write() == ["a"]


async def test_few_writes_are_under_way_at_a_time() -> None:
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


async def test_kinds_that_have_no_status_of_ours_are_left_alone() -> None:
    cluster = Cluster()
    key = ResourceKey(kind="Service", namespace="default", name="a")
    cluster.ledger.note(key, {"metadata": {"resourceVersion": "1"}})
    assert list(cluster.ledger) == []


async def test_a_fault_of_ours_does_not_end_the_writer(caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster(StatusTiming(look_s=0.001))
    cluster.put(route("a"))
    failing = asyncio.Event()
    statuses = cluster.store.statuses

    def fail_once() -> list[ResourceStatus]:
        if failing.is_set():
            return statuses()
        failing.set()
        raise ZeroDivisionError

    inputs = cluster.inputs(statuses=fail_once)
    metrics = StatusMetrics(CollectorRegistry())
    writer = StatusWriter(cluster, cluster.ledger, inputs, metrics, timing=StatusTiming(look_s=0.001))
    running = asyncio.create_task(writer.run(), name="writer")
    async with asyncio.timeout(5):
        await failing.wait()
        cluster.put(route("b"))
        while not (cluster.status("a") and cluster.status("b")):
            await asyncio.sleep(0.001)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert "cannot compute" in caplog.text


async def test_endpoints_that_come_and_go_are_no_reason_to_look() -> None:
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


# --- resources of an unsupported kind: the watch reports only their metadata

POLICY = ResourceKey(kind="AuthorizationPolicy", namespace="default", name="deny-all")
POLICY_PATH = "/apis/security.istio.io/v1/namespaces/default/authorizationpolicies/deny-all"


def write_policy(cluster: Cluster, generation: int, version: str, **status: Any) -> None:
    metadata = {"name": "deny-all", "generation": generation, "resourceVersion": version}
    cluster.objects[POLICY_PATH] = {"metadata": metadata, "spec": {}, "status": status}
    tell_policy(cluster)
    origin = Origin(file="Kubernetes", generation=generation)
    cluster.store.reject(POLICY, (unsupported(AUTHORIZATION_POLICY),), origin)
    cluster.build()


def tell_policy(cluster: Cluster) -> None:
    found = {"metadata": cluster.objects[POLICY_PATH]["metadata"]}
    cluster.ledger.note_metadata(POLICY, "security.istio.io/v1", "authorizationpolicies", found)


async def test_the_status_of_an_unsupported_policy_says_so() -> None:
    cluster = Cluster()
    others = {"type": "Reconciled", "status": "True"}
    write_policy(cluster, 1, "7", conditions=[others], observedGeneration="1")
    assert await cluster.write() == []  # it is read first: conditions of others must stay
    assert await cluster.write() == ["deny-all"]
    status = cluster.objects[POLICY_PATH]["status"]
    kept, accepted = status["conditions"]
    assert kept == others
    assert (accepted["type"], accepted["status"], accepted["reason"]) == ("Accepted", "False", "Unsupported")
    assert "no request is denied" in accepted["message"]
    assert accepted["observedGeneration"] == 1
    assert "proxies" not in status

    tell_policy(cluster)  # of our own write
    assert await cluster.write() == []
    assert await cluster.write() == []

    write_policy(cluster, 2, "9", conditions=status["conditions"])
    await cluster.write()
    assert await cluster.write() == ["deny-all"]
    [_, accepted] = cluster.objects[POLICY_PATH]["status"]["conditions"]
    assert accepted["observedGeneration"] == 2


async def test_a_policy_that_cannot_be_read_now_is_read_later() -> None:
    cluster = Cluster()
    write_policy(cluster, 1, "7")
    collection = POLICY_PATH.rpartition("/")[0]
    cluster.fails[collection] = UnreachableError("away")
    assert await cluster.write() == []
    del cluster.fails[collection]
    assert await cluster.write() == []
    cluster.now_s += 60
    await cluster.write()
    assert await cluster.write() == ["deny-all"]


async def test_a_policy_that_is_gone_is_forgotten() -> None:
    cluster = Cluster()
    write_policy(cluster, 1, "7")
    cluster.ledger.note_metadata(POLICY, "security.istio.io/v1", "authorizationpolicies", None)
    assert list(cluster.ledger) == []
    assert await cluster.write() == []
