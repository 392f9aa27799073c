"""The Envoy of the pod, as the agent sees it: through the admin port on loopback."""

from __future__ import annotations

import asyncio
from typing import Final

from sidecar.admin.answers import PROMETHEUS
from sidecar.application.http_client import exchange
from sidecar.application.scrape import ScrapeTarget
from sidecar.config.endpoint import SocketAddress
from sidecar.errors import RequestError
from sidecar.http.body import EMPTY, ReaderBody
from sidecar.http.message import Request, Response

_TIMEOUT_S: Final = 3.0
_POLL_S: Final = 0.1


class Envoy:
    def __init__(self, admin: SocketAddress) -> None:
        self._admin = admin
        self.metrics_target: Final = ScrapeTarget("envoy", admin, "/stats/prometheus")

    async def ready(self) -> int | None:
        """The status of ``/ready``: 200 when it is live. None if Envoy does not run."""
        return await self._ask(b"GET", "/ready")

    async def quit(self) -> None:
        await self._ask(b"POST", "/quitquitquit")

    async def ended(self) -> None:
        """Returns when Envoy does not run (any more)."""
        while await self.ready() is not None:  # noqa: ASYNC110 - another process sends no events
            await asyncio.sleep(_POLL_S)

    async def metrics(self, request: Request) -> Response:
        """A `Service`: Envoy's metrics, empty if it does not answer. The query is Envoy's (``?filter``)."""
        query = request.path.partition(b"?")[2].decode("latin-1")
        page = await self.metrics_target.fetch(request.headers, query)
        return Response(200, [(b"content-type", PROMETHEUS)], EMPTY if page is None else ReaderBody(page))

    async def _ask(self, method: bytes, path: str) -> int | None:
        try:
            async with (
                asyncio.timeout(_TIMEOUT_S),
                exchange(self._admin, path, [], method=method) as response,
            ):
                return response.status
        except TimeoutError:
            return 503  # it runs, and is too busy to answer
        except (OSError, RequestError):
            return None
