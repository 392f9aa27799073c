"""The Prometheus metrics page on port 15014."""

from __future__ import annotations

import re
from typing import Final

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest

# The Prometheus client library appends _total to the name of every counter. These names of istiod have no
# such suffix, and existing dashboards and alerts query istiod's names.
_TOTAL: Final = re.compile(
    rb"^((?:# (?:HELP|TYPE) )?(?:pilot|citadel|galley)_\w+?)_total(?=[ {])", re.MULTILINE
)


def metrics_app(registry: CollectorRegistry = REGISTRY) -> FastAPI:
    app = FastAPI(openapi_url=None)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(render(registry), media_type=CONTENT_TYPE_LATEST)

    return app


def render(registry: CollectorRegistry) -> bytes:
    return _TOTAL.sub(rb"\1", generate_latest(registry))
