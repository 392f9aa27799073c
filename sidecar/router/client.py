"""Requests that the proxy sends by itself: the calls of a filter to a service, an authorizer for example."""

from __future__ import annotations

from sidecar.config.route import ForwardAction, PathMatchKind, RouteMatch, WeightedCluster
from sidecar.errors import NoClusterError
from sidecar.http.body import EMPTY, Body
from sidecar.http.headers import Headers
from sidecar.http.message import Request, Response
from sidecar.observability.stream_info import DownstreamConnection, StreamInfo
from sidecar.router.exchange import Exchange, RouterEnvironment
from sidecar.router.forward import Forward
from sidecar.router.resolution import FindCluster
from sidecar.upstream.load_balancer.context import PickContext

_ANY_PATH = RouteMatch(path_kind=PathMatchKind.PREFIX, path="/")


class ClusterClient:
    """Sends requests to one cluster, without a route: no rewrites, and only the default retry. The whole
    response must arrive within `timeout_s`, counted from the end of the request."""

    __slots__ = ("_cluster_name", "_env", "_find_cluster", "_forward")

    def __init__(
        self, cluster_name: str, *, timeout_s: float, find_cluster: FindCluster, env: RouterEnvironment
    ) -> None:
        self._cluster_name = cluster_name
        self._find_cluster = find_cluster
        self._env = env
        action = ForwardAction(clusters=(WeightedCluster(name=cluster_name),), timeout_s=timeout_s)
        self._forward = Forward(action, _ANY_PATH, (), None)

    async def send(
        self,
        connection: DownstreamConnection,
        *,
        method: bytes,
        authority: bytes,
        path: bytes,
        headers: Headers | None = None,
        body: Body = EMPTY,
    ) -> Response:
        """`connection` is the client's, whose request causes the call. The caller reads the response's body
        to its end, or closes it. Raises `NoClusterError`, and the `RoutingError` or `UpstreamError` of the
        last attempt."""
        cluster = self._find_cluster(self._cluster_name)
        if cluster is None:
            raise NoClusterError(f"the cluster {self._cluster_name!r} does not exist")
        info = StreamInfo(connection, self._env.clock(), wall_start_s=0.0)  # no log has the call
        request = Request(method, b"http", authority, path, headers or [], body, info)
        exchange = Exchange(request, self._forward, cluster, PickContext(), self._env, False)
        return await exchange.run()
