"""Istio's ``istio.alpn``: the protocols that are offered to a host by ALPN depend on the HTTP version of the
request to it. By names such as ``istio-http/1.1``, a sidecar recognizes HTTP on a port that declares none.
"""

from __future__ import annotations

from collections.abc import Awaitable

from sidecar.config.codec_type import CodecType
from sidecar.config.http_filters import AlpnConfig
from sidecar.filters.chain import FilterContext, FilterKind
from sidecar.http.message import Request, Response, Service
from sidecar.router.resolution import ResolvedRoute

_HTTP1 = CodecType.HTTP1
_DOWNSTREAM = CodecType.DOWNSTREAM


class AlpnFilter:
    def __init__(self, config: AlpnConfig, context: FilterContext) -> None:
        self._http1 = config.http1
        self._http2 = config.http2

    def __call__(self, request: Request, proceed: Service) -> Awaitable[Response]:
        resolved = request.route
        if isinstance(resolved, ResolvedRoute) and resolved.cluster is not None:
            cluster = resolved.cluster.config
            if cluster.alpn_override:
                version = cluster.codec_type
                is_http1 = version is _HTTP1 or (version is _DOWNSTREAM and request.info.protocol != "HTTP/2")
                request.info.offered_alpn = self._http1 if is_http1 else self._http2
        return proceed(request)

    def close(self) -> None:
        pass


KIND = FilterKind(config=AlpnConfig, make=AlpnFilter)
