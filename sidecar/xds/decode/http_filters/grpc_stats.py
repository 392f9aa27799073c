"""``envoy.extensions.filters.http.grpc_stats.v3.FilterConfig``: the filter that counts gRPC calls."""

from __future__ import annotations

from sidecar.config.http_filters import GrpcStatsConfig
from sidecar.xds.decode.http_filters.decoder import HttpFilterDecoder
from sidecar.xds.decode.support import support
from sidecar.xds.decode.view import View

_CONFIG = "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig"
_METHODS = "envoy.config.core.v3.GrpcMethodList"


def _decode(view: View) -> GrpcStatsConfig:
    return GrpcStatsConfig(
        all_methods=view.wrapped("stats_for_all_methods", False),
        methods=frozenset(
            (service.message.name, method)
            for service in view.get("individual_method_stats_allowlist").each("services")
            for method in service.message.method_names
        ),
        replace_dots_in_service_name=view.message.replace_dots_in_grpc_service_name,
    )


DECODER = HttpFilterDecoder(
    type_name=_CONFIG,
    table={
        _CONFIG: support(
            "individual_method_stats_allowlist stats_for_all_methods replace_dots_in_grpc_service_name",
            emit_filter_state="the messages of every call are counted for the metrics",
        ),
        _METHODS: support("services"),
        f"{_METHODS}.Service": support("name method_names"),
    },
    decode=_decode,
)
