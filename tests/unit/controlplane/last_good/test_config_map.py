"""The ConfigMap in which a cluster's control planes store last good versions: writing and reading."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry

from controlplane.errors import RefusedError, UnreachableError
from controlplane.kinds.registry import KINDS
from controlplane.kubernetes.backoff import Backoff
from controlplane.kubernetes.list_watch import Timing
from controlplane.last_good.config_map import LastGoodConfigMap
from controlplane.model.store import Store
from tests.support.documents import (
    Document,
    destination,
    destination_rule,
    feed_cluster,
    key_of,
    service,
    virtual_service,
)
from tests.support.fake_kubernetes_api import FakeKubernetesApi
from tests.support.metrics import MOVED_IN, moved

QUICK = Timing(backoff=Backoff(first_delay_s=0.001, longest_delay_s=0.002))
PATH = "/api/v1/namespaces/system/configmaps/outrigger-last-good"
NAME = "VirtualService.default.reviews"
BASE = [service("reviews"), destination_rule("reviews", "reviews", "v1", "v2", "v3")]


def good(subset: str, name: str = "reviews") -> Document:
    return virtual_service(name, [name], destination("reviews", subset))


def faulty(name: str = "reviews") -> Document:
    return virtual_service(name, [name], {"destination": {"host": "reviews", "colour": "blue"}})


class Replica:
    """Builds on each change, as the debouncer would, and whenever it sees a resource."""

    def __init__(self, api: FakeKubernetesApi, *, most_bytes: int, removal_delay_s: float) -> None:
        self.registry = CollectorRegistry()
        self.store = Store(KINDS)
        self.keeper = LastGoodConfigMap(
            api,
            "system",
            self.store,
            self.build,
            registry=self.registry,
            timing=QUICK,
            most_bytes=most_bytes,
            removal_delay_s=removal_delay_s,
        )

    def build(self) -> None:
        self.keeper.note_build(*self.store.build())

    def see(self, resource: Document, generation: int, uid: str = "") -> None:
        feed_cluster(self.store, resource, generation, uid)
        self.build()

    def lose(self, resource: Document) -> None:
        self.store.delete(key_of(resource), "Kubernetes")
        self.build()

    @property
    def serves(self) -> list[str | None]:
        snapshot, _ = self.store.build()
        return [each.spec.http[0].route[0].destination.subset for each in snapshot.virtual_services]

    def reasons(self) -> str:
        status = self.store.status(key_of(faulty()))
        return "" if status is None else "; ".join(status.reasons)


@asynccontextmanager
async def replica(
    api: FakeKubernetesApi,
    *resources: tuple[Document, int],
    most_bytes: int = 100_000,
    removal_delay_s: float = 60.0,
) -> AsyncIterator[Replica]:
    """A replica that has seen the resources before its first build."""
    running = Replica(api, most_bytes=most_bytes, removal_delay_s=removal_delay_s)
    tasks = [asyncio.create_task(running.keeper.watch.run(), name="watch")]
    tasks.append(asyncio.create_task(running.keeper.run(), name="keep"))
    try:
        async with asyncio.timeout(5):
            await running.keeper.watch.synced.wait()
        for each in BASE:
            feed_cluster(running.store, each, 1)
        for resource, generation in resources:
            feed_cluster(running.store, resource, generation)
        running.build()
        yield running
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.001)


def kept(api: FakeKubernetesApi) -> dict[str, int]:
    """Returns the stored generations by name."""
    data = api.objects.get(PATH, {}).get("data") or {}
    return {name: json.loads(text)["generation"] for name, text in data.items()}


@pytest.fixture
async def api() -> FakeKubernetesApi:
    return FakeKubernetesApi()


async def test_the_next_process_serves_the_last_good_version(api: FakeKubernetesApi) -> None:
    async with replica(api, (good("v3"), 1)) as first:
        first.see(faulty(), 2)
        await until(lambda: kept(api) == {NAME: 1})
    async with replica(api, (faulty(), 2)) as second:
        assert second.serves == ["v3"]
    assert api.objects[PATH]["metadata"]["labels"] == {"app.kubernetes.io/part-of": "outrigger"}


async def test_a_replica_that_started_before_the_version_was_stored_uses_it(api: FakeKubernetesApi) -> None:
    async with replica(api, (good("v3"), 1)) as first, replica(api, (faulty(), 2)) as second:
        assert second.serves == []
        first.see(faulty(), 2)
        await until(lambda: second.serves == ["v3"])


async def test_replicas_that_saw_different_versions_agree_on_the_newest(api: FakeKubernetesApi) -> None:
    async with replica(api, (good("v1"), 1)) as one, replica(api, (good("v1"), 1)) as other:
        one.see(faulty(), 3)
        await until(lambda: kept(api) == {NAME: 1})
        other.see(good("v2"), 2)
        other.see(faulty(), 3)
        await until(lambda: one.serves == other.serves == ["v2"])
        assert kept(api) == {NAME: 2}


async def test_a_stored_version_is_not_written_again(api: FakeKubernetesApi) -> None:
    async with replica(api, (good("v3"), 1)) as one, replica(api, (faulty(), 2)) as other:
        one.see(faulty(), 2)
        await until(lambda: other.serves == ["v3"])
        other.see(faulty(), 3)
        other.see(good("v3", "sentinel"), 1)
        other.see(faulty("sentinel"), 2)
        await until(lambda: len(kept(api)) == 2)
        assert kept(api) == {NAME: 1, "VirtualService.default.sentinel": 1}
        assert len(api.writes) == 2


@pytest.mark.parametrize("end", ["recovered", "deleted", "created again"])
async def test_an_obsolete_entry_is_removed(api: FakeKubernetesApi, end: str) -> None:
    async with replica(api, (good("v3"), 1), removal_delay_s=0.0) as one:
        one.see(faulty(), 2)
        await until(lambda: kept(api))
        if end == "recovered":
            one.see(good("v1"), 3)
        else:
            one.lose(faulty())
        if end == "created anew":
            one.see(faulty(), 1, uid="another")
        await until(lambda: not kept(api))


async def test_the_entry_of_a_new_object_replaces_the_old_ones_at_once(
    api: FakeKubernetesApi,
) -> None:
    async with replica(api, (good("v3"), 1), removal_delay_s=0.0) as one:
        one.see(faulty(), 2)
        await until(lambda: kept(api))
        one.lose(faulty())
        one.see(good("v1"), 1, uid="another")
        one.see(faulty(), 2, uid="another")
        await until(lambda: "another" in api.objects[PATH]["data"].get(NAME, ""))
        assert len(api.writes) == 2


async def test_the_entry_of_a_resource_deleted_between_two_runs_is_removed(api: FakeKubernetesApi) -> None:
    async with replica(api, (good("v3"), 1)) as one:
        one.see(faulty(), 2)
        await until(lambda: kept(api))
    async with replica(api, removal_delay_s=0.001):
        await until(lambda: not kept(api))


async def test_a_replica_with_old_data_removes_nothing(api: FakeKubernetesApi) -> None:
    names = ["reviews", "second", "third"]
    seen = [(good("v3", name), 1) for name in names]
    async with replica(api, *seen) as one, replica(api, *seen, removal_delay_s=0.0) as behind:
        for count, name in enumerate(names, start=1):
            one.see(faulty(name), 2)
            await until(lambda expected=count: len(kept(api)) == expected)
            behind.build()
        assert len(api.writes) == len(names)


async def test_an_entry_that_only_seems_obsolete_is_not_removed_at_once(api: FakeKubernetesApi) -> None:
    """The watches of different kinds are not ordered: a conflicting resource can arrive after the version."""
    async with (
        replica(api, (good("v3"), 1)) as one,
        replica(api, (faulty(), 2), removal_delay_s=60.0) as other,
    ):
        one.see(faulty(), 2)
        await until(lambda: other.serves == ["v3"])
        other.lose(faulty())
        other.see(faulty(), 2)
        assert other.serves == ["v3"]
        assert len(api.writes) == 1


async def test_a_deleted_config_map_is_written_again(api: FakeKubernetesApi) -> None:
    async with replica(api, (good("v3"), 1)) as one:
        one.see(faulty(), 2)
        await until(lambda: kept(api))
        await api.remove(PATH)
        await until(lambda: kept(api) == {NAME: 1})
        assert one.serves == ["v3"]


async def test_a_damaged_entry_is_repaired_by_a_replica_that_has_the_version(api: FakeKubernetesApi) -> None:
    async with replica(api, (good("v3"), 1)) as one:
        one.see(faulty(), 2)
        await until(lambda: kept(api))
        await api.merge(PATH, {"data": {NAME: "{", "README": "by hand", "a.b.c": "[]", "": ""}})
        await until(lambda: api.objects[PATH]["data"].get(NAME) != "{")
        assert one.serves == ["v3"]
        assert api.objects[PATH]["data"]["README"] == "by hand"


async def test_a_damaged_entry_is_logged_by_a_replica_that_lacks_the_version(api: FakeKubernetesApi) -> None:
    await api.put(PATH, {"metadata": {"name": "outrigger-last-good"}, "data": {NAME: "{"}})
    async with replica(api, (faulty(), 2)) as one:
        assert one.serves == []
        assert "the stored last good version cannot be used: not JSON" in one.reasons()


@pytest.mark.parametrize("data", [None, {}, {"README": "by hand"}])
async def test_entries_are_added_to_an_existing_config_map(
    api: FakeKubernetesApi, data: dict[str, str] | None
) -> None:
    await api.put(PATH, {"metadata": {"name": "outrigger-last-good"}, "data": data})
    async with replica(api, (good("v3"), 1)) as one:
        one.see(faulty(), 2)
        await until(lambda: NAME in (api.objects[PATH]["data"] or {}))
    assert api.writes == ["PATCH /api/v1/namespaces/system/configmaps/outrigger-last-good"]


async def test_a_failed_write_is_repeated_and_logged_once(
    api: FakeKubernetesApi, caplog: pytest.LogCaptureFixture
) -> None:
    async with replica(api, (good("v3"), 1)) as one:
        api.failures = [
            RefusedError(403, "forbidden"),
            RefusedError(403, "forbidden"),
            UnreachableError("away"),
        ]
        one.see(faulty(), 2)
        await until(lambda: kept(api) == {NAME: 1})
    assert caplog.text.count("cannot write ConfigMap outrigger-last-good: 403: forbidden") == 1
    assert caplog.text.count("cannot write ConfigMap outrigger-last-good: away") == 1


async def test_the_config_map_never_exceeds_the_size_limit(
    api: FakeKubernetesApi, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"route-{number}" for number in range(9)]
    async with replica(
        api, *((good("v3", name), 1) for name in names), most_bytes=2000, removal_delay_s=0.0
    ) as one:
        for name in names:
            one.see(faulty(name), 2)
        await until(lambda: kept(api))
        gauge = "outrigger_last_good_unkept"
        await until(lambda: one.registry.get_sample_value(gauge) == len(names) - len(kept(api)))
        assert moved(one.registry) == MOVED_IN["unit/controlplane/last_good/test_config_map.py"]
        data = api.objects[PATH]["data"]
        assert 0 < sum(map(len, [*data, *data.values()])) <= 2000
        assert "has no room for VirtualService.default.route-" in caplog.text
        for name in names[:8]:
            one.see(good("v1", name), 3)
        await until(lambda: list(kept(api)) == ["VirtualService.default.route-8"])
        await until(lambda: one.registry.get_sample_value(gauge) == 0)
