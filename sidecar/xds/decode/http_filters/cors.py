"""``envoy.extensions.filters.http.cors.v3``: the filter that answers preflights of browsers."""

from __future__ import annotations

from sidecar.config.fraction import ALL, NONE
from sidecar.config.http_filters import CorsConfig, CorsPolicy
from sidecar.xds.decode.http_filters.decoder import HttpFilterDecoder, RouteConfigDecoder
from sidecar.xds.decode.matchers import decode_string_match
from sidecar.xds.decode.support import support
from sidecar.xds.decode.values import check_header_text, decode_runtime_fraction
from sidecar.xds.decode.view import View

_FILTER = "envoy.extensions.filters.http.cors.v3.Cors"
_POLICY = "envoy.extensions.filters.http.cors.v3.CorsPolicy"


def _policy(view: View) -> CorsPolicy:
    return CorsPolicy(
        allow_origins=tuple(decode_string_match(match) for match in view.each("allow_origin_string_match")),
        allow_methods=check_header_text(view, "allow_methods"),
        allow_headers=check_header_text(view, "allow_headers"),
        expose_headers=check_header_text(view, "expose_headers"),
        max_age=check_header_text(view, "max_age"),
        allow_credentials=view.wrapped("allow_credentials", None),
        allow_private_network_access=view.wrapped("allow_private_network_access", None),
        forward_not_matching_preflights=view.wrapped("forward_not_matching_preflights", None),
        enabled=decode_runtime_fraction(view, "filter_enabled", ALL),
        shadow_enabled=decode_runtime_fraction(view, "shadow_enabled", NONE),
    )


DECODER = HttpFilterDecoder(
    type_name=_FILTER,
    table={
        _FILTER: support(),
        _POLICY: support(
            "allow_origin_string_match allow_methods allow_headers expose_headers max_age allow_credentials "
            "allow_private_network_access forward_not_matching_preflights filter_enabled shadow_enabled"
        ),
    },
    decode=lambda _: CorsConfig(),
    route=RouteConfigDecoder(type_name=_POLICY, decode=_policy),
)
