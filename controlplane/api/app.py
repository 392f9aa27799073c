"""The debug API on port 8080. Its paths are istiod's."""

from __future__ import annotations

import dataclasses
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
    """The data that the debug API shows. Every function is called again for each request. ``snapshot``
    returns None until the first snapshot is built; the other functions are not called before. ``refusals``
    maps a resource to the ids of the proxies that reject it and their reasons. ``unsupported`` describes the
    unsupported kinds that were found, ``unmeshed`` the pods that lack a sidecar, ``proxies`` the open
    streams. ``config_dump`` takes a proxy's id, raises `ProxyError` when that proxy is not connected, and can
    be called from any thread."""

    snapshot: Callable[[], MeshSnapshot | None]
    statuses: Callable[[], Sequence[ResourceStatus]]
    proxies: Callable[[], Sequence[DataclassInstance]]
    config_dump: Callable[[str], JsonObject]
    refusals: Callable[[], Refusals] = dict
    unsupported: Callable[[], Sequence[DataclassInstance]] = tuple
    unmeshed: Callable[[], Sequence[DataclassInstance]] = tuple


def debug_app(mesh: Mesh) -> FastAPI:
    app = FastAPI(title="Outrigger's control plane", docs_url=None, redoc_url=None)

    def snapshot() -> MeshSnapshot:
        current = mesh.snapshot()
        if current is None:
            raise HTTPException(503, "the resources have not been read yet")
        return current

    @app.get("/healthz", response_class=PlainTextResponse)
    async def healthz() -> str:
        """Liveness: the process is running."""
        return "ok\n"

    @app.get("/ready", response_class=PlainTextResponse)
    async def ready() -> str:
        """Readiness: the control plane can serve proxies."""
        snapshot()
        return "ready\n"

    @app.get("/debug/syncz")
    async def syncz() -> list[JsonObject]:
        """For each connected proxy and type: the versions sent and acknowledged, and the last rejection."""
        snapshot()
        return views.syncz(mesh.proxies())

    @app.get("/debug/config_dump")
    def config_dump(proxy: str = "") -> JsonObject:
        """The configuration that a proxy was sent. FastAPI runs this in a thread: the answer can have
        megabytes, and pushes must not wait for it."""
        if not proxy:
            raise HTTPException(400, "name a proxy: /debug/config_dump?proxy=ID; /debug/syncz lists them")
        snapshot()
        try:
            return mesh.config_dump(proxy)
        except ProxyError as error:
            raise HTTPException(404, f"{error}; /debug/syncz lists the connected proxies") from error

    @app.get("/debug/registryz")
    async def registryz() -> list[JsonObject]:
        """All services of the mesh."""
        return views.registryz(snapshot())

    @app.get("/debug/endpointz")
    async def endpointz() -> list[JsonObject]:
        """The endpoints of all services."""
        return views.endpointz(snapshot())

    @app.get("/debug/statusz")
    async def statusz() -> JsonObject:
        """All resources: applied, or quarantined with the reasons; and the Istio kinds that are not
        supported."""
        snapshot()
        return views.statusz(mesh.statuses(), mesh.refusals(), mesh.unsupported())

    @app.get("/debug/unmeshedz")
    async def unmeshedz() -> list[JsonObject]:
        """The pods that have no sidecar although their labels, or those of their namespace, ask for one."""
        snapshot()
        return list(map(dataclasses.asdict, mesh.unmeshed()))

    @app.exception_handler(404)
    async def not_found(request: Request, error: HTTPException) -> Response:
        detail = error.detail
        if detail == "Not Found":  # FastAPI's default text: no route matched
            paths = ", ".join(app.openapi()["paths"])
            detail = f"{request.url.path!r:.200} does not exist; the paths are {paths}"
        return JSONResponse({"detail": detail}, status_code=404)

    return app
