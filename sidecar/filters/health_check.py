"""``envoy.filters.http.health_check``: answers health checks, or remembers the answers of the upstream host.

Source: ``envoy.extensions.filters.http.health_check.v3.HealthCheck``. Health checks do not count as completed
requests of the connection manager.
"""

from __future__ import annotations

from collections.abc import Mapping

from sidecar.config.http_filters import HealthCheckConfig
from sidecar.filters.chain import FilterContext, FilterKind
from sidecar.http.headers import Headers, get_header
from sidecar.http.local_reply import local_reply
from sidecar.http.message import Request, Response, Service
from sidecar.router.request_match import compile_header_match
from sidecar.router.resolution import FindCluster

_CHECKED_CLUSTER = b"x-envoy-upstream-healthchecked-cluster"
_DEGRADED = b"x-envoy-degraded"


class HealthCheckFilter:
    def __init__(self, config: HealthCheckConfig, context: FilterContext) -> None:
        self._pass_through = config.pass_through
        self._matches = tuple(map(compile_header_match, config.headers))
        self._percentages = config.cluster_min_healthy_percentages
        self._find_cluster = context.find_cluster
        self._local_cluster = context.local_cluster.encode()
        self._cache = _Cache(config.cache_time_s, context) if config.cache_time_s else None

    async def __call__(self, request: Request, proceed: Service) -> Response:
        for matches in self._matches:
            if not matches(request):
                return await proceed(request)
        request.info.health_check = True
        response = await self._check(request, proceed)
        response.headers = [field for field in response.headers if field[0] != _CHECKED_CLUSTER]
        response.headers.append((_CHECKED_CLUSTER, self._local_cluster))
        return response

    async def _check(self, request: Request, proceed: Service) -> Response:
        if not self._pass_through:
            return await _reply(request, *_verdict(self._percentages, self._find_cluster))
        cache = self._cache
        if cache is None:
            return await proceed(request)
        if cache.valid:
            headers: Headers = [(_DEGRADED, b"")] if cache.degraded else []
            return await _reply(request, cache.status, "health_check_cached", headers)
        response = await proceed(request)
        cache.keep(response)
        return response

    def close(self) -> None:
        pass


class _Cache:
    """The last answer, until the end of the period in which it came. Envoy: periods begin with the filter."""

    def __init__(self, cache_time_s: float, context: FilterContext) -> None:
        self._cache_time_s = cache_time_s
        self._timers = context.timers
        self._start_s = context.timers.now_s()
        self._kept_in = -1
        self.status = 0
        self.degraded = False

    def _period(self) -> int:
        return int((self._timers.now_s() - self._start_s) / self._cache_time_s)

    @property
    def valid(self) -> bool:
        return self._kept_in == self._period()

    def keep(self, response: Response) -> None:
        self._kept_in = self._period()
        self.status = response.status
        self.degraded = get_header(response.headers, _DEGRADED) is not None


def _verdict(percentages: Mapping[str, int], find_cluster: FindCluster) -> tuple[int, str]:
    """Status and details. All clusters must have their share of healthy or degraded hosts."""
    details = "health_check_ok"
    for name, percentage in percentages.items():
        details = "health_check_ok_cluster_healthy"
        cluster = find_cluster(name)
        if cluster is None:
            return 503, "health_check_failed_no_cluster_found"
        hosts = cluster.hosts.values()
        if not hosts and percentage > 0:
            return 503, "health_check_failed_cluster_empty"
        serving = sum(host.healthy or host.degraded for host in hosts)
        if 100 * serving < len(hosts) * percentage:
            return 503, "health_check_failed_cluster_unhealthy"
    return 200, details


async def _reply(request: Request, status: int, details: str, headers: Headers | None = None) -> Response:
    """After the end of the request, as Envoy does."""
    while request.upgrade is None and await request.body.read():
        pass
    request.info.details = details
    if not 200 <= status < 300:
        request.info.add_flag("LH")
    response = local_reply(request, status, headers=headers)
    if request.route is not None:
        request.route.finish(response.headers)
    return response


KIND = FilterKind(config=HealthCheckConfig, make=HealthCheckFilter)
