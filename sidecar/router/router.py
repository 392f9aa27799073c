"""The last filter of each chain: answers a request according to its route. ``envoy.filters.http.router``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from sidecar.errors import (
    NoClusterError,
    NoRouteError,
    RequestError,
    RoutingError,
    UpstreamError,
    UpstreamResetError,
)
from sidecar.grpc_status import NO_STATUS, GrpcStatus
from sidecar.http.local_reply import error_reply
from sidecar.http.message import Request, Response
from sidecar.observability.stream_info import fail
from sidecar.router.exchange import Exchange, RouterEnvironment
from sidecar.router.forward import Destination, Forward
from sidecar.router.grpc_timeout import parse_grpc_timeout
from sidecar.router.immediate_response import DirectResponse, Redirect
from sidecar.router.resolution import ResolvedRoute
from sidecar.router.rewrite import rewrite_authority, rewrite_path
from sidecar.router.server_names import server_names
from sidecar.router.tunnel import Tunnel
from sidecar.upstream.cluster import Cluster


class Router:
    """A `Service`: answers each request according to its `ResolvedRoute`, failures included. Envoy: the reply
    to a failure passes the response half of the filters, and gets the route's response headers."""

    def __init__(self, env: RouterEnvironment) -> None:
        self._env = env
        self._tunnels: set[asyncio.Task[None]] = set()

    def __call__(self, request: Request) -> Awaitable[Response]:
        resolved = request.route
        if resolved is None:
            return self._refuse(request)
        assert isinstance(resolved, ResolvedRoute)
        action = resolved.route.action
        if isinstance(action, Forward):
            exchange: Exchange | None = None
            if request.waiter is not None and request.upgrade is None and resolved.cluster is not None:
                exchange = self._exchange(request, resolved, action, resolved.cluster)
                exchange.begin(request.waiter)
            return self._forward(request, resolved, action, exchange)
        return self._respond(request, resolved, action)

    async def _refuse(self, request: Request) -> Response:
        error = NoRouteError("no route matches")
        fail(request.info, error)
        return error_reply(request, error)

    async def _respond(
        self, request: Request, resolved: ResolvedRoute, action: Redirect | DirectResponse
    ) -> Response:
        response = action.respond(request)
        for mutation in resolved.route.headers.response:
            mutation.apply(response.headers)
        request.info.direct_response = True
        return response

    def _exchange(
        self, request: Request, resolved: ResolvedRoute, forward: Forward, cluster: Cluster
    ) -> Exchange:
        destination = resolved.destination
        assert destination is not None
        if forward.rewrites:
            _rewrite(request, forward, destination)
        include_count = resolved.route.include_attempt_count
        return Exchange(request, forward, cluster, destination.context, self._env, include_count)

    async def _forward(
        self, request: Request, resolved: ResolvedRoute, forward: Forward, exchange: Exchange | None
    ) -> Response:
        """`exchange`: the one that was started before this is awaited, or None."""
        cluster, destination = resolved.cluster, resolved.destination
        assert destination is not None
        try:
            if exchange is not None:
                response = await exchange.run()
            elif cluster is None:
                name = destination.cluster or forward.cluster_from_header(request.headers)
                # A header may have named it: the length is bounded.
                raise NoClusterError(f"the cluster {name!r:.300} does not exist")
            elif forward.terminate_connect and request.method == b"CONNECT":
                if forward.rewrites:
                    _rewrite(request, forward, destination)
                response = await self._open_tunnel(request, cluster)
            else:
                response = await self._exchange(request, resolved, forward, cluster).run()
        except NoClusterError as missing:
            response = self._explain(request, missing, forward.cluster_not_found_status)
        except (RoutingError, UpstreamError) as error:
            response = self._explain(request, error)
            if cluster is not None:  # Envoy: a reply in place of the cluster's counts as its response
                cluster.stats.upstream_rq_completed += 1
                cluster.stats.upstream_rq_5xx += 1
        for mutation in destination.headers.response:
            mutation.apply(response.headers)
        request.upstream_body = response.body
        return response

    def _explain(self, request: Request, error: RequestError, status: int | None = None) -> Response:
        """A server that resets a gRPC call at its deadline was not unavailable."""
        fail(request.info, error)
        grpc_status = NO_STATUS
        if request.info.grpc is not None and isinstance(error, UpstreamResetError):
            timeout_ms = parse_grpc_timeout(request.headers)
            if timeout_ms is not None and self._env.clock() - request.info.start_s >= timeout_ms / 1000:
                grpc_status = GrpcStatus.DEADLINE_EXCEEDED
        return error_reply(request, error, status, grpc_status)

    async def _open_tunnel(self, request: Request, cluster: Cluster) -> Response:
        request.info.attempts = 1
        if cluster.auto_names is not None:
            request.info.server_names = server_names(cluster.auto_names, request)
        connection = await cluster.connect_tcp(Tunnel, request.info, request.authority)
        tunnel = connection.protocol
        task = asyncio.get_running_loop().create_task(
            tunnel.carry(request.body), name=f"tunnel to {connection.host.address}"
        )
        self._tunnels.add(task)
        task.add_done_callback(self._tunnels.discard)
        task.add_done_callback(lambda done: connection.release())
        response = Response(200, [], tunnel.body)
        response.upgraded = True
        return response

    async def close(self) -> None:
        """Ends the tunnels that are still open."""
        tunnels = list(self._tunnels)
        for task in tunnels:
            task.cancel()
        await asyncio.gather(*tunnels, return_exceptions=True)


def _rewrite(request: Request, forward: Forward, destination: Destination) -> None:
    """Done once for each request, in Envoy's order: headers, then authority, then path."""
    for mutation in destination.headers.request:
        mutation.apply(request.headers)
    if destination.host_rewrite:
        request.authority = destination.host_rewrite
    elif forward.host_rewrite:
        append = forward.append_x_forwarded_host
        rewrite_authority(request, forward.host_rewrite, append_x_forwarded_host=append)
    if forward.path_rewrite is not None:
        rewrite_path(request, forward.path_rewrite)
