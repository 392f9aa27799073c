"""The whole control plane on one screen: what is made of what, what starts when, and how it ends.

folder or cluster -> store -> debouncer -> snapshot -> xDS streams, debug API
(in a cluster:) snapshot, what proxies acknowledged -> .status, by the one replica that is elected
state folder -> signer -> authority -> signing service, and our own certificate for TLS
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import signal
import time
from collections.abc import Coroutine, Mapping
from typing import Any, Final

import grpc
from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry

from controlplane.api.app import Mesh, debug_app
from controlplane.api.http_server import HttpServer, bind
from controlplane.api.metrics import metrics_app
from controlplane.ca import state_files
from controlplane.ca.authority import Authority
from controlplane.ca.metrics import AuthorityMetrics
from controlplane.ca.server_certificate import ServerCertificate
from controlplane.ca.service import CertificateService
from controlplane.ca.signer import TRUST_BUNDLE_FILE, Signer, load_or_create_root, load_signer
from controlplane.ca.tokens import TokenVerifier, load_or_create_token_key
from controlplane.model.mesh_config import MeshConfig
from controlplane.model.snapshot import MeshSnapshot
from controlplane.model.store import Store
from controlplane.networking import forget_unused
from controlplane.settings import Settings
from controlplane.sources.files import FolderSource
from controlplane.sources.source import Source
from controlplane.status.elected import ElectedWriter
from controlplane.status.writer import StatusTiming, World
from controlplane.xds.debounce import Debouncer
from controlplane.xds.server import SERVER_OPTIONS, XdsServer

_LOG = logging.getLogger(__name__)

# What is being answered may finish; streams that would go on for ever were told to come back.
_SHUTDOWN_GRACE_S: Final = 1.0
_EXPIRY_WARNING_S: Final = 30 * 24 * 3600.0
_STATUS_TIMING: Final = StatusTiming()


async def serve(settings: Settings, status_timing: StatusTiming = _STATUS_TIMING) -> None:
    """Runs until SIGTERM or SIGINT. Raises `SettingsError` when it cannot start as it was told to."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    control_plane = ControlPlane(settings, status_timing)
    try:
        await _unless(stop, {"start": control_plane.start()})
        await control_plane.follow(stop)
    finally:
        await control_plane.close()


class ControlPlane:
    """`start`, `follow`, and `close`, which ends whatever has begun."""

    def __init__(self, settings: Settings, status_timing: StatusTiming = _STATUS_TIMING) -> None:
        """Raises `SettingsError` for keys and certificates that cannot be used."""
        self._settings: Final = settings
        self._closing: Final = contextlib.AsyncExitStack()
        self._snapshot: MeshSnapshot | None = None
        self._registry: Final = _registry()

        self._store: Final = Store(settings.mesh)
        self._debouncer: Final = Debouncer(self._publish)

        self._authority: Final = _authority(settings)
        tokens = TokenVerifier(load_or_create_token_key(settings.state_dir), settings.mesh.trust_domain)
        self._signing: Final = CertificateService(self._authority, tokens, AuthorityMetrics(self._registry))
        self._xds: Final = XdsServer(
            registry=self._registry, authenticate=tokens.authenticate if settings.xds_auth else None
        )

        self._statuses: Final = self._make_status_writer(status_timing)
        self._source: Final = self._make_source()

    async def start(self) -> None:
        """Listens, reads the resources, and only then serves: a proxy must never be told of an empty mesh
        because we have just begun. Raises `SettingsError` for a port that cannot be had."""
        plaintext, xds_port = self._grpc_server("xDS", self._settings.ports.xds)
        self._xds.add_to(plaintext)
        tls, tls_port = self._grpc_server("xDS over TLS", self._settings.ports.xds_tls, self._credentials())
        self._xds.add_to(tls)
        self._signing.add_to(tls)
        debug = self._http_server("debug", debug_app(self._mesh()), self._settings.ports.debug)
        metrics = self._http_server("metrics", metrics_app(self._registry), self._settings.ports.metrics)
        # Last in, first out: the streams are told to come back before their servers stop.
        self._closing.push_async_callback(self._xds.close)
        self._closing.callback(self._debouncer.close)

        self._closing.push_async_callback(self._source.close)
        await self._source.start()
        self._publish()
        await plaintext.start()
        await tls.start()
        debug.start()
        metrics.start()
        self._announce({"xds": xds_port, "xds_tls": tls_port, "debug": debug.port, "metrics": metrics.port})

    async def follow(self, stop: asyncio.Event) -> None:
        """Follows the source's changes until ``stop`` is set. If following fails, so does this."""
        work = {"source-watch": self._source.watch()}
        if self._statuses is not None:
            work["statuses"] = self._statuses.run()
        await _unless(stop, work)

    async def close(self) -> None:
        await self._closing.aclose()
        _LOG.info("stopped")

    def _make_source(self) -> Source:
        settings = self._settings
        if self._statuses is None:
            return FolderSource(settings.folder, self._store, self._debouncer.trigger)
        # The client of Kubernetes is heavy: who has a folder should not wait for it.
        from controlplane.sources.kubernetes import KubernetesSource  # noqa: PLC0415

        return KubernetesSource(
            settings.kubeconfig,
            self._store,
            self._debouncer.trigger,
            dns_domain=settings.mesh.dns_domain,
            registry=self._registry,
            on_object=self._statuses.ledger.note,
        )

    def _make_status_writer(self, timing: StatusTiming) -> ElectedWriter | None:
        """A folder's files have no status to write to."""
        settings = self._settings
        if settings.source == "files":
            return None
        world = World(
            statuses=self._store.statuses, in_force=self._store.in_force, progress=self._xds.progress
        )
        return ElectedWriter(
            settings.kubeconfig, settings.namespace, world, registry=self._registry, timing=timing
        )

    def _publish(self) -> None:
        snapshot, change = self._store.build()
        if self._statuses is not None:
            self._statuses.ledger.publish(snapshot, change, self._store.in_force)
        if snapshot is not self._snapshot:
            self._snapshot = snapshot
            if change.full:
                forget_unused()
            self._xds.set_snapshot(snapshot, change)

    def _mesh(self) -> Mesh:
        return Mesh(
            snapshot=lambda: self._snapshot,
            statuses=self._store.statuses,
            proxies=self._xds.proxies,
            config_dump=self._xds.config_dump,
        )

    def _credentials(self) -> grpc.ServerCredentials:
        hosts = _own_names(self._settings.bind_address, self._settings.mesh)
        return ServerCertificate(self._authority, hosts).credentials()

    def _grpc_server(
        self, name: str, port: int, credentials: grpc.ServerCredentials | None = None
    ) -> tuple[grpc.aio.Server, int]:
        host = self._settings.bind_address
        # gRPC tells of a port in use in lines of its own: ours is the clearer one.
        bind(name, host, port).close()
        server = grpc.aio.server(options=(*SERVER_OPTIONS, ("grpc.so_reuseport", 0)))
        self._closing.push_async_callback(server.stop, _SHUTDOWN_GRACE_S)
        if credentials is None:
            return server, server.add_insecure_port(_address(host, port))
        return server, server.add_secure_port(_address(host, port), credentials)

    def _http_server(self, name: str, app: Any, port: int) -> HttpServer:
        server = HttpServer(name, app, self._settings.bind_address, port)
        self._closing.push_async_callback(server.close)
        return server

    def _announce(self, ports: dict[str, int]) -> None:
        addresses = {name: _address(self._settings.bind_address, port) for name, port in ports.items()}
        listing = ", ".join(f"{name} on {address}" for name, address in addresses.items())
        _LOG.info("ready: %s; trust domain %s", listing, self._settings.mesh.trust_domain)
        if not ipaddress.ip_address(self._settings.bind_address).is_loopback:
            _LOG.warning("xDS on %s is in plaintext, for whoever can reach it", addresses["xds"])
        if self._settings.addresses_file is not None:
            state_files.replace(self._settings.addresses_file, json.dumps(addresses).encode(), mode=0o644)


async def _unless(stop: asyncio.Event, work: Mapping[str, Coroutine[Any, Any, None]]) -> None:
    """Does the work, by name, until some of it is done, or ``stop`` is set. Raises what it raises."""
    working = [asyncio.create_task(each, name=name) for name, each in work.items()]
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait({*working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in working:
            if task.done():
                task.result()
    finally:
        for task in working:
            task.cancel()
        stopping.cancel()
        await asyncio.gather(*working, stopping, return_exceptions=True)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
        registry.register(collector)
    return registry


def _authority(settings: Settings) -> Authority:
    """Its roots are published in the state folder, for those who are to trust us."""
    signer = _signer(settings)
    authority = Authority(
        signer,
        default_lifetime_s=settings.authority.default_lifetime_s,
        max_lifetime_s=settings.authority.max_lifetime_s,
    )
    bundle = "".join(authority.trust_bundle_pem).encode("ascii")
    state_files.replace(settings.state_dir / TRUST_BUNDLE_FILE, bundle, mode=0o644)
    for what, expires in (("a root", authority.root_expires), ("the signer", authority.signer_expires)):
        if expires.timestamp() - time.time() < _EXPIRY_WARNING_S:
            _LOG.warning("%s of the mesh's certificates expires at %s: replace it before", what, expires)
    return authority


def _signer(settings: Settings) -> Signer:
    given = settings.authority.signer
    if given is not None:
        return load_signer(given, time.time())
    return load_or_create_root(
        settings.state_dir, settings.mesh.trust_domain, time.time(), settings.authority.roots
    )


def _own_names(bind_address: str, mesh: MeshConfig) -> list[str]:
    """How proxies may call us: on this machine, at the address we listen on, as a Service of the cluster."""
    service = f"outrigger-controlplane.{mesh.root_namespace}"
    names = ["localhost", "127.0.0.1", "::1", "outrigger-controlplane", service, f"{service}.svc"]
    names.append(f"{service}.svc.{mesh.dns_domain}")
    if bind_address not in (*names, "0.0.0.0", "::"):
        names.append(bind_address)
    return names
