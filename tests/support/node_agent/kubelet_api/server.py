"""The part of a kubelet's API that `kubectl logs`, `exec` and `port-forward` need, over HTTPS.

The API server passes on the requests of kubectl, and its WebSockets too where the Node declares the feature
`ExtendWebSocketsToKubelet` (Kubernetes 1.36); older API servers speak SPDY to a node, and are refused.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from tests.support.node_agent.container_state import Running
from tests.support.node_agent.kubelet_api.container_logs import LogOptions, LogOptionsError, chunks
from tests.support.node_agent.kubelet_api.execution import ExecOptions, execute
from tests.support.node_agent.kubelet_api.logged_runs import logged_run
from tests.support.node_agent.kubelet_api.port_forward import forward_ports
from tests.support.node_agent.pod_worker import PodWorker

WEBSOCKETS = "ExtendWebSocketsToKubelet"
STOP_TIMEOUT_S = 1.0

FindPod = Callable[[str, str], PodWorker | None]


@asynccontextmanager
async def kubelet_api(address: str, context: ssl.SSLContext, find: FindPod) -> AsyncIterator[int]:
    """Serves until the block ends; gives the port. `find` returns the pod of a namespace and name."""
    runner = web.AppRunner(application(find), shutdown_timeout=STOP_TIMEOUT_S, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, address, 0, ssl_context=context)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def application(find: FindPod) -> web.Application:
    handlers = KubeletHandlers(find)
    application = web.Application(handler_args={"auto_decompress": False})
    application.router.add_get("/containerLogs/{namespace}/{pod}/{container}", handlers.logs)
    for method in ("GET", "POST"):  # POST: SPDY, to which kubectl turns where a WebSocket is refused
        application.router.add_route(method, "/exec/{namespace}/{pod}/{container}", handlers.exec)
        application.router.add_route(method, "/portForward/{namespace}/{pod}", handlers.port_forward)
        application.router.add_route(method, "/attach/{namespace}/{pod}/{container}", refuse_attach)
    return application


async def refuse_attach(_: web.Request) -> web.StreamResponse:
    raise web.HTTPNotImplemented(text="attach is not supported by this node: use exec or logs")


class KubeletHandlers:
    def __init__(self, find: FindPod) -> None:
        self._find = find

    async def logs(self, request: web.Request) -> web.StreamResponse:
        pod = self._pod(request)
        try:
            options = LogOptions.of(request.query)
            run = logged_run(pod, request.match_info["container"], previous=options.previous)
        except LogOptionsError as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        answer = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await answer.prepare(request)
        async for chunk in chunks(run, options):
            await answer.write(chunk)
        return answer

    async def exec(self, request: web.Request) -> web.StreamResponse:
        pod, name = self._pod(request), request.match_info["container"]
        runner = pod.runners.get(name)
        if runner is None or runner.process is None or not isinstance(pod.states[name].now, Running):
            raise web.HTTPInternalServerError(text=f"container not running ({name})")
        return await execute(runner.process, ExecOptions.of(request.query), request)

    async def port_forward(self, request: web.Request) -> web.StreamResponse:
        network = self._pod(request).sandbox.network
        if network is None:
            raise web.HTTPInternalServerError(text="the pod has no network yet")
        return await forward_ports(network, request)

    def _pod(self, request: web.Request) -> PodWorker:
        namespace, name = request.match_info["namespace"], request.match_info["pod"]
        pod = self._find(namespace, name)
        if pod is None:
            raise web.HTTPNotFound(text=f'pod "{name}" does not exist')
        return pod
