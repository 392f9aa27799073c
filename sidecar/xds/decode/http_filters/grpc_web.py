"""``envoy.extensions.filters.http.grpc_web.v3.GrpcWeb``: the filter that translates gRPC-Web."""

from __future__ import annotations

from sidecar.config.http_filters import GrpcWebConfig
from sidecar.xds.decode.http_filters.decoder import HttpFilterDecoder
from sidecar.xds.decode.support import support

_GRPC_WEB = "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb"

DECODER = HttpFilterDecoder(
    type_name=_GRPC_WEB,
    table={_GRPC_WEB: support()},
    decode=lambda view: GrpcWebConfig(),
)
