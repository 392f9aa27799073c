"""The whole control plane on one screen: its parts, the order in which they start, and how they stop.

folder or cluster -> source -> store -> debouncer -> snapshot -> xDS streams, debug API
                  -> authority -> signing service, and our own certificate for TLS
        cluster <- statuses, by one elected replica <- snapshot, acknowledgements of proxies
        cluster -> webhooks: sidecars for new pods, validation of resources -> cluster
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import signal
import ssl
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import grpc
from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry

from controlplane.api.access import Authorizer, ProtectedApp
from controlplane.api.app import Mesh, debug_app
from controlplane.api.http_server import HttpServer, bind
from controlplane.api.metrics import metrics_app
from controlplane.ca import state_files
from controlplane.ca.metrics import AuthorityMetrics
from controlplane.ca.server_certificate import ServerCertificate
from controlplane.ca.service import CertificateService
from controlplane.kinds.registry import KINDS
from controlplane.model.proxy import ProxyProgress
from controlplane.model.snapshot import MeshSnapshot, ResourceKey
from controlplane.model.store import Store
from controlplane.networking import BuildCache
from controlplane.platform import Platform, folder_platform
from controlplane.settings import Settings
from controlplane.status.affected_proxies import AffectedProxies, Refusal
from controlplane.status.writer import StatusInputs, StatusTiming
from controlplane.xds.debounce import Debouncer
from controlplane.xds.generator import MeshGenerator
from controlplane.xds.server import SERVER_OPTIONS, XdsServer

_LOG = logging.getLogger(__name__)

# Running requests may finish in this time; endless streams have been ended before.
_SHUTDOWN_GRACE_S: Final = 1.0
_IGNORED_SIGNALS: Final = (signal.SIGHUP, signal.SIGUSR1)
_STATUS_TIMING: Final = StatusTiming()


async def serve(settings: Settings, status_timing: StatusTiming = _STATUS_TIMING) -> None:
    """Runs until SIGTERM or SIGINT. Raises `SettingsError` when it cannot start with these settings."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # Other programs reload their configuration or log files on these signals. Here the sources are followed,
    # and the log goes to the standard error. The loop's own handlers cannot be used: when the loop closes, it
    # restores the default, which kills the process while it stops.
    before = {number: signal.signal(number, partial(_say_ignored, loop)) for number in _IGNORED_SIGNALS}
    control_plane = ControlPlane(settings, status_timing)
    try:
        await _unless(stop, {"start": control_plane.start()})
        if not stop.is_set():
            await control_plane.follow(stop)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        await control_plane.close()


def _say_ignored(loop: asyncio.AbstractEventLoop, number: int, _frame: object) -> None:
    loop.call_soon_threadsafe(_LOG.warning, "%s is ignored", signal.Signals(number).name)


@dataclass(frozen=True, slots=True, kw_only=True)
class _GrpcServer:
    server: grpc.aio.Server
    port: int


class ControlPlane:
    """`start` it, `follow` the changes, and `close` it: that stops everything that has started."""

    # Set by `start`.
    _platform: Platform
    _xds: XdsServer

    def __init__(self, settings: Settings, status_timing: StatusTiming = _STATUS_TIMING) -> None:
        self._settings: Final = settings
        self._status_timing: Final = status_timing
        self._closing: Final = contextlib.AsyncExitStack()
        self._snapshot: MeshSnapshot | None = None
        self._registry: Final = _registry()

        self._store: Final = Store(KINDS, settings.mesh)
        self._cache: Final = BuildCache()
        self._debouncer: Final = Debouncer(self._publish)

    async def start(self) -> None:
        """Listens, reads the resources, and only then serves: a proxy must never receive an empty mesh
        because the control plane has just started. Only the debug server starts at once: its `/healthz` shows
        that the process is alive while it waits for the API server. Raises `SettingsError` for invalid keys
        and certificates, and for a port that is not available."""
        debug_api = ProtectedApp(debug_app(self._mesh()), self._debug_authorizer)
        debug = self._http_server("debug", debug_api, self._settings.ports.debug)
        debug.start()
        self._platform = await self._closing.enter_async_context(self._open_platform())
        source = self._platform.source
        grpc_servers, http_servers = self._grpc_servers(), self._http_servers()
        # Last in, first out: the streams end before their servers stop, so that proxies reconnect.
        self._closing.push_async_callback(self._xds.close)
        self._closing.callback(self._debouncer.close)

        self._closing.push_async_callback(source.close)
        await source.start()
        self._publish()
        for each in grpc_servers.values():
            await each.server.start()
        for server in http_servers.values():
            server.start()
        bound = {name: each.port for name, each in grpc_servers.items()}
        bound |= {name: each.port for name, each in http_servers.items()}
        self._announce({**bound, "debug": debug.port})

    def _grpc_servers(self) -> dict[str, _GrpcServer]:
        authenticator, ports = self._platform.authenticator, self._settings.ports
        signing = CertificateService(
            self._platform.authority, authenticator, AuthorityMetrics(self._registry)
        )
        self._xds = XdsServer(
            MeshGenerator(self._cache),
            registry=self._registry,
            authenticate=authenticator.authenticate if self._settings.xds_auth else None,
            knows_all=self._platform.knows_all_workloads,
        )
        tls = self._grpc_server("xDS over TLS", ports.xds_tls, self._certificate().credentials())
        self._xds.add_to(tls.server)
        signing.add_to(tls.server)
        servers = {"xds_tls": tls}
        if ports.xds is not None:
            servers["xds"] = self._grpc_server("xDS", ports.xds)
            self._xds.add_to(servers["xds"].server)
        return servers

    def _http_servers(self) -> dict[str, HttpServer]:
        ports, webhooks = self._settings.ports, self._platform.webhooks
        servers = {"metrics": self._http_server("metrics", metrics_app(self._registry), ports.metrics)}
        if webhooks is not None and ports.webhooks is not None:
            tls = self._certificate().tls_context()
            servers["webhooks"] = self._http_server("webhooks", webhooks, ports.webhooks, tls)
        return servers

    async def follow(self, stop: asyncio.Event) -> None:
        """Follows the source's changes, and runs the platform's background tasks, until ``stop`` is set.
        Raises the error of a task that fails."""
        background_tasks = {name: start() for name, start in self._platform.background_tasks.items()}
        await _unless(stop, {"source-watch": self._platform.source.watch(), **background_tasks})

    async def close(self) -> None:
        await self._closing.aclose()
        _LOG.info("stopped")

    def _open_platform(self) -> AbstractAsyncContextManager[Platform]:
        settings, store, on_change = self._settings, self._store, self._debouncer.trigger
        if settings.source == "files":
            return folder_platform(settings, store, on_change, self._registry)
        # Importing the Kubernetes client takes long, and a folder does not need it.
        from controlplane.cluster_platform import cluster_platform  # noqa: PLC0415

        inputs = StatusInputs(
            statuses=store.statuses,
            status_changes=store.status_changes,
            in_force=store.in_force,
            progress=self._progress,
            cache=self._cache,
        )
        return cluster_platform(settings, store, on_change, inputs, self._status_timing, self._registry)

    def _progress(self) -> Sequence[ProxyProgress]:
        return self._xds.progress()

    def _publish(self) -> None:
        snapshot, change = self._store.build()
        self._platform.on_build(snapshot, change)
        if snapshot is not self._snapshot:
            self._snapshot = snapshot
            self._cache.forget_unused(change.whole_types)
            self._xds.set_snapshot(snapshot, change)

    def _mesh(self) -> Mesh:
        """The debug API starts before the platform and the xDS server exist. It calls their functions only
        when there is a snapshot."""

        def unsupported() -> Sequence[Any]:
            return self._platform.unsupported.listing()

        def proxies() -> Sequence[Any]:
            return self._xds.proxies()

        def unmeshed() -> Sequence[Any]:
            return self._platform.unmeshed()

        def config_dump(proxy: str) -> dict[str, Any]:
            return self._xds.config_dump(proxy)

        return Mesh(
            snapshot=lambda: self._snapshot,
            statuses=self._store.statuses,
            refusals=self._refusals,
            proxies=proxies,
            config_dump=config_dump,
            unsupported=unsupported,
            unmeshed=unmeshed,
        )

    def _debug_authorizer(self) -> Authorizer | None:
        return self._platform.debug_authorizer if self._snapshot is not None else None

    def _refusals(self) -> Mapping[ResourceKey, Sequence[Refusal]]:
        """Returns the rejections by proxies for each resource. Examines no resource if no proxy has rejected
        anything."""
        progress = self._progress()
        if self._snapshot is None or not any(each.rejections for each in progress):
            return {}
        affected_proxies, store = AffectedProxies(self._cache, self._snapshot, progress), self._store
        views = {status.key: store.in_force(status.key) for status in store.statuses()}
        return {
            key: affected_proxies.reach(key.kind, view, store.arrived(key)).refusals
            for key, view in views.items()
            if view is not None
        }

    def _certificate(self) -> ServerCertificate:
        return ServerCertificate(self._platform.authority, _own_names(self._settings))

    def _grpc_server(
        self, name: str, port: int, credentials: grpc.ServerCredentials | None = None
    ) -> _GrpcServer:
        host = self._settings.bind_address
        # gRPC logs several lines for a port in use: the error of `bind` is clearer.
        bind(name, host, port).close()
        server = grpc.aio.server(options=(*SERVER_OPTIONS, ("grpc.so_reuseport", 0)))
        self._closing.push_async_callback(server.stop, _SHUTDOWN_GRACE_S)
        address = _address(host, port)
        if credentials is None:
            return _GrpcServer(server=server, port=server.add_insecure_port(address))
        return _GrpcServer(server=server, port=server.add_secure_port(address, credentials))

    def _http_server(self, name: str, app: Any, port: int, tls: ssl.SSLContext | None = None) -> HttpServer:
        server = HttpServer(name, app, self._settings.bind_address, port, tls=tls)
        self._closing.push_async_callback(server.close)
        return server

    def _announce(self, ports: dict[str, int]) -> None:
        addresses = {name: _address(self._settings.bind_address, port) for name, port in ports.items()}
        listing = ", ".join(f"{name} on {address}" for name, address in addresses.items())
        _LOG.info("ready: %s; trust domain %s", listing, self._settings.mesh.trust_domain)
        if "xds" in addresses and not ipaddress.ip_address(self._settings.bind_address).is_loopback:
            _LOG.warning("xDS on %s is in plaintext, and open to everyone who can reach it", addresses["xds"])
        if self._settings.addresses_file is not None:
            state_files.replace(self._settings.addresses_file, json.dumps(addresses).encode(), mode=0o644)


async def _unless(stop: asyncio.Event, coroutines: Mapping[str, Coroutine[Any, Any, None]]) -> None:
    """Runs the coroutines as tasks of these names, until one of them ends or ``stop`` is set. Raises the
    error of a task that failed."""
    working = [asyncio.create_task(coroutine, name=name) for name, coroutine in coroutines.items()]
    tasks = [*working, asyncio.create_task(stop.wait(), name="stop")]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for done in filter(asyncio.Task.done, working):
            done.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
        registry.register(collector)
    return registry


def _own_names(settings: Settings) -> list[str]:
    """The names by which clients may call the control plane: those of this machine, the listening address,
    and those of its Services in the cluster."""
    namespace, domain = settings.system_namespace, settings.mesh.dns_domain
    names = ["localhost", "127.0.0.1", "::1"]
    for service in settings.services:
        in_cluster = f"{service}.{namespace}"
        names += [service, in_cluster, f"{in_cluster}.svc", f"{in_cluster}.svc.{domain}"]
    if settings.bind_address not in (*names, "0.0.0.0", "::"):
        names.append(settings.bind_address)
    return names
