"""Writes ``.status`` of the cluster's resources where it is not up to date.

It polls the state, and writes once the state is quiet: acknowledgements come in bursts, and so do the
resources of one `kubectl apply`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Final, Protocol

from controlplane.errors import KubernetesError, RefusedError
from controlplane.kubernetes.backoff import Backoff
from controlplane.kubernetes.lease import LeaseTiming
from controlplane.model.known_workloads import KnownWorkloads, WorkloadName
from controlplane.model.proxy import ProxyProgress
from controlplane.model.snapshot import ResourceKey
from controlplane.model.status import ResourceStatus
from controlplane.model.view import View
from controlplane.networking.build_cache import BuildCache
from controlplane.status.affected_proxies import AffectedProxies, Reach
from controlplane.status.ledger import Document, Found, Ledger
from controlplane.status.metrics import StatusMetrics
from controlplane.status.report import changes

_LOG = logging.getLogger(__name__)

_NOT_FOUND: Final = 404
_CONFLICT: Final = 409

# The maximum number of concurrent writes: the API server has other clients.
_CONCURRENT: Final = 4

_BACKOFF: Final = Backoff(first_delay_s=0.5, longest_delay_s=30.0)

# The number of statuses computed before the event loop runs other tasks: some milliseconds.
_CHUNK: Final = 20


class StatusApi(Protocol):
    """The part of an API server that is needed. Both methods raise `KubernetesError`."""

    async def get(self, path: str, query: Mapping[str, str]) -> Document: ...

    async def merge(self, path: str, document: Document) -> Document: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusInputs:
    """The state that statuses describe, read again each time. ``in_force`` gives the view of a resource in
    the snapshot; ``cache`` is that of the builders, for the scopes of proxies."""

    statuses: Callable[[], Sequence[ResourceStatus]]
    status_changes: Callable[[], int]
    in_force: Callable[[ResourceKey], View | None]
    progress: Callable[[], Sequence[ProxyProgress]]
    cache: BuildCache


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusTiming:
    """``look_s``: the interval between two polls. Writes wait until two consecutive polls find the same
    state, but for at most ``patience_s``. ``reconnect_s``: the time that proxies may take to reconnect to a
    control plane that has just started; until then the counts that were written before stay, and a resource
    is not programmed while the sidecar of a ready pod is missing. ``backoff``: the
    delay before a failed write is retried. ``lease``: the timing of the election."""

    look_s: float = 0.5
    patience_s: float = 3.0
    reconnect_s: float = 30.0
    backoff: Backoff = _BACKOFF
    lease: LeaseTiming = field(default_factory=LeaseTiming)


class Pace:
    """Decides when to act on a state: once it is stable, or has been changing for long enough. Pure."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s: Final = patience_s
        self._last: object = None
        self._handled: object = None
        self._moving_since_s: float | None = None

    def is_time(self, sight: object, now_s: float) -> bool:
        """``sight`` is the current state, which must not be None; it is compared with the previous one. A
        caller that gets True must act."""
        quiet, self._last = sight == self._last, sight
        if sight == self._handled:
            self._moving_since_s = None
            return False
        if self._moving_since_s is None:
            self._moving_since_s = now_s
        if not quiet and now_s - self._moving_since_s < self._patience_s:
            return False
        self._handled, self._moving_since_s = sight, None
        return True


@dataclass(slots=True)
class _Failure:
    times: int = 0
    again_at_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """The state of one resource at one moment."""

    key: ResourceKey
    found: Found
    status: ResourceStatus
    view: View | None
    since: int


class StatusWriter:
    """Only one at a time may `run` on a cluster."""

    def __init__(
        self,
        api: StatusApi,
        ledger: Ledger,
        inputs: StatusInputs,
        metrics: StatusMetrics,
        *,
        timing: StatusTiming,
        clock: Callable[[], float] = time.monotonic,
        rng: Random | None = None,
    ) -> None:
        self._api: Final = api
        self._ledger: Final = ledger
        self._inputs: Final = inputs
        self._metrics: Final = metrics
        self._timing: Final = timing
        self._clock: Final = clock
        self._rng: Final = rng or Random()
        self._settled_at_s: Final = clock() + timing.reconnect_s
        self._slots: Final = asyncio.Semaphore(_CONCURRENT)
        self._failures: Final[dict[ResourceKey, _Failure]] = {}
        self._without_status: Final[set[str]] = set()
        self._warned = False

    async def run(self) -> None:
        """Runs until cancelled."""
        pace = Pace(self._timing.patience_s)
        while True:
            proxies = self._inputs.progress()
            if pace.is_time(self._sight(proxies), self._clock()):
                try:
                    await self.write_what_differs(proxies)
                except Exception:
                    # A bug in the computation of one status must not stop the mesh or later statuses.
                    _LOG.exception("cannot compute the statuses")
            await asyncio.sleep(self._timing.look_s)

    async def write_what_differs(self, proxies: Sequence[ProxyProgress]) -> None:
        """Compares every resource once. A failed write is retried by a later call."""
        snapshot = self._ledger.snapshot
        if snapshot is None:
            return
        for key in [key for key in self._failures if key not in self._ledger]:
            del self._failures[key]
        cases = self._cases()  # before the first await, because the state changes meanwhile
        affected_proxies = AffectedProxies(self._inputs.cache, snapshot, proxies)
        expected = _pods_with_sidecar(snapshot.known_workloads) if self._is_settling() else frozenset()
        absent = len(expected - {(each.proxy.namespace, each.proxy.workload) for each in proxies})
        settling = self._is_settling() and (absent > 0 or not expected)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        writes: list[tuple[_Case, Document]] = []
        for number, case in enumerate(cases, start=1):
            if case.found.status is None:
                continue
            reach = Reach()
            if case.view is not None:
                reach = affected_proxies.reach(case.key.kind, case.view, case.since)
            status = changes(case.found.status, case.status, reach, now=now, settling=settling, absent=absent)
            if status:
                writes.append((case, status))
            if number % _CHUNK == 0:
                await asyncio.sleep(0)
        async with asyncio.TaskGroup() as group:
            for case in cases:
                if case.found.status is None:
                    group.create_task(self._read(case.key, case.found), name=f"read {case.key}")
            for case, status in writes:
                write = self._write(case.key, case.found, status)
                group.create_task(write, name=f"write the status of {case.key}")

    def _sight(self, proxies: Sequence[ProxyProgress]) -> object:
        """The state whose changes make statuses outdated. Progress of proxies beyond the newest version of a
        resource does not matter."""
        newest = self._ledger.newest
        reached = [
            (each.proxy, min(each.generation, newest), min(each.answered, newest), each.rejections)
            for each in proxies
        ]
        changed = self._ledger.changes, self._inputs.status_changes()
        return changed, reached, self._is_settling(), self._due_again()

    def _is_settling(self) -> bool:
        return self._clock() < self._settled_at_s

    def _due_again(self) -> int:
        return sum(failure.again_at_s <= self._clock() for failure in self._failures.values())

    def _cases(self) -> list[_Case]:
        """The resources that the store has read in their current version; the others are about to be read."""
        statuses = {status.key: status for status in self._inputs.statuses()}
        cases = []
        for key, found in self._ledger:
            status = statuses.get(key)
            current = status is not None and status.origin.generation == found.generation is not None
            if status is None or not current or not self._may_write(key):
                continue
            view, since = self._inputs.in_force(key), self._ledger.since(key)
            cases.append(_Case(key=key, found=found, status=status, view=view, since=since))
        return cases

    def _may_write(self, key: ResourceKey) -> bool:
        failure = self._failures.get(key)
        waits = failure is not None and failure.again_at_s > self._clock()
        return not waits and key.kind not in self._without_status

    async def _write(self, key: ResourceKey, found: Found, status: Document) -> None:
        """The resource version prevents overwriting changes of others."""
        document = {"metadata": {"resourceVersion": found.version}, "status": status}
        collection = _collection(key, found)
        async with self._slots:
            try:
                written = await self._api.merge(f"{collection}/{key.name}/status", document)
            except KubernetesError as error:
                await self._note_failure(key, found, error)
            else:
                self._ledger.note_whole(key, found.version, written)
                self._metrics.writes.labels(kind=key.kind).inc()
                self._failures.pop(key, None)
                self._warned = False

    async def _read(self, key: ResourceKey, found: Found) -> None:
        """Reads the current status: a merge patch must contain the list items of others."""
        one = {"fieldSelector": f"metadata.name={key.name}"}
        async with self._slots:
            try:
                read = (await self._api.get(_collection(key, found), one))["items"]
            except KubernetesError as error:
                await self._note_failure(key, found, error)
                return
        if read:  # or else the watch is about to report that it was deleted
            self._ledger.note_whole(key, found.version, read[0])
            self._failures.pop(key, None)

    async def _note_failure(self, key: ResourceKey, found: Found, error: KubernetesError) -> None:
        status = error.status if isinstance(error, RefusedError) else None
        if status == _NOT_FOUND and await self._is_gone_or_has_no_status(key, found):
            self._failures.pop(key, None)
            return
        self._metrics.failures.labels(kind=key.kind).inc()
        failure = self._failures.setdefault(key, _Failure())
        failure.times += 1
        failure.again_at_s = self._clock() + self._timing.backoff.delay_s(failure.times, self._rng)
        # After a conflict the watch brings the newer version, and the write succeeds.
        if status != _CONFLICT and not self._warned:
            self._warned = True
            _LOG.warning("cannot write the status of %s, and perhaps of others: %s", key, error)

    async def _is_gone_or_has_no_status(self, key: ResourceKey, found: Found) -> bool:
        """Checks the two possible causes of a 404. A CRD that another program installed may lack the status
        subresource, which is logged once."""
        one = {"fieldSelector": f"metadata.name={key.name}"}
        try:
            left = (await self._api.get(_collection(key, found), one))["items"]
        except KubernetesError:
            return False  # the API server may be starting, and not know the kind yet
        if not left:
            return True
        if left[0]["metadata"]["resourceVersion"] != found.version:
            return False  # it was deleted and created again
        if key.kind not in self._without_status:
            self._without_status.add(key.kind)
            _LOG.warning("the CRD of %s has no status subresource: no status is written", key.kind)
        return True


def _pods_with_sidecar(known: KnownWorkloads) -> frozenset[WorkloadName]:
    """The ready pods, whose sidecars reconnect to a control plane that has just started."""
    return frozenset(name for name, pod in known.pods.items() if pod.mesh_tls and pod.healthy)


def _collection(key: ResourceKey, found: Found) -> str:
    return f"/apis/{found.api_version}/namespaces/{key.namespace}/{found.plural}"
