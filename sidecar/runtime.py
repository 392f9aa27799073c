"""The whole proxy on one screen: what is made of what, what happens when configuration comes, how it ends.

listener -> TLS (identity) -> connection manager (http) -> routes, filters -> router -> cluster (upstream)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain

from protos.node import WORKLOAD_METADATA
from sidecar.admin.local_ports import LocalPorts
from sidecar.admin.server_info import ServerInfo
from sidecar.admin.state import AdminView, ServerState
from sidecar.config.bootstrap import Bootstrap, Settings
from sidecar.config.endpoint import SocketAddress, WorkloadMetadata
from sidecar.config.listener import HttpConnectionManager, Listener, TcpProxy, TrafficDirection
from sidecar.config.snapshot import Snapshot
from sidecar.errors import BootstrapError, ConfigError, SidecarError
from sidecar.filters.chain import build
from sidecar.http.connection_manager import ConnectionManager
from sidecar.http.h1.client import Http1ClientConnection
from sidecar.http.h1.server import Http1ServerConnection
from sidecar.identity.certs import certificates
from sidecar.identity.contexts import TlsContexts
from sidecar.identity.rotation import SvidRotation
from sidecar.identity.svid import Svid
from sidecar.identity.watched_file import WatchedFile
from sidecar.listener.faults import quiet_peer_faults
from sidecar.listener.handler import ConnectionHandler
from sidecar.listener.manager import ListenerManager, ListenerSettings, ListenerState
from sidecar.listener.tcp_proxy import TcpProxyHandler, TcpProxyServices
from sidecar.observability.series import SWEEP_INTERVAL_S
from sidecar.observability.stats import Stats
from sidecar.observability.telemetry import Telemetry
from sidecar.router.exchange import RouterEnvironment
from sidecar.router.match import RouteTable, RouteTableRef
from sidecar.router.router import Router
from sidecar.timers import Timers
from sidecar.upstream.cluster_manager import ClusterManager
from sidecar.workload import local_workload, svid_rotation, token_reader
from sidecar.xds.client import XdsClient

_LOG = logging.getLogger(__name__)

DRAIN_POLL_S = 0.1
# How often the certificates and roots are read anew that the configuration names as files.
FOLLOW_FILES_S = 5.0
# Istio's MINIMUM_DRAIN_DURATION: so long others may still send to a workload that is leaving.
MINIMUM_DRAIN_S = 5.0


async def serve(settings: Settings, bootstrap: Bootstrap) -> None:
    """Runs until SIGTERM has drained it, SIGINT or ``/quitquitquit``. Raises `BootstrapError` and
    `IdentityRefusedError` when it cannot serve as it was told to."""
    sidecar = Sidecar(settings, bootstrap)
    loop = asyncio.get_running_loop()
    quiet_peer_faults(loop)
    loop.add_signal_handler(signal.SIGTERM, sidecar.drain_and_stop)
    loop.add_signal_handler(signal.SIGINT, sidecar.stop)
    actions: dict[signal.Signals, Callable[[], None]] = {
        signal.SIGUSR1: sidecar.reopen_logs,
        signal.SIGHUP: lambda: _LOG.info("SIGHUP is ignored"),
    }
    # Not by the loop's handlers: as it closes they become the default, which kills a process that is ending.
    before = {
        number: signal.signal(number, partial(_soon, loop, action)) for number, action in actions.items()
    }
    try:
        await sidecar.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        await sidecar.close()


def _soon(loop: asyncio.AbstractEventLoop, action: Callable[[], None], _number: int, _frame: object) -> None:
    loop.call_soon_threadsafe(action)


class Sidecar:
    """`run` until it is stopped, and `close`, which ends whatever has begun."""

    def __init__(self, settings: Settings, bootstrap: Bootstrap) -> None:
        loop = asyncio.get_running_loop()
        self._settings = settings
        self._bootstrap = bootstrap
        self._timers = Timers(loop)
        self._stats = Stats()
        self._telemetry = Telemetry(local_workload(settings, bootstrap), access_log=settings.access_log)
        self._contexts = TlsContexts(bootstrap.static.secrets)
        self._clusters = ClusterManager(
            stats=self._stats,
            tls=self._contexts,
            http_connection_factory=lambda alpn: Http1ClientConnection(),
            timers=self._timers,
            loop=loop,
            default_resolver=bootstrap.dns_resolver,
            is_own_listener=self._is_own_listener,
            on_warm=self._clusters_warmed,
        )
        self._router = Router(self._clusters, RouterEnvironment(timers=self._timers))
        self._route_tables: dict[str, RouteTableRef] = {}
        self._listeners = ListenerManager(
            contexts=self._contexts,
            make_http=self._make_http,
            make_tcp=self._make_tcp,
            observe_refused=lambda listener: self._telemetry.for_listener(listener.access_logs),
            stats=self._stats,
            timers=self._timers,
            settings=ListenerSettings(drain_time_s=settings.drain_time_s),
        )
        self._rotation = svid_rotation(settings, bootstrap, self._use_svid)
        self._mesh_roots = WatchedFile(settings.ca_cert) if settings.ca_cert is not None else None
        self._xds = XdsClient(
            bootstrap,
            self._apply,
            state_dir=settings.state_dir,
            token=token_reader(settings),
            resolve_first=self._clusters.resolve_first,
        )
        self._ports = LocalPorts(self._view(), settings, bootstrap.admin_address, self._timers)
        self._snapshot: Snapshot | None = None
        self._stopped: asyncio.Future[None] = loop.create_future()
        self._draining: asyncio.Task[None] | None = None
        self._was_live = False

    # The life of the process.

    async def run(self) -> None:
        await self._ports.open()
        self._timers.after(FOLLOW_FILES_S, self._follow_files)
        self._timers.after(SWEEP_INTERVAL_S, self._forget_what_is_gone)
        tasks = [asyncio.create_task(self._xds.run(), name="xds")]
        if self._rotation is not None:
            tasks.append(asyncio.create_task(self._keep_identity(self._rotation), name="identity"))
        for task in tasks:
            task.add_done_callback(self._ended)
        try:
            await self._stopped
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A task that should have gone on for ever: what ended it ends the process."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        if not isinstance(error, SidecarError):
            _LOG.error("the task %s has failed", task.get_name(), exc_info=error)
            error = SidecarError(f"{task.get_name()}: {type(error).__name__}: {error}")
        self._fail(error)

    def _fail(self, error: SidecarError) -> None:
        if not self._stopped.done():
            self._stopped.set_exception(error)

    def drain_and_stop(self) -> None:
        """SIGTERM: not ready any more, but every listener still accepts, since others learn late that this
        workload leaves; each connection is told to close. The process ends with its last connection, or when
        the drain time is over."""
        if self._draining is None:
            _LOG.info("draining for at most %g s", self._settings.drain_time_s)
            self._listeners.drain()
            self._draining = asyncio.create_task(self._wait_until_drained(), name="drain")

    async def _wait_until_drained(self) -> None:
        longest_s = self._settings.drain_time_s
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest_s):
                await asyncio.sleep(min(MINIMUM_DRAIN_S, longest_s))
                while self._listeners.active_connections:  # noqa: ASYNC110 - handlers count, they do not tell
                    await asyncio.sleep(DRAIN_POLL_S)
        _LOG.info("drained, with %d connections left", self._listeners.active_connections)
        self.stop()

    def stop(self) -> None:
        if not self._stopped.done():
            self._stopped.set_result(None)

    def reopen_logs(self) -> None:
        """SIGUSR1 and ``/reopen_logs``, as Envoy: what log rotation asks for."""
        _LOG.info("access logs are reopened")
        self._telemetry.reopen_logs()

    async def close(self) -> None:
        await self._ports.close()
        if self._draining is not None:
            self._draining.cancel()
        await self._listeners.close()
        await self._router.close()
        await self._clusters.close()
        await self._telemetry.close()
        self._timers.close()

    # Configuration.

    def _apply(self, snapshot: Snapshot) -> Mapping[str, ConfigError]:
        """Everything that can be refused is built first; then clusters before the routes that name them,
        and routes before the listeners that serve by them. Returns what listeners could not be."""
        known = self._snapshot.routes if self._snapshot is not None else {}
        tables = {
            name: RouteTable(config)
            for name, config in snapshot.routes.items()
            if known.get(name) is not config
        }
        self._contexts.use_secrets(snapshot.secrets)
        self._clusters.update(snapshot)
        for name, table in tables.items():
            self._route_table(name).current = table
        for name in self._route_tables.keys() - snapshot.routes.keys():
            del self._route_tables[name]  # a connection that still drains by it keeps it
        self._snapshot = snapshot
        self._name_workload(snapshot)
        return self._blame(self._listeners.update(snapshot))

    def _clusters_warmed(self) -> None:
        self._xds.clusters_warmed()

    def _name_workload(self, snapshot: Snapshot) -> None:
        """The control plane says it with listeners, for a pod does not know whose it is."""
        for listener in snapshot.listeners.values():
            if own := listener.metadata.get(WORKLOAD_METADATA):
                self._telemetry.name_workload(WorkloadMetadata.parse(own))
                return

    def _blame(self, errors: Mapping[str, ConfigError]) -> Mapping[str, ConfigError]:
        """What the bootstrap file asks for and cannot be had ends the process."""
        for name, error in errors.items():
            if name in self._bootstrap.static.listeners:
                self._fail(BootstrapError(f"static listener {name!r}: {error}"))
        return errors

    def _route_table(self, name: str) -> RouteTableRef:
        return self._route_tables.setdefault(name, RouteTableRef())

    def _make_http(self, config: HttpConnectionManager, listener: Listener) -> ConnectionHandler:
        """The stack of one filter chain."""
        if config.route_config is not None:
            routes = RouteTableRef(RouteTable(config.route_config))
        else:
            routes = self._route_table(config.rds_name)
        return ConnectionManager(
            config,
            build(config, routes=routes, router=self._router),
            self._stats.http(config.stat_prefix),
            codec=Http1ServerConnection,
            timers=self._timers,
            on_complete=self._telemetry.for_requests(listener.direction, config.access_logs),
            on_disconnect=self._telemetry.for_listener(listener.access_logs),
        )

    def _make_tcp(self, config: TcpProxy, listener: Listener) -> ConnectionHandler:
        services = TcpProxyServices(
            find_cluster=self._clusters.get,
            timers=self._timers,
            observer=self._telemetry.for_connections(
                listener.direction, (*config.access_logs, *listener.access_logs)
            ),
            rng=random.Random(),
        )
        return TcpProxyHandler(config, self._stats.tcp(config.stat_prefix), services)

    def _is_own_listener(self, address: SocketAddress) -> bool:
        return self._listeners.listens_on(address)

    # Identity.

    async def _keep_identity(self, rotation: SvidRotation) -> None:
        await rotation.obtain_first()
        await rotation.run()

    def _use_svid(self, svid: Svid) -> None:
        self._contexts.use_svid(svid)
        self._clusters.renew_tls()
        if self._listeners.warming:
            self._blame(self._listeners.identity_ready())

    def _follow_files(self) -> None:
        if self._contexts.follow_files():
            _LOG.info("certificates or roots of files have changed: new connections use them")
            self._clusters.renew_tls()
        if self._rotation is not None and self._mesh_roots is not None and self._mesh_roots.changed():
            _LOG.info("the mesh's roots have changed: the certificate is renewed soon")
            self._rotation.renew_soon()
        self._timers.after(FOLLOW_FILES_S, self._follow_files)

    # What there is to see.

    def _forget_what_is_gone(self) -> None:
        """Counters of listeners, and series of hosts and peers."""
        places = {(cluster.name, "") for cluster in self._clusters}
        for cluster in self._clusters:
            workloads = (host.endpoint.workload for host in cluster.hosts.values())
            places.update((cluster.name, workload.key) for workload in workloads if workload is not None)
        self._telemetry.sweep(places)
        self._stats.keep_listeners(self._listeners.stat_prefixes())
        self._timers.after(SWEEP_INTERVAL_S, self._forget_what_is_gone)

    def _view(self) -> AdminView:
        info = ServerInfo(
            self._settings, self._bootstrap, self._state, seconds_until_expiry=self._seconds_until_expiry
        )
        return AdminView(
            stats=self._stats,
            extra_stats=lambda: chain(info.stats(), self._configuration_stats()),
            refresh_stats=self._listeners.refresh_stats,
            reporters=self._telemetry.reporters,
            clusters=self._clusters,
            listeners=self._listeners,
            config_dump=self._xds.config_dump,
            certificates=lambda: certificates(self._contexts, time.time()),
            server_info=info.document,
            server_state=self._state,
            is_dynamic=lambda name: name not in self._bootstrap.static.clusters,
            drain=self._drain_listeners,
            quit=self.stop,
            reopen_logs=self.reopen_logs,
        )

    def _state(self) -> ServerState:
        if self._draining is not None:
            return ServerState.DRAINING
        if self._was_live:
            return ServerState.LIVE  # what warms later does not keep what serves from serving
        if self._snapshot is None or not self._has_configuration():
            return ServerState.PRE_INITIALIZING
        awaits_identity = self._rotation is not None and not self._contexts.ready
        if awaits_identity or self._xds.warming or self._listeners.warming:
            return ServerState.INITIALIZING
        self._was_live = True
        return ServerState.LIVE

    def _has_configuration(self) -> bool:
        """From the control plane in this life, or from an earlier one, kept on disk."""
        restored = self._xds.last_good() is not None
        return self._bootstrap.ads is None or self._xds.state.synced or restored

    def _configuration_stats(self) -> Iterator[tuple[str, int | str]]:
        yield "cluster_manager.active_clusters", len(self._clusters)
        yield "cluster_manager.warming_clusters", self._xds.warming_clusters
        listeners = Counter(status.state for status in self._listeners.statuses())
        for state in ListenerState:
            yield f"listener_manager.total_listeners_{state.value}", listeners[state]
        yield from self._xds.state.stats().items()

    def _seconds_until_expiry(self) -> float | None:
        return None if self._rotation is None else self._rotation.seconds_until_expiry()

    def _drain_listeners(self, *, inbound_only: bool, graceful: bool) -> None:
        directions = (TrafficDirection.INBOUND,) if inbound_only else tuple(TrafficDirection)
        if graceful:
            self._listeners.drain(directions)
            self._timers.after(self._settings.drain_time_s, lambda: self._listeners.stop(directions))
        else:
            self._listeners.stop(directions)
