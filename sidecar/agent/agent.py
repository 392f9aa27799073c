"""The agent beside an Envoy, which does for it what a sidecar does for itself: it obtains the workload's
certificate, answers the application's probes, and serves metrics and readiness.

The application's traffic does not pass it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from sidecar.admin.answers import text
from sidecar.admin.local_port import LocalPort, everywhere, report_addresses
from sidecar.agent.envoy import Envoy
from sidecar.agent.identity_folder import IdentityFolder
from sidecar.agent.settings import AgentSettings
from sidecar.application.metrics_port import ApplicationSettings, MetricsPort
from sidecar.http.message import Request, Response, Service
from sidecar.identity.rotation import SvidRotation
from sidecar.identity.svid import Svid
from sidecar.identity.watched_file import WatchedFile
from sidecar.lifetime import Lifetime
from sidecar.timers import Timers
from sidecar.workload import svid_rotation

_LOG = logging.getLogger(__name__)

FOLLOW_FILES_S = 5.0


class Agent:
    """`run` until it is stopped, then `close`."""

    def __init__(self, agent_settings: AgentSettings) -> None:
        settings, bootstrap = agent_settings.settings, agent_settings.bootstrap
        assert bootstrap.admin_address is not None
        self._settings = settings
        self._timers = Timers(asyncio.get_running_loop())
        self._lifetime = Lifetime()
        self._envoy = Envoy(bootstrap.admin_address)
        self._folder = IdentityFolder(agent_settings.identity_dir)
        self._rotation = svid_rotation(settings, bootstrap, self._use_svid)
        self._mesh_roots = WatchedFile(settings.ca_cert) if settings.ca_cert is not None else None
        self._metrics = MetricsPort(
            ApplicationSettings(
                app_probers=settings.app_probers,
                prometheus_scrape=settings.prometheus_scrape,
                metrics_port=settings.metrics_port,
                node_id=bootstrap.node_id,
            ),
            self._envoy.metrics,
            quit_=self._quit,
            scraped=[self._envoy.metrics_target],
        )
        services: tuple[tuple[str, int | None, Service], ...] = (
            ("status", settings.status_port, self._status),
            ("metrics", settings.metrics_port, self._metrics),
        )
        self._ports = [
            (everywhere(port), LocalPort(name, service, self._timers))
            for name, port, service in services
            if port is not None
        ]
        self._stopping: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Runs until `stop_after_envoy` or ``/quitquitquit``. Raises the `SidecarError` that ended it
        earlier."""
        opened = {port.name: str(await port.open(*addresses)) for addresses, port in self._ports}
        report_addresses(opened, self._settings.addresses_file)
        assert self._rotation is not None  # the settings have a CA address
        self._lifetime.start("identity", self._keep_identity(self._rotation))
        self._timers.after(FOLLOW_FILES_S, self._follow_mesh_roots)
        await self._lifetime.wait()

    def stop_after_envoy(self) -> None:
        """SIGTERM. Probes and metrics are answered until Envoy has ended, for at most the drain time."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._wait_for_envoy(), name="wait-for-envoy")

    async def _wait_for_envoy(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_time_s):
                await self._envoy.ended()
        self.stop()

    def stop(self) -> None:
        self._lifetime.stop()

    def _quit(self) -> None:
        """``/quitquitquit``: ends Envoy, too."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._quit_envoy(), name="quit")

    async def _quit_envoy(self) -> None:
        await self._envoy.quit()
        self.stop()

    async def close(self) -> None:
        for _, port in self._ports:
            await port.close()
        await self._metrics.close()
        if self._stopping is not None:
            self._stopping.cancel()
        self._timers.close()

    # Identity.

    async def _keep_identity(self, rotation: SvidRotation) -> None:
        await rotation.obtain_first()
        await rotation.run()

    def _use_svid(self, svid: Svid) -> None:
        self._folder.write(svid.pem())

    def _follow_mesh_roots(self) -> None:
        if self._rotation is not None and self._mesh_roots is not None and self._mesh_roots.changed():
            _LOG.info("the mesh's roots have changed: the certificate is renewed soon")
            self._rotation.renew_soon()
        self._timers.after(FOLLOW_FILES_S, self._follow_mesh_roots)

    # The status port.

    async def _status(self, request: Request) -> Response:
        """``/healthz/identity``: whether Envoy can start; ``/healthz/ready``: whether it is ready."""
        path = request.path.partition(b"?")[0]
        if path == b"/healthz/identity":
            if not self._folder.written:
                return text("no certificate yet\n", 503)
            return text("the certificate is stored\n")
        if path == b"/healthz/ready":
            if self._stopping is not None:
                return text("DRAINING\n", 503)
            status = await self._envoy.ready()
            answer = "Envoy does not run\n" if status is None else f"the status of Envoy is {status}\n"
            return text(answer, 200 if status == 200 else 503)
        return text("invalid path; use /healthz/ready or /healthz/identity\n", 404)
