"""The deadline of a gRPC call: the header ``grpc-timeout``, and the deprecated fields of a route that make it
the route's timeout.

Sources: gRPC's ``PROTOCOL-HTTP2.md`` ("Timeout"), and ``max_grpc_timeout`` and ``grpc_timeout_offset`` of
``envoy.config.route.v3.RouteAction``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sidecar.http.headers import Headers, get_header

GRPC_TIMEOUT: Final = b"grpc-timeout"

_MOST: Final = 99_999_999  # at most eight digits
_UNITS_NS: Final[Mapping[bytes, int]] = {
    b"H": 3_600_000_000_000,
    b"M": 60_000_000_000,
    b"S": 1_000_000_000,
    b"m": 1_000_000,
    b"u": 1000,
    b"n": 1,
}
_NS_PER_MS: Final = 1_000_000


def parse_grpc_timeout(headers: Headers) -> int | None:
    """The deadline in ms, rounded up; None without a valid header."""
    value = get_header(headers, GRPC_TIMEOUT)
    if value is None or len(value) > 9:
        return None
    digits, unit_ns = value[:-1], _UNITS_NS.get(value[-1:])
    if unit_ns is None or not digits.isdigit():
        return None
    return -(-int(digits) * unit_ns // _NS_PER_MS)


def format_grpc_timeout(timeout_ms: int) -> bytes:
    """In the smallest unit, from milliseconds on, that needs at most eight digits."""
    if timeout_ms <= _MOST:
        return b"%dm" % timeout_ms
    seconds = timeout_ms // 1000
    for unit in (b"S", b"M"):
        if seconds <= _MOST:
            return b"%d%b" % (seconds, unit)
        seconds //= 60
    return b"%dH" % min(seconds, _MOST)


class CallTimeout:
    """The timeout of the gRPC calls of a route that has ``max_grpc_timeout``."""

    __slots__ = ("_max_ms", "_offset_ms")

    def __init__(self, max_s: float, offset_s: float) -> None:
        """`max_s` 0: as long as the client says."""
        self._max_ms = round(max_s * 1000)
        self._offset_ms = round(offset_s * 1000)

    def of(self, headers: Headers) -> float:
        """In seconds; 0 is no limit, as for a call without a deadline. An offset that leaves nothing of the
        time is not applied."""
        timeout_ms = parse_grpc_timeout(headers) or 0
        if self._offset_ms < timeout_ms:
            timeout_ms -= self._offset_ms
        if self._max_ms and (timeout_ms == 0 or timeout_ms > self._max_ms):
            timeout_ms = self._max_ms
        return timeout_ms / 1000
