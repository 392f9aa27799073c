"""Istio's HTTP filter ``istio.alpn``: ``istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig``."""

from __future__ import annotations

from sidecar.config.http_filters import AlpnConfig
from sidecar.xds.decode.http_filters.decoder import HttpFilterDecoder
from sidecar.xds.decode.metadata_exchange import without_exchange
from sidecar.xds.decode.support import support
from sidecar.xds.decode.view import View

_CONFIG = "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig"


def _decode(view: View) -> AlpnConfig:
    """HTTP/1.0 is not read: no request is sent in it."""
    offered: dict[str, tuple[str, ...]] = {}
    for override in view.each("alpn_override"):
        for index, protocol in enumerate(override.message.alpn_override):
            if not 0 < len(protocol.encode()) < 256:  # RFC 7301 3.1
                raise override.error("must have 1 to 255 bytes", f"alpn_override[{index}]")
        version = override.enum_name("upstream_protocol")
        if version in offered:
            raise override.error(f"{version} is a duplicate", "upstream_protocol")
        offered[version] = without_exchange(override.message.alpn_override)
    return AlpnConfig(http1=offered.get("HTTP11", ()), http2=offered.get("HTTP2", ()))


DECODER = HttpFilterDecoder(
    type_name=_CONFIG,
    table={
        _CONFIG: support("alpn_override"),
        f"{_CONFIG}.AlpnOverride": support("upstream_protocol alpn_override"),
    },
    decode=_decode,
)
