"""``envoy.extensions.filters.http.health_check.v3.HealthCheck``: the filter that answers health checks."""

from __future__ import annotations

from collections.abc import Set

from sidecar.config.http_filters import HealthCheckConfig
from sidecar.xds.decode.http_filters.decoder import HttpFilterDecoder
from sidecar.xds.decode.matchers import decode_header_match
from sidecar.xds.decode.support import support
from sidecar.xds.decode.view import View

_HEALTH_CHECK = "envoy.extensions.filters.http.health_check.v3.HealthCheck"


def _decode(view: View) -> HealthCheckConfig:
    pass_through = view.wrapped("pass_through_mode", False)
    cache_time_s = view.duration_s("cache_time", 0.0)
    if cache_time_s and not pass_through:
        raise view.error("must not be set without pass_through_mode", "cache_time")
    return HealthCheckConfig(
        pass_through=pass_through,
        cache_time_s=cache_time_s,
        cluster_min_healthy_percentages={} if pass_through else _percentages(view),
        headers=tuple(decode_header_match(header) for header in view.each("headers")),
    )


def _percentages(view: View) -> dict[str, int]:
    """Fractions are truncated, as Envoy documents it."""
    return {
        cluster: int(percent.message.value)
        for cluster, percent in view.entries("cluster_min_healthy_percentages")
    }


def _clusters(config: HealthCheckConfig) -> Set[str]:
    return config.cluster_min_healthy_percentages.keys()


DECODER = HttpFilterDecoder(
    type_name=_HEALTH_CHECK,
    table={
        _HEALTH_CHECK: support("pass_through_mode cache_time cluster_min_healthy_percentages headers"),
    },
    decode=_decode,
    clusters=_clusters,
)
