"""``envoy.filters.http.grpc_stats``: counts gRPC calls and their messages by cluster, and by method.

Source: ``envoy.extensions.filters.http.grpc_stats.v3.FilterConfig``. A call is counted when it has ended.
"""

from __future__ import annotations

from sidecar.config.http_filters import GrpcStatsConfig
from sidecar.filters.chain import FilterContext, FilterKind
from sidecar.http.message import Request, Response, Service
from sidecar.observability.grpc_call import called_method
from sidecar.observability.stats import GrpcStats


class GrpcStatsFilter:
    def __init__(self, config: GrpcStatsConfig, context: FilterContext) -> None:
        self._config = config
        self._stats = context.stats

    async def __call__(self, request: Request, proceed: Service) -> Response:
        info = request.info
        if info.grpc is not None and info.cluster:
            info.grpc.stats = self._stats_of(info.cluster, request.path)
        return await proceed(request)

    def _stats_of(self, cluster: str, path: bytes) -> GrpcStats | None:
        """None for a path that names no method."""
        called = called_method(path)
        if called is None:
            return None
        service, method = called
        config = self._config
        if not config.all_methods and (service, method) not in config.methods:
            return self._stats.grpc(cluster)
        if config.replace_dots_in_service_name:
            service = service.replace(".", "_")
        return self._stats.grpc(cluster, f"{service}.{method}")

    def close(self) -> None:
        pass


KIND = FilterKind(config=GrpcStatsConfig, make=GrpcStatsFilter)
