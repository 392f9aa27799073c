"""The longest time from the beginning of a request to the end of its response.

Sources: ``envoy.config.route.v3.RouteAction.MaxStreamDuration``, and ``max_stream_duration`` of
``envoy.config.core.v3.HttpProtocolOptions``.
"""

from __future__ import annotations

import math

from sidecar.config.route import MaxStreamDuration
from sidecar.http.message import Request
from sidecar.router.grpc_timeout import GRPC_TIMEOUT, format_grpc_timeout, parse_grpc_timeout
from sidecar.router.rewrite import set_header


class StreamDuration:
    """The limit of a route, compiled."""

    __slots__ = ("_grpc_max_ms", "_grpc_offset_ms", "_limit_ms")

    def __init__(self, limits: MaxStreamDuration) -> None:
        self._limit_ms = _ms(limits.limit_s)
        self._grpc_max_ms = _ms(limits.grpc_timeout_header_max_s)
        self._grpc_offset_ms = round(limits.grpc_timeout_header_offset_s * 1000)

    def apply(self, request: Request, otherwise_s: float) -> float:
        """Returns the limit in seconds, infinity for none, and tells it to the server of a gRPC call.
        `otherwise_s` is the limit of the connection manager, which applies where the route has none."""
        limit_ms = self._of_header(request)
        if limit_ms is None:
            limit_s = otherwise_s if self._limit_ms is None else self._limit_ms / 1000 or math.inf
            if limit_s == math.inf:
                return math.inf
            limit_ms = round(limit_s * 1000)
        if request.info.grpc is not None:
            set_header(request, GRPC_TIMEOUT, format_grpc_timeout(limit_ms))
        return limit_ms / 1000

    def _of_header(self, request: Request) -> int | None:
        """The deadline that the client sends; None if it sends none, or if the route does not respect it."""
        if self._grpc_max_ms is None:
            return None
        timeout_ms = parse_grpc_timeout(request.headers)
        if timeout_ms is None:
            return None
        if 0 < self._grpc_max_ms < timeout_ms:
            timeout_ms = self._grpc_max_ms
        return max(0, timeout_ms - self._grpc_offset_ms)


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)
