"""The debug API of port 8080, by istiod's paths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from controlplane.api import views
from controlplane.api.views import JsonObject, Refusals
from controlplane.errors import ProxyError
from controlplane.model.snapshot import MeshSnapshot
from controlplane.model.status import ResourceStatus

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """Where answers come from; each is asked anew for each request. ``snapshot`` is None until the first was
    built. ``refusals`` has what proxies refuse of a resource: their ids, and what. ``unsupported`` describes
    the kinds that nobody reads, ``proxies`` the open streams. ``config_dump`` takes a proxy's id, raises
    `ProxyError` when no such proxy is connected, and may be called from any thread."""

    snapshot: Callable[[], MeshSnapshot | None]
    statuses: Callable[[], Sequence[ResourceStatus]]
    proxies: Callable[[], Sequence[DataclassInstance]]
    config_dump: Callable[[str], JsonObject]
    refusals: Callable[[], Refusals] = dict
    unsupported: Callable[[], Sequence[DataclassInstance]] = tuple


def debug_app(mesh: Mesh) -> FastAPI:
    app = FastAPI(title="Outrigger's control plane", docs_url=None, redoc_url=None)

    def snapshot() -> MeshSnapshot:
        current = mesh.snapshot()
        if current is None:
            raise HTTPException(503, "the resources are not read yet")
        return current

    @app.get("/healthz", response_class=PlainTextResponse)
    async def healthz() -> str:
        """The process answers."""
        return "ok\n"

    @app.get("/ready", response_class=PlainTextResponse)
    async def ready() -> str:
        """Proxies can be served."""
        snapshot()
        return "ready\n"

    @app.get("/debug/syncz")
    async def syncz() -> list[JsonObject]:
        """Each connected proxy, each type: what was sent, acknowledged, and rejected with which words."""
        return views.syncz(mesh.proxies())

    @app.get("/debug/config_dump")
    def config_dump(proxy: str = "") -> JsonObject:
        """What a proxy was sent. Rendered in a thread: it can be megabytes, and pushes should not wait."""
        if not proxy:
            raise HTTPException(400, "name a proxy: /debug/config_dump?proxy=ID; /debug/syncz lists them")
        try:
            return mesh.config_dump(proxy)
        except ProxyError as error:
            raise HTTPException(404, f"{error}; /debug/syncz lists those that are") from error

    @app.get("/debug/registryz")
    async def registryz() -> list[JsonObject]:
        """Every service of the mesh."""
        return views.registryz(snapshot())

    @app.get("/debug/endpointz")
    async def endpointz() -> list[JsonObject]:
        """Every service's endpoints."""
        return views.endpointz(snapshot())

    @app.get("/debug/statusz")
    async def statusz() -> JsonObject:
        """Every resource: applied, or quarantined and why; and the kinds of Istio's that have no effect."""
        return views.statusz(mesh.statuses(), mesh.refusals(), mesh.unsupported())

    @app.exception_handler(404)
    async def not_found(request: Request, error: HTTPException) -> Response:
        detail = error.detail
        if detail == "Not Found":  # nobody's words: no route matched
            paths = ", ".join(app.openapi()["paths"])
            detail = f"there is no {request.url.path!r:.200} here; there are {paths}"
        return JSONResponse({"detail": detail}, status_code=404)

    return app
