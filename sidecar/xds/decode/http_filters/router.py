"""``envoy.extensions.filters.http.router.v3.Router``."""

from __future__ import annotations

from sidecar.config.http_filters import RouterConfig
from sidecar.xds.decode.http_filters.decoder import HttpFilterDecoder
from sidecar.xds.decode.support import NO_TRACING, STATISTICS_ONLY, support

_ROUTER = "envoy.extensions.filters.http.router.v3.Router"

DECODER = HttpFilterDecoder(
    type_name=_ROUTER,
    table={_ROUTER: support(dynamic_stats=STATISTICS_ONLY, start_child_span=NO_TRACING)},
    decode=lambda _: RouterConfig(),
)
