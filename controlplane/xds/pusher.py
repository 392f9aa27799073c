"""Pushes: builds resources from the latest snapshot and sends them to the streams that a change affects."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator, Sequence, Set
from functools import lru_cache
from typing import Final

from google.protobuf.message import Message

from controlplane.model.proxy import ProxyProgress, ProxyRejection
from controlplane.model.snapshot import MeshSnapshot, SnapshotChange
from controlplane.xds.cache import ResourceCache
from controlplane.xds.connections import Connection, Connections
from controlplane.xds.generator import Generator
from controlplane.xds.metrics import XdsMetrics
from controlplane.xds.push_queue import NO_CHANGE, Push, PushQueue
from controlplane.xds.resource import Resource
from controlplane.xds.watch import Demand
from protos import type_urls

_LOG = logging.getLogger(__name__)

# The number of concurrent pushes. They share one thread, so more of them would only delay all of them.
_WORKERS: Final = 4

# Resources that are built and serialized before the event loop runs again: some milliseconds of work.
_CHUNK: Final = 50

_HOSTNAMES: Final = 100_000

_EVERYTHING: Final = SnapshotChange(full=True)


class Pusher:
    """Runs the pushes. A push ends when its responses are written; until then, further changes for the same
    proxy are merged into its next push."""

    def __init__(
        self,
        generator: Generator,
        connections: Connections,
        metrics: XdsMetrics,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._generator: Final = generator
        self._connections: Final = connections
        self._metrics: Final = metrics
        self._clock: Final = clock
        # Called for every subscription of every proxy at every change.
        self._hostname_of: Final = lru_cache(_HOSTNAMES)(generator.endpoints_hostname)
        self._cache: Final = ResourceCache()
        self._queue: Final[PushQueue[Connection]] = PushQueue(clock=clock)
        self._unwritten: Final[dict[Connection, Push[Connection]]] = {}
        self._workers: Final[list[asyncio.Task[None]]] = []
        self._snapshot: MeshSnapshot | None = None

    def start(self) -> None:
        """Needs a running event loop. Can be called more than once."""
        if not self._workers:
            self._workers.extend(
                asyncio.create_task(self._work(), name=f"xds-push-{number}") for number in range(_WORKERS)
            )

    async def close(self) -> None:
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        self._workers.clear()

    def set_snapshot(
        self, snapshot: MeshSnapshot, change: SnapshotChange, changed: Collection[Connection] = ()
    ) -> None:
        """Uses ``snapshot`` from now on. Queues pushes to the proxies that ``change`` affects, and to the
        ``changed`` proxies, whose own properties have changed."""
        for connection in self._connections:
            self._note_progress(connection)  # for the previous snapshot
        before, self._snapshot = self._snapshot, snapshot
        self._cache.forget_twins()
        whole = _EVERYTHING.merge(change) if before is None else change
        trigger, touched = "endpoint", dict[Connection, SnapshotChange]()
        if whole.whole_types:
            trigger, touched = "config", dict.fromkeys(self._connections, whole)
        if before is not None and not whole.full:
            touched |= self._touched_by_endpoints(before, snapshot, change)
        touched |= dict.fromkeys(changed, _EVERYTHING.merge(change))
        for connection, push in touched.items():
            self._queue.enqueue(connection, push)
        if touched:
            self._metrics.push_triggers.labels(type=trigger).inc()
        _LOG.info("snapshot %d, for %d proxies: %s", snapshot.generation, len(touched), change)

    def _touched_by_endpoints(
        self, before: MeshSnapshot, snapshot: MeshSnapshot, change: SnapshotChange
    ) -> Iterator[tuple[Connection, SnapshotChange]]:
        owners = _workloads(before, change.endpoints) | _workloads(snapshot, change.endpoints)
        for connection in self._connections:
            if (connection.proxy.namespace, connection.proxy.workload) in owners:
                # Its inbound listeners and clusters depend on the ports of its own endpoints.
                yield connection, _EVERYTHING.merge(change)
            elif change.addresses and self._generator.dials(snapshot, connection.proxy, change.addresses):
                yield connection, _EVERYTHING.merge(change)
            elif self._resolves(connection, snapshot, change) or any(
                True for _ in self._followed(connection, change.endpoints)
            ):
                yield connection, change

    def look_after(self, connection: Connection) -> None:
        """Must be called when the proxy sent a request or a wait timed out. Queues a push if one is due, or
        sets the timer for the next one."""
        if connection.stream.has_work(self._clock()):
            self._queue.enqueue(connection, NO_CHANGE)
        else:
            self._note_progress(connection)
            self._set_wake_up(connection)

    def progress(self) -> list[ProxyProgress]:
        """Returns the progress of each proxy, on its latest stream."""
        latest: dict[str, ProxyProgress] = {}
        for connection in self._connections:
            self._note_progress(connection)
            latest[connection.proxy.id] = ProxyProgress(
                proxy=connection.proxy,
                generation=connection.acknowledged_generation,
                answered=connection.answered_generation,
                rejections=tuple(_rejections(connection)),
            )
        return list(latest.values())

    def _note_progress(self, connection: Connection) -> None:
        """Records that a proxy without a pending push is up to date with the current snapshot, whether the
        snapshot affected it or not."""
        if self._snapshot is None or connection in self._queue:
            return
        if connection.stream.answered:
            connection.answered_generation = self._snapshot.generation
        if connection.stream.acknowledged:
            connection.acknowledged_generation = self._snapshot.generation

    def drained(self, connection: Connection) -> None:
        """Must be called when all posted responses are written."""
        push = self._unwritten.pop(connection, None)
        if push is not None:
            self._finish(push)

    def forget(self, connection: Connection) -> None:
        self._unwritten.pop(connection, None)
        self._queue.discard(connection)
        if connection.wake_up is not None:
            connection.wake_up.cancel()

    async def _work(self) -> None:
        while True:
            push = await self._queue.take()
            await self._push(push)
            if push.key.drained or push.key.ended.done():
                self._finish(push)
            else:
                self._unwritten[push.key] = push

    def _finish(self, push: Push[Connection]) -> None:
        self._queue.done(push.key)
        if push.change != NO_CHANGE and not push.key.ended.done():
            self._metrics.convergence_time.observe(self._clock() - push.queued_at)

    async def _push(self, push: Push[Connection]) -> None:
        connection, snapshot = push.key, self._snapshot
        if snapshot is None or connection.ended.done():
            return
        self._metrics.queue_time.observe(self._clock() - push.queued_at)
        self._note(connection, snapshot, push.change)
        for type_url in type_urls.PUSH_ORDER:
            try:
                await self._push_type(connection, snapshot, type_url)
            except Exception:
                # A builder failed for this proxy and type only. The resources stay due until the next push;
                # the proxy keeps its current ones, and other proxies are not affected.
                self._metrics.internal_errors.inc()
                _LOG.exception("cannot build %s for %s", type_urls.SHORT_NAMES[type_url], connection.id)
        self._retire_clusters(connection)
        self._set_wake_up(connection)

    def _resolves(self, connection: Connection, snapshot: MeshSnapshot, change: SnapshotChange) -> bool:
        """Whether the proxy's name table may have changed because pods became ready or unready."""
        watches = type_urls.NAME_TABLE in connection.stream.watches
        return (
            bool(change.names) and watches and self._generator.dials(snapshot, connection.proxy, change.names)
        )

    def _note(self, connection: Connection, snapshot: MeshSnapshot, change: SnapshotChange) -> None:
        connection.stream.mesh_changed(change.whole_types)
        if self._resolves(connection, snapshot, change):
            connection.stream.mesh_changed([type_urls.NAME_TABLE])
        if change.endpoints and not change.full:
            connection.stream.endpoints_changed(list(self._followed(connection, change.endpoints)))

    def _followed(self, connection: Connection, hostnames: Set[str]) -> Iterator[str]:
        """Yields the load assignments of these services to which the proxy is subscribed."""
        endpoints = connection.stream.watches.get(type_urls.ENDPOINT)
        if endpoints is not None:
            yield from (name for name in endpoints.names if self._hostname_of(name) in hostnames)

    async def _push_type(self, connection: Connection, snapshot: MeshSnapshot, type_url: str) -> None:
        started = self._clock()
        demand = connection.stream.demand(type_url, started)
        if demand is None:
            return
        built = await self._build(connection, snapshot, demand)
        self._post(connection, type_url, connection.stream.respond(demand, built, self._clock()))
        self._metrics.push_time.labels(type=type_urls.SHORT_NAMES[type_url]).observe(self._clock() - started)

    async def _build(
        self, connection: Connection, snapshot: MeshSnapshot, demand: Demand
    ) -> dict[str, Resource]:
        def build(names: Sequence[str] | None) -> Iterator[tuple[str, Message]]:
            return iter(self._generator.build(demand.type_url, snapshot, connection.proxy, names).items())

        resources: dict[str, Resource] = {}
        if demand.wildcard:
            for count, (name, message) in enumerate(build(None)):
                resources[name] = self._cache.resource(demand.type_url, name, message)
                if count % _CHUNK == 0:
                    await asyncio.sleep(0)
        named = sorted(demand.names - resources.keys())
        for start in range(0, len(named), _CHUNK):
            for name, message in build(named[start : start + _CHUNK]):
                resources[name] = self._cache.resource(demand.type_url, name, message)
            await asyncio.sleep(0)
        return resources

    def _retire_clusters(self, connection: Connection) -> None:
        removals = connection.stream.retire(self._clock())
        if removals:
            self._post(connection, type_urls.CLUSTER, removals)
            # Now their endpoints can be removed.
            self.look_after(connection)

    def _post(self, connection: Connection, type_url: str, responses: Sequence[Message]) -> None:
        for response in responses:
            connection.post(response)
            self._metrics.pushes.labels(type=type_urls.SHORT_NAMES[type_url]).inc()

    def _set_wake_up(self, connection: Connection) -> None:
        if connection.wake_up is not None:
            connection.wake_up.cancel()
            connection.wake_up = None
        now = self._clock()
        wake_at = connection.stream.wake_at(now)
        if wake_at is not None and not connection.ended.done():
            connection.wake_up = asyncio.get_running_loop().call_later(
                wake_at - now, self.look_after, connection
            )


def _rejections(connection: Connection) -> Iterator[ProxyRejection]:
    for type_url, short in type_urls.SHORT_NAMES.items():
        watch = connection.stream.watches.get(type_url)
        rejection = watch.acks.rejection if watch is not None else None
        if rejection is not None:
            yield ProxyRejection(type=short, names=rejection.names, reason=rejection.reason)


def _workloads(snapshot: MeshSnapshot, hostnames: Set[str]) -> set[tuple[str, str]]:
    """Returns the namespace and name of every workload of these services."""
    return {
        (endpoint.workload.namespace, endpoint.workload.name)
        for hostname in hostnames
        for endpoint in snapshot.endpoints.get(hostname, ())
    }
