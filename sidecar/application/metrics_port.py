"""The port 15020: metrics for Prometheus, the application's probes for the kubelet, and the end of a job's
sidecar for the job."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from protos.node import NodeId
from sidecar.admin.answers import text
from sidecar.admin.local_clients import LocalClients
from sidecar.application.connection import SOURCES
from sidecar.application.flags import APP_HEALTH
from sidecar.application.health import AppHealth
from sidecar.application.metrics import MergedMetrics
from sidecar.application.scrape import ScrapeTarget
from sidecar.config.application import AppProber, PrometheusScrape
from sidecar.errors import BootstrapError
from sidecar.http.message import Request, Response, Service

METRICS_PATHS = frozenset({b"/metrics", b"/stats/prometheus"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationSettings:
    """``node_id`` contains the pod's IP address, at which the application is reached. ``metrics_port`` is our
    own."""

    app_probers: Mapping[str, AppProber]
    prometheus_scrape: PrometheusScrape | None
    metrics_port: int | None
    node_id: str


class MetricsPort:
    """A `Service`. ``own_metrics`` answers with the proxy's metrics; ``quit_`` ends the process."""

    def __init__(
        self,
        settings: ApplicationSettings,
        own_metrics: Service,
        *,
        quit_: Callable[[], None],
        scraped: Iterable[ScrapeTarget] = (),
    ) -> None:
        """``scraped``: the targets of ``own_metrics``. Raises `BootstrapError`."""
        host = _pod_address(settings)
        self._app_health = AppHealth(settings.app_probers, host)
        self._metrics = own_metrics
        if settings.prometheus_scrape is not None:
            application = _application(settings, settings.prometheus_scrape, host)
            self._metrics = MergedMetrics(own_metrics, application, scraped)
        self._quit = LocalClients(_QuitPath(quit_))

    async def __call__(self, request: Request) -> Response:
        path = request.path.partition(b"?")[0]
        if path in METRICS_PATHS:
            return await self._metrics(request)
        if path.startswith(APP_HEALTH.encode()):
            return await self._app_health(request)
        if path == b"/quitquitquit":
            return await self._quit(request)
        return text(f"invalid path; use /stats/prometheus, {APP_HEALTH}… or POST /quitquitquit\n", 404)

    async def close(self) -> None:
        await self._app_health.close()


def _pod_address(settings: ApplicationSettings) -> str:
    """Empty if it is not needed."""
    if not settings.app_probers and settings.prometheus_scrape is None:
        return ""
    try:
        return str(ip_address(NodeId.parse(settings.node_id).ip))
    except ValueError as error:
        raise BootstrapError(
            f"node.id: --app-probers and --prometheus-scrape need the pod's IP address: {error}"
        ) from error


def _application(settings: ApplicationSettings, scrape: PrometheusScrape, host: str) -> ScrapeTarget:
    if scrape.port == settings.metrics_port:
        raise BootstrapError(
            f"--prometheus-scrape: port {scrape.port} is the proxy's own metrics port: it would scrape itself"
        )
    return ScrapeTarget("application", scrape.at(host), scrape.path)


class _QuitPath:
    """Istio's ``/quitquitquit`` on this port, for a job in a cluster without native sidecars. The port is
    open to the cluster, so only clients in the pod may use it. The proxy's own connections from loopback, to
    the application, are those of clients in the cluster."""

    def __init__(self, quit_: Callable[[], None]) -> None:
        self._quit = quit_

    async def __call__(self, request: Request) -> Response:
        client = ip_address(request.info.connection.remote_address.host)
        if not client.is_loopback or str(client) in SOURCES.values():
            return text("only requests from localhost are allowed\n", 403)
        if request.method != b"POST":
            return text("the method POST is required\n", 405)
        self._quit()
        return text("OK\n")
