"""The admin interface, on the sidecar's own HTTP codec: one more `Service`. Names and shapes are Envoy's.

https://www.envoyproxy.io/docs/envoy/latest/operations/admin
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from sidecar.admin import clusters, dns, listeners, logging_levels, stats
from sidecar.admin.answers import AdminError, Answer, Query, json_document, text
from sidecar.admin.state import AdminView, ServerState
from sidecar.errors import ConfigError, WorkerError
from sidecar.http.message import Request, Response
from sidecar.identity import certs


@dataclass(frozen=True, slots=True)
class AdminPath:
    """One path. A path that `mutates` needs POST, so that a link or a prefetch cannot change anything."""

    handler: Callable[[AdminView, Query], Awaitable[Answer]]
    description: str
    mutates: bool = False


async def config_dump(view: AdminView, query: Query) -> Answer:
    if "mask" in query:
        raise AdminError("mask is not supported; use ?resource to select a repeated field")
    resource = query.get("resource")
    try:
        return view.config_dump(
            include_eds="include_eds" in query, resource=resource, name_regex=query.get("name_regex")
        )
    except ConfigError as error:
        raise AdminError(str(error), 404 if error.path == "resource" else 400) from error


async def certificates(view: AdminView, _: Query) -> Answer:
    return certs.certificates(await view.workers.certificates(), time.time())


async def server_info(view: AdminView, _: Query) -> Answer:
    return view.server_info()


async def ready(view: AdminView, _: Query) -> Answer:
    state = view.server_state()
    return text(f"{state.value}\n", 200 if state is ServerState.LIVE else 503)


async def quit_(view: AdminView, _: Query) -> Answer:
    view.quit()
    return "OK\n"


async def reopen_logs(view: AdminView, _: Query) -> Answer:
    await view.reopen_logs()
    return "OK\n"


async def drain(view: AdminView, query: Query) -> Answer:
    graceful, skip_exit = "graceful" in query, "skip_exit" in query
    if skip_exit and not graceful:
        raise AdminError("skip_exit requires graceful")
    await view.drain(inbound_only="inboundonly" in query, graceful=graceful, skip_exit=skip_exit)
    return "OK\n"


async def help_(_: AdminView, __: Query) -> Answer:
    return _help(ENDPOINTS)


def _help(endpoints: Mapping[str, AdminPath]) -> str:
    lines = [
        f"  {path}{' (POST)' if e.mutates else ''}: {e.description}\n"
        for path, e in sorted(endpoints.items())
    ]
    return "admin commands are:\n" + "".join(lines)


ENDPOINTS: Mapping[str, AdminPath] = {
    "/": AdminPath(help_, "this list"),
    "/certs": AdminPath(certificates, "the certificates in use, without their keys"),
    "/clusters": AdminPath(clusters.clusters, "upstream cluster status: ?filter=REGEX, ?format=json"),
    "/config_dump": AdminPath(
        config_dump, "the configuration in force: ?include_eds, ?resource=FIELD, ?name_regex=REGEX"
    ),
    "/dns": AdminPath(dns.dns, "the names that the sidecar resolves: ?filter=REGEX, ?format=json"),
    "/drain_listeners": AdminPath(
        drain,
        "stop accepting connections; ?graceful: after the drain time; &skip_exit: never; ?inboundonly",
        mutates=True,
    ),
    "/help": AdminPath(help_, "this list"),
    "/listeners": AdminPath(listeners.listeners, "the addresses of active listeners: ?format=json"),
    "/logging": AdminPath(
        logging_levels.logging_levels,
        "log levels: ?level=L for all, ?NAME=L for one, ?paths=NAME:L,NAME:L",
        mutates=True,
    ),
    "/quitquitquit": AdminPath(quit_, "exit the sidecar", mutates=True),
    "/ready": AdminPath(ready, "200 when the sidecar is live, else 503; the body is the state"),
    "/reopen_logs": AdminPath(reopen_logs, "reopen the access logs, after log rotation", mutates=True),
    "/server_info": AdminPath(server_info, "version, state, uptime, command line"),
    "/stats": AdminPath(stats.stats, "counters: ?filter=REGEX, ?usedonly, ?format=json|prometheus"),
    "/stats/prometheus": AdminPath(stats.prometheus, "all metrics in the Prometheus format"),
}


STATUS_ENDPOINTS: Mapping[str, AdminPath] = {
    "/healthz/ready": AdminPath(ready, "200 when the sidecar is live")
}
METRICS_ENDPOINTS: Mapping[str, AdminPath] = {
    "/metrics": AdminPath(stats.prometheus, "all metrics in the Prometheus format"),
    "/stats/prometheus": AdminPath(stats.prometheus, "the same, at Istio's path"),
}


class AdminService:
    """Answers the paths of `endpoints`, by default all."""

    def __init__(self, view: AdminView, endpoints: Mapping[str, AdminPath] = ENDPOINTS) -> None:
        self._view = view
        self._endpoints = endpoints

    async def __call__(self, request: Request) -> Response:
        path, _, query_string = request.path.decode("latin-1").partition("?")
        endpoint = self._endpoints.get(path)
        if endpoint is None:
            return text(f"invalid path. {_help(self._endpoints)}", 404)
        if endpoint.mutates and request.method != b"POST":
            return text(f"Method {request.method.decode('latin-1')} not allowed, POST required.", 405)
        try:
            answer = await endpoint.handler(self._view, dict(parse_qsl(query_string, keep_blank_values=True)))
        except AdminError as error:
            return text(f"{error}\n", error.status)
        except WorkerError as error:
            return text(f"{error}\n", 503)
        if isinstance(answer, Response):
            return answer
        return text(answer) if isinstance(answer, str) else json_document(answer)
