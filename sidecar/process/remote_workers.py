"""The workers in other processes, as one: asks all of them, and merges their answers."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Collection, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from sidecar.config.cluster import ClusterConfig
from sidecar.config.listener import TrafficDirection
from sidecar.config.snapshot import Snapshot
from sidecar.errors import ConfigError, WorkerError
from sidecar.identity.certs import CertificatesInUse
from sidecar.identity.svid_pem import SvidPem
from sidecar.listener.manager import ListenerStatus
from sidecar.observability.report import StatsReport
from sidecar.process.channel import WorkerChannel
from sidecar.process.counter_rows import assign_rows
from sidecar.process.listening_sockets import ListeningSockets
from sidecar.process.merge import merge_certificates, merge_clusters, merge_listeners
from sidecar.process.messages import WorkerStarted
from sidecar.process.remote_worker import EncodedResources, RemoteWorker, WorkerEndedError
from sidecar.process.totals import WorkerTotals
from sidecar.process.worker import ALL_DIRECTIONS, WorkerConfig
from sidecar.process.workers import OnWarm
from sidecar.upstream.dns.discovery import DNS_KINDS
from sidecar.upstream.outlier_detection import HostEjection
from sidecar.upstream.status import ClusterStatus

_LOG = logging.getLogger(__name__)

# How long a configuration waits for a worker that is being replaced.
_COMPLETE_LIMIT_S: Final = 10.0
# How long a replacement waits for the first look-ups of its clusters; its connections wait in their queues.
_WARM_LIMIT_S: Final = 5.0


class RemoteWorkers:
    """`run` until the end, then `close`. ``control`` is a channel to the master process, which starts the
    workers and replaces those that die. ``deaths`` counts them."""

    def __init__(
        self, control: socket.socket, config: WorkerConfig, concurrency: int, *, on_warm: OnWarm
    ) -> None:
        self.deaths = 0
        self._config: Final = config
        self._concurrency: Final = concurrency
        self._on_warm: Final = on_warm
        self._control: Final = WorkerChannel(control)
        self._workers: list[RemoteWorker] = []
        self._started = asyncio.Event()
        self._may_be_warm = asyncio.Event()
        self._closing = False
        self._one_at_a_time = asyncio.Lock()
        self._sockets: Final = ListeningSockets(concurrency)
        self._totals: Final = WorkerTotals()
        # For workers that start later.
        self._snapshot: Snapshot | None = None
        self._svid: SvidPem | None = None
        self._draining: set[TrafficDirection] = set()
        self._stopped: set[TrafficDirection] = set()
        self._log_levels: Mapping[str, int] = {}

    # Processes.

    async def run(self) -> None:
        """Raises `WorkerError` when the master process has ended."""
        with suppress(EOFError):
            while True:
                message, descriptor = await self._control.receive()
                await self._start(message, socket.socket(fileno=descriptor))
        if not self._closing:
            raise WorkerError("the master process has ended")

    async def _start(self, started: WorkerStarted, sock: socket.socket) -> None:
        """Puts everything in force that is in force in the other workers."""
        worker = RemoteWorker(
            started,
            sock,
            self._config,
            on_warm=self._warmed,
            on_ejection=self._tell_others,
            on_ended=self._note_end,
        )
        async with self._one_at_a_time:
            self._workers.append(worker)
            self._started.set()
            try:
                await self._configure(worker)
            except WorkerEndedError:
                return
        self._warmed()

    async def _configure(self, worker: RemoteWorker) -> None:
        if self._log_levels:
            await worker.command("set_log_levels", self._log_levels)
        if self._svid is not None:
            await worker.command("use_svid", self._svid)
        if self._snapshot is not None:
            await self._warm(worker, self._snapshot)
            await self._show_ejections(worker)
            try:
                errors: Mapping[str, Exception] = await self._apply_to(
                    worker, self._snapshot, EncodedResources()
                )
            except ConfigError as error:
                errors = {"configuration": error}
            for name, refusal in errors.items():
                _LOG.error("%s does not serve %s: %s", worker, name, refusal)
        if self._draining:
            await worker.command("drain", tuple(self._draining))
        if self._stopped:
            await worker.command("stop_accepting", tuple(self._stopped))

    async def _warm(self, worker: RemoteWorker, snapshot: Snapshot) -> None:
        clusters = _with_names(snapshot.clusters)
        with suppress(TimeoutError):
            async with asyncio.timeout(_WARM_LIMIT_S):
                self._may_be_warm.clear()
                while clusters and await worker.look_up(clusters, EncodedResources()):
                    await self._may_be_warm.wait()
                    self._may_be_warm.clear()

    async def _show_ejections(self, worker: RemoteWorker) -> None:
        """Before its clusters, so that it sends nothing to these hosts. All other workers have the same."""
        for other in tuple(self._workers):
            if other is not worker:
                with suppress(WorkerError):
                    for ejection in await other.report("ejections"):
                        worker.post("follow_ejection", ejection)
                    return

    def _tell_others(self, worker: RemoteWorker, ejection: HostEjection) -> None:
        for other in self._workers:
            if other is not worker:
                other.post("follow_ejection", ejection)

    def _note_end(self, worker: RemoteWorker) -> None:
        self._workers.remove(worker)
        self._totals.ended(worker.number)
        if not self._closing:
            self.deaths += 1

    def _warmed(self) -> None:
        self._may_be_warm.set()
        self._on_warm()

    async def _complete(self) -> None:
        """Waits while a worker is being replaced."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_COMPLETE_LIMIT_S):
                while len(self._workers) < self._concurrency:
                    self._started.clear()
                    await self._started.wait()

    # Configuration.

    @property
    def warming_listeners(self) -> frozenset[str]:
        return frozenset().union(*(worker.warming for worker in self._workers))

    async def resolve_first(self, clusters: Mapping[str, ClusterConfig]) -> Set[str]:
        await self._complete()
        async with self._one_at_a_time:
            encoded, wanted = EncodedResources(), _with_names(clusters)
            asked = [worker.look_up(wanted, encoded) for worker in self._workers]
            return frozenset().union(*_answers(await asyncio.gather(*asked, return_exceptions=True)))

    async def apply(self, snapshot: Snapshot) -> Mapping[str, ConfigError]:
        await self._complete()
        async with self._one_at_a_time:
            in_force = self._snapshot.counter_rows if self._snapshot is not None else {}
            snapshot = replace(snapshot, counter_rows=assign_rows(in_force, snapshot.clusters))
            self._sockets.open(snapshot.listeners.values())
            encoded = EncodedResources()
            workers = tuple(self._workers)
            outcomes = await asyncio.gather(
                *(self._apply_to(worker, snapshot, encoded) for worker in workers), return_exceptions=True
            )
            refusals = [
                outcome
                for outcome in outcomes
                if isinstance(outcome, BaseException) and not isinstance(outcome, WorkerEndedError)
            ]
            if refusals:
                took = [
                    worker.go_back()
                    for worker, outcome in zip(workers, outcomes, strict=True)
                    if not isinstance(outcome, BaseException)
                ]
                await asyncio.gather(*took, return_exceptions=True)
                self._keep_sockets()
                raise refusals[0]
            self._snapshot = snapshot
            self._keep_sockets()
            return _joined(outcomes)

    async def _apply_to(
        self, worker: RemoteWorker, snapshot: Snapshot, encoded: EncodedResources
    ) -> Mapping[str, ConfigError]:
        sockets = self._sockets.for_worker(worker.slot, worker.addresses)
        return await worker.apply(snapshot, sockets, encoded)

    async def use_svid(self, svid: SvidPem) -> Mapping[str, ConfigError]:
        if self._svid is not None:
            # No listener waits for it, and it may expire before a slow worker has taken its configuration.
            self._svid = svid
            renewed = [worker.command("use_svid", svid) for worker in self._workers]
            return _joined(await asyncio.gather(*renewed, return_exceptions=True))
        async with self._one_at_a_time:
            self._svid = svid
            if self._snapshot is not None:
                self._sockets.open(self._snapshot.listeners.values())
            asked = [
                worker.command(
                    "use_svid", svid, sockets=self._sockets.for_worker(worker.slot, worker.addresses)
                )
                for worker in self._workers
            ]
            errors = _joined(await asyncio.gather(*asked, return_exceptions=True))
            self._keep_sockets()
            return errors

    def _keep_sockets(self) -> None:
        """Closes the sockets that no worker uses. A worker that is being replaced cannot say what it uses."""
        if self._workers:
            self._sockets.keep_only(frozenset().union(*(worker.addresses for worker in self._workers)))

    # The end.

    async def drain(self, directions: Collection[TrafficDirection] = ALL_DIRECTIONS) -> None:
        async with self._one_at_a_time:
            self._draining.update(directions)
            await self._command("drain", tuple(directions))

    async def stop_accepting(self, directions: Collection[TrafficDirection] = ALL_DIRECTIONS) -> None:
        async with self._one_at_a_time:
            self._stopped.update(directions)
            self._sockets.stop(directions)
            await self._command("stop_accepting", tuple(directions))
            self._keep_sockets()

    async def close(self) -> None:
        """The master process waits for the workers to end."""
        self._closing = True
        self._control.close()
        await asyncio.gather(*(worker.close() for worker in tuple(self._workers)))
        self._sockets.keep_only(())

    # Reports.

    async def active_connections(self) -> int:
        return sum(await self._ask("active_connections"))

    async def stats(self) -> StatsReport:
        workers = tuple(self._workers)
        asked = (worker.report("stats") for worker in workers)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        for worker, answer in zip(workers, answers, strict=True):
            if isinstance(answer, StatsReport):
                if not worker.ended:
                    self._totals.report(worker.number, answer)
            elif not isinstance(answer, WorkerEndedError):
                raise answer
        return self._totals.merged()

    async def clusters(self, names: Sequence[str]) -> Sequence[ClusterStatus]:
        return merge_clusters(await self._ask("clusters", tuple(names)))

    async def listeners(self) -> Sequence[ListenerStatus]:
        return merge_listeners(await self._ask("listeners"))

    async def certificates(self) -> Sequence[CertificatesInUse]:
        return merge_certificates(await self._ask("certificates"))

    async def reopen_logs(self) -> None:
        await self._command("reopen_logs")

    async def set_log_levels(self, levels: Mapping[str, int]) -> None:
        self._log_levels = {**self._log_levels, **levels}
        await self._command("set_log_levels", levels)

    async def _command(self, method: str, *arguments: object) -> None:
        asked = (worker.command(method, *arguments) for worker in self._workers)
        _answers(await asyncio.gather(*asked, return_exceptions=True))

    async def _ask(self, method: str, *arguments: object) -> list[Any]:
        """The answers of all workers, except of one that ends meanwhile. Raises the error of any other."""
        asked = (worker.report(method, *arguments) for worker in self._workers)
        return _answers(await asyncio.gather(*asked, return_exceptions=True))


def _with_names(clusters: Mapping[str, ClusterConfig]) -> dict[str, ClusterConfig]:
    return {name: config for name, config in clusters.items() if config.discovery in DNS_KINDS}


def _answers(outcomes: Sequence[Any]) -> list[Any]:
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, WorkerEndedError):
            raise outcome
    return [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]


def _joined(outcomes: Sequence[Any]) -> dict[str, ConfigError]:
    """The errors of all workers, by listener."""
    errors: dict[str, ConfigError] = {}
    for answer in _answers(outcomes):
        errors.update(answer)
    return errors
