"""The half of the sidecar that a process has once: xDS, identity, admin interface, drain.

It passes configuration and certificates (`Snapshot`, `SvidPem`) to the workers, and shows their reports on
the admin interface.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from protos.type_urls import NAME_TABLE_NAME
from sidecar.admin.local_ports import LocalPorts
from sidecar.admin.server import METRICS_ENDPOINTS, AdminService
from sidecar.admin.server_info import ServerInfo
from sidecar.admin.state import AdminView, ServerState
from sidecar.application.metrics_port import ApplicationSettings, MetricsPort
from sidecar.config.bootstrap import Bootstrap, Settings
from sidecar.config.listener import TrafficDirection
from sidecar.config.snapshot import Snapshot
from sidecar.errors import BootstrapError, ConfigError, WorkerError
from sidecar.grpc.call_stats import OwnCalls
from sidecar.identity.rotation import SvidRotation
from sidecar.identity.svid import Svid
from sidecar.identity.svid_pem import SvidPem
from sidecar.identity.watched_file import WatchedFile
from sidecar.lifetime import Lifetime
from sidecar.listener.manager import ListenerState, ListenerStatus
from sidecar.observability.exposition import ExtraStats
from sidecar.observability.log_levels import set_log_levels
from sidecar.process.own_calls import ReportsWithOwnCalls
from sidecar.process.remote_workers import RemoteWorkers
from sidecar.process.worker import FOLLOW_FILES_S, Worker, WorkerConfig
from sidecar.process.workers import Workers
from sidecar.timers import Timers
from sidecar.workload import local_workload, svid_rotation, token_reader
from sidecar.xds.client import XdsClient

if TYPE_CHECKING:
    from sidecar.dns.server import DnsServer

_LOG = logging.getLogger(__name__)

DRAIN_POLL_S = 0.1
# Istio's MINIMUM_DRAIN_DURATION: other workloads may still send to this one for as long.
MINIMUM_DRAIN_S = 5.0


class Supervisor:
    """`run` until it is stopped, then `close`."""

    def __init__(
        self, settings: Settings, bootstrap: Bootstrap, control: socket.socket | None = None
    ) -> None:
        """``control``: the channel to the master process; None: the worker is in this process."""
        self._settings = settings
        self._bootstrap = bootstrap
        self._timers = Timers(asyncio.get_running_loop())
        self._lifetime = Lifetime()
        config = WorkerConfig(
            local_workload=local_workload(settings, bootstrap),
            access_log=settings.access_log,
            drain_time_s=settings.drain_time_s,
            dns_resolver=bootstrap.dns_resolver,
            node_id=bootstrap.node_id,
            node_cluster=bootstrap.node_cluster,
        )
        self._remote: RemoteWorkers | None = None
        self._workers: Workers
        if control is None:
            self._workers = Worker(config, timers=self._timers, on_warm=self._clusters_warmed)
        else:
            self._remote = RemoteWorkers(control, config, settings.concurrency, on_warm=self._clusters_warmed)
            self._workers = self._remote
        self._own_calls = OwnCalls(bootstrap.static.clusters)
        self._rotation = svid_rotation(settings, bootstrap, self._use_svid, self._own_calls)
        self._mesh_roots = WatchedFile(settings.ca_cert) if settings.ca_cert is not None else None
        self._xds = XdsClient(
            bootstrap,
            self.apply,
            cache_dir=settings.cache_dir,
            token=token_reader(settings),
            resolve_first=self._workers.resolve_first,
            names=settings.dns_capture,
            calls=self._own_calls.to(bootstrap.ads.cluster_name) if bootstrap.ads is not None else None,
        )
        self._dns = self._dns_server() if settings.dns_capture else None
        view = self._admin_view()
        self._metrics_port = MetricsPort(
            ApplicationSettings(
                app_probers=settings.app_probers,
                prometheus_scrape=settings.prometheus_scrape,
                metrics_port=settings.metrics_port,
                node_id=bootstrap.node_id,
            ),
            AdminService(view, METRICS_ENDPOINTS),
            quit_=self.stop,
        )
        self._ports = LocalPorts(
            view, settings, bootstrap.admin_address, self._timers, metrics=self._metrics_port
        )
        self._snapshot: Snapshot | None = None
        self._draining: asyncio.Task[None] | None = None
        self._inbound_drain_start_s: float | None = None
        self._was_live = False

    # The life of the process.

    async def run(self) -> None:
        """Runs until `stop`. Raises the `SidecarError` that ended it earlier."""
        await self._ports.open()
        if self._dns is not None:
            await self._dns.open(self._settings.dns_port)
        if self._remote is not None:
            self._lifetime.start("workers", self._remote.run())
        self._lifetime.start("xds", self._xds.run())
        if self._rotation is not None:
            self._lifetime.start("identity", self._keep_identity(self._rotation))
            self._timers.after(FOLLOW_FILES_S, self._follow_mesh_roots)
        await self._lifetime.wait()

    def drain_and_stop(self) -> None:
        """SIGTERM. The sidecar is no longer ready, but every listener still accepts, since other workloads
        learn late that this one shuts down. Clients are asked to close each connection. The process ends with
        its last connection, or when the drain time is over."""
        if self._draining is None:
            _LOG.info("draining for at most %g s", self._settings.drain_time_s)
            self._draining = asyncio.create_task(self._drain(), name="drain")

    async def _drain(self) -> None:
        longest_s = self._settings.drain_time_s
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest_s):
                await self._workers.drain()
                await asyncio.sleep(self._minimum_drain_s())
                while await self._connections_left():  # noqa: ASYNC110 - workers send no events
                    await asyncio.sleep(DRAIN_POLL_S)
        _LOG.info("drained, with %d connections left", await self._connections_left())
        self.stop()

    async def _connections_left(self) -> int:
        """At least one if a worker does not answer."""
        try:
            return await self._workers.active_connections()
        except WorkerError as error:
            _LOG.warning("%s", error)
            return 1

    def _minimum_drain_s(self) -> float:
        start_s = self._inbound_drain_start_s
        passed_s = 0.0 if start_s is None else asyncio.get_running_loop().time() - start_s
        return rest_of_minimum_s(self._settings.drain_time_s, passed_s)

    def stop(self) -> None:
        self._lifetime.stop()

    def reopen_logs_soon(self) -> None:
        """SIGUSR1."""
        self._lifetime.start("reopen-logs", self.reopen_logs())

    async def reopen_logs(self) -> None:
        """SIGUSR1 and ``/reopen_logs``, as in Envoy: after log rotation."""
        _LOG.info("access logs are reopened")
        await self._workers.reopen_logs()

    async def close(self) -> None:
        await self._ports.close()
        await self._metrics_port.close()
        if self._draining is not None:
            self._draining.cancel()
        if self._dns is not None:
            await self._dns.close()
        await self._workers.close()
        self._timers.close()

    # Configuration.

    async def apply(self, snapshot: Snapshot) -> Mapping[str, ConfigError]:
        """As `Worker.apply`. A static listener that cannot be served ends the process."""
        errors = await self._workers.apply(snapshot)
        self._snapshot = snapshot
        if self._dns is not None:
            self._dns.resolver.use(snapshot.names.get(NAME_TABLE_NAME))
        self._check_static(errors)
        return errors

    def _check_static(self, errors: Mapping[str, ConfigError]) -> None:
        for name, error in errors.items():
            if name in self._bootstrap.static.listeners:
                self._lifetime.fail(BootstrapError(f"static listener {name!r}: {error}"))

    def _clusters_warmed(self) -> None:
        self._xds.clusters_warmed()

    def _dns_server(self) -> DnsServer:
        # It takes 20 ms, and most sidecars do not need it.
        from sidecar.dns.capture import dns_server  # noqa: PLC0415

        return dns_server(
            self._bootstrap, self._settings.dns_port, expects_names=lambda: not self._has_configuration()
        )

    # Identity.

    async def _keep_identity(self, rotation: SvidRotation) -> None:
        await rotation.obtain_first()
        await rotation.run()

    def _use_svid(self, svid: Svid) -> None:
        self._lifetime.start("use-svid", self._give_to_workers(svid.pem()))

    async def _give_to_workers(self, svid: SvidPem) -> None:
        self._check_static(await self._workers.use_svid(svid))

    def _follow_mesh_roots(self) -> None:
        if self._rotation is not None and self._mesh_roots is not None and self._mesh_roots.changed():
            _LOG.info("the mesh's roots have changed: the certificate is renewed soon")
            self._rotation.renew_soon()
        self._timers.after(FOLLOW_FILES_S, self._follow_mesh_roots)

    # The admin interface.

    def state(self) -> ServerState:
        if self._draining is not None:
            return ServerState.DRAINING
        if self._was_live:
            return ServerState.LIVE  # resources that warm later do not interrupt those in service
        if self._snapshot is None or not self._has_configuration():
            return ServerState.PRE_INITIALIZING
        awaits_identity = self._rotation is not None and self._rotation.svid is None
        if awaits_identity or self._xds.warming or self._workers.warming_listeners:
            return ServerState.INITIALIZING
        self._was_live = True
        return ServerState.LIVE

    def _has_configuration(self) -> bool:
        """From the control plane, or from an earlier process, which saved it on disk."""
        restored = self._xds.last_good() is not None
        return self._bootstrap.ads is None or self._xds.state.synced or restored

    def _admin_view(self) -> AdminView:
        info = ServerInfo(
            self._settings, self._bootstrap, self.state, seconds_until_expiry=self._seconds_until_expiry
        )
        return AdminView(
            workers=ReportsWithOwnCalls(self._workers, self._own_calls),
            extra_stats=partial(self._extra_stats, info),
            clusters=lambda: self._snapshot.clusters if self._snapshot is not None else {},
            config_dump=self._xds.config_dump,
            server_info=info.document,
            server_state=self.state,
            is_dynamic=lambda name: name not in self._bootstrap.static.clusters,
            drain=self._drain_listeners,
            quit=self.stop,
            reopen_logs=self.reopen_logs,
            set_log_levels=self._set_log_levels,
            dns=self._dns.report if self._dns is not None else None,
        )

    async def _extra_stats(self, info: ServerInfo) -> ExtraStats:
        listeners = await self._workers.listeners()
        return chain(
            info.stats(), self._ports.stats(), self._configuration_stats(listeners), self._dns_stats()
        )

    def _configuration_stats(self, listeners: Iterable[ListenerStatus]) -> Iterator[tuple[str, int | str]]:
        yield "server.worker_deaths", 0 if self._remote is None else self._remote.deaths
        yield "listener_manager.workers_started", int(self._was_live)
        yield "cluster_manager.active_clusters", len(self._snapshot.clusters if self._snapshot else ())
        yield "cluster_manager.warming_clusters", self._xds.warming_clusters
        states = Counter(status.state for status in listeners)
        for state in ListenerState:
            yield f"listener_manager.total_listeners_{state.value}", states[state]
        yield from self._xds.state.stats().items()

    def _dns_stats(self) -> ExtraStats:
        return self._dns.resolver.stats.items() if self._dns is not None else ()

    def _seconds_until_expiry(self) -> float | None:
        return None if self._rotation is None else self._rotation.seconds_until_expiry()

    async def _set_log_levels(self, levels: Mapping[str, int]) -> None:
        set_log_levels(levels)
        await self._workers.set_log_levels(levels)

    async def _drain_listeners(self, *, inbound_only: bool, graceful: bool, skip_exit: bool) -> None:
        directions = (TrafficDirection.INBOUND,) if inbound_only else tuple(TrafficDirection)
        if graceful:
            if self._inbound_drain_start_s is None:
                self._inbound_drain_start_s = asyncio.get_running_loop().time()
            await self._workers.drain(directions)
            if not skip_exit:
                self._timers.after(self._settings.drain_time_s, partial(self._end_drain, directions))
        else:
            await self._workers.stop_accepting(directions)

    def _end_drain(self, directions: Collection[TrafficDirection]) -> None:
        self._lifetime.start("stop-accepting", self._workers.stop_accepting(directions))


def rest_of_minimum_s(drain_time_s: float, passed_s: float) -> float:
    """How long a drain lasts at least. ``passed_s``: how long the inbound side drains already, because of the
    hook that precedes SIGTERM of a native sidecar."""
    return max(0.0, min(MINIMUM_DRAIN_S, drain_time_s) - passed_s)
