"""``/stats/prometheus``: the proxy's metrics, followed by the application's.

Prometheus cannot scrape an application that requires mutual TLS, and scrapes one address per pod.
https://istio.io/latest/docs/ops/integrations/prometheus/#option-1-metrics-merging
"""

from __future__ import annotations

from collections.abc import Iterable

from sidecar.admin.answers import PROMETHEUS
from sidecar.application.scrape import ScrapeTarget
from sidecar.http.body import Body, BodyReader, ReaderBody
from sidecar.http.message import Request, Response, Service


class MergedMetrics:
    """A `Service`. As in Istio, the pages are put one after another, the application's last since OpenMetrics
    ends with a mark; and a scrape of the application that fails does not fail the others."""

    def __init__(self, own: Service, application: ScrapeTarget, others: Iterable[ScrapeTarget] = ()) -> None:
        """``others`` are counted among the failures, too."""
        self._own = own
        self._application = application
        self._counted = (application, *others)
        self._scrapes = 0

    async def __call__(self, request: Request) -> Response:
        self._scrapes += 1
        own = await self._own(request)
        if own.status != 200:
            return own
        page = await self._application.fetch(request.headers)
        parts: list[BodyReader] = [Body(self._counters().encode()), own.body]
        if page is not None:
            parts.append(page)
        headers = [field for field in own.headers if field[0] != b"content-type"]
        content_type = PROMETHEUS if page is None else page.content_type
        return Response(200, [(b"content-type", content_type), *headers], ReaderBody(_Joined(parts)))

    def _counters(self) -> str:
        """With Istio's names. They do not contain this scrape's failure while its page is read."""
        failures = "".join(
            f'istio_agent_scrape_failures_total{{type="{target.kind}"}} {target.failures}\n'
            for target in self._counted
        )
        return (
            f"# TYPE istio_agent_scrapes_total counter\nistio_agent_scrapes_total {self._scrapes}\n"
            f"# TYPE istio_agent_scrape_failures_total counter\n{failures}"
        )


class _Joined:
    """Bodies, one after another."""

    __slots__ = ("_parts",)

    def __init__(self, parts: list[BodyReader]) -> None:
        self._parts = parts

    @property
    def ended(self) -> bool:
        return not self._parts

    async def read(self) -> bytes:
        while self._parts:
            data = await self._parts[0].read()
            if data:
                return data
            self._parts.pop(0).close()
        return b""

    def close(self) -> None:
        for part in self._parts:
            part.close()
        self._parts.clear()
