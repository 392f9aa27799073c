"""Writes of statuses that fail: which are retried, which are logged, and which are dropped."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from controlplane.errors import KubernetesError, RefusedError, UnreachableError
from controlplane.model.status import ResourceStatus
from controlplane.status.ledger import Document
from controlplane.status.metrics import StatusMetrics
from controlplane.status.writer import StatusTiming, StatusWriter
from tests.support.documents import key_of
from tests.support.metrics import MOVED_IN, moved
from tests.support.status_cluster import BACKOFF, ROUTES, Cluster, route, said


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


async def test_a_deleted_object_is_not_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster()
    cluster.put(route("a"))
    del cluster.objects[f"{ROUTES}/a"]
    assert await cluster.write() == ["a"]
    assert cluster.count("outrigger_status_write_failures_total") == 0
    assert said(caplog) == []
    cluster.ledger.note(key_of(route("a")), None)
    assert await cluster.write() == []


async def test_a_kind_without_a_status_subresource_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster()
    cluster.put(route("a"), route("b"))
    for name in ("a", "b"):
        cluster.fails[f"{ROUTES}/{name}"] = RefusedError(404, "the server could not find the resource")
    await cluster.write()
    cluster.now_s += 3600
    assert await cluster.write() == []
    assert said(caplog) == ["the CRD of VirtualService has no status subresource: no status is written"]


async def test_a_recreated_object_does_not_count_against_its_kind(
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
    assert moved(cluster.registry) == MOVED_IN["unit/controlplane/status/test_writer_failures.py"]


@pytest.mark.filterwarnings("error")
async def test_a_writer_that_is_cancelled_while_it_polls_leaves_no_task() -> None:
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


async def test_an_error_in_one_write_cancels_the_others() -> None:
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


async def test_a_defect_does_not_end_the_writer(caplog: pytest.LogCaptureFixture) -> None:
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
