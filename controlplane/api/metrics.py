"""The Prometheus page of port 15014."""

from __future__ import annotations

import re
from typing import Final

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest

# Our client library ends every counter with _total. istiod's names have no such end, and it is istiod's names
# that people's dashboards and alerts ask for.
_TOTAL: Final = re.compile(rb"^((?:# (?:HELP|TYPE) )?(?:pilot|citadel)_\w+?)_total(?=[ {])", re.MULTILINE)


def metrics_app(registry: CollectorRegistry = REGISTRY) -> FastAPI:
    app = FastAPI(openapi_url=None)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(render(registry), media_type=CONTENT_TYPE_LATEST)

    return app


def render(registry: CollectorRegistry) -> bytes:
    return _TOTAL.sub(rb"\1", generate_latest(registry))
