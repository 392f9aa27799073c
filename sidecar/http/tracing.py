"""The headers by which proxies tell each other about the traces of a request; no spans are reported. Envoy
does the same for a connection manager with ``tracing``, also if it has no provider.

- ``x-envoy-decorator-operation`` names the operation, by the ``decorator`` of a route. The client's proxy
  sends it with the request, for the span of the server; if it does not, the server's proxy sends its own name
  with the response. Each is removed by the proxy that it is meant for.
- A digit of the request id says why the request is traced, so that all proxies decide the same.
"""

from __future__ import annotations

from random import Random
from typing import Final

from sidecar.config.tracing import Decorator, RequestIdOptions, Sampling, Tracing
from sidecar.config.tracing import RouteTracing as RouteTracingConfig
from sidecar.http.message import Request
from sidecar.observability.stats import TracingStats

OPERATION: Final = b"x-envoy-decorator-operation"
_CLIENT_TRACE_ID: Final = b"x-client-trace-id"
_REQUEST_ID: Final = b"x-request-id"
TRACE_HEADERS: Final = frozenset((OPERATION, _CLIENT_TRACE_ID))
"""The headers of requests that `RequestTracing` reads: `StreamInfo.trace_headers` is set for a request with
any of them."""

_NUMBER_LENGTH: Final = 8  # hexadecimal digits at the beginning of a request id
# Envoy: the digit of a UUID's version (RFC 9562 4.2) is replaced by one of these.
_DIGIT_AT: Final = 14
_UUID_LENGTH: Final = 36
NOT_TRACED: Final = ord("4")
_SAMPLED: Final = ord("9")
_FORCED: Final = ord("a")
_BY_CLIENT: Final = ord("b")

# Each process has its own seed, as in `router.forward`.
_RNG = Random()


class RouteTraceRules:
    """The options of a route, compiled. `operation` is the header that names it; None if the route has no
    decorator, or one that is not propagated. `sampling` replaces that of the connection manager."""

    __slots__ = ("operation", "sampling")

    def __init__(self, decorator: Decorator | None, tracing: RouteTracingConfig | None) -> None:
        self.operation: tuple[bytes, bytes] | None = None
        if decorator is not None and decorator.propagate:
            self.operation = (OPERATION, decorator.operation.encode())
        self.sampling: Sampling | None = None if tracing is None else tracing.sampling


class RequestTracing:
    """Compiled from a connection manager's configuration. `egress`: its listener serves the clients of
    other workloads (``traffic_direction: OUTBOUND``)."""

    __slots__ = ("_id_decides", "_packs", "_rng", "_sampling", "_stats", "egress")

    def __init__(
        self,
        config: Tracing,
        request_id: RequestIdOptions,
        *,
        egress: bool,
        stats: TracingStats,
        rng: Random = _RNG,
    ) -> None:
        self.egress = egress
        self._sampling = config.sampling
        self._id_decides = request_id.use_for_sampling
        self._packs = request_id.pack_trace_reason
        self._stats = stats
        self._rng = rng

    def begin(self, request: Request, route: RouteTraceRules | None) -> None:
        """Changes the head of a request whose route was resolved, before its filters. Sets
        `StreamInfo.operation`."""
        received: bytes | None = None  # the name of the operation
        asked_by_client = False
        if request.info.trace_headers:
            for name, value in request.headers:
                if name == _CLIENT_TRACE_ID:
                    asked_by_client = True
                elif name == OPERATION and not received:
                    received = value
        own = None if route is None else route.operation
        if received is not None and (own is not None or not self.egress):
            request.headers = [field for field in request.headers if field[0] != OPERATION]
        if own is not None:
            if self.egress:
                request.headers.append(own)
            elif not received:
                request.info.operation = own
        sampling = None if route is None else route.sampling
        self._count(self._decide(request, sampling or self._sampling, asked_by_client))

    def _decide(self, request: Request, sampling: Sampling, asked_by_client: bool) -> int:
        """Why Envoy would trace the request, as the digit of its id. A proxy before this one may have
        decided. An id that is not a number decides nothing."""
        if not self._id_decides:
            return _SAMPLED
        request_id = request.info.request_id
        number = _number_of(request_id)
        if number < 0:
            return NOT_TRACED
        reason = _reason_of(request_id)
        decided = False
        if reason == NOT_TRACED:
            if asked_by_client and sampling.client.takes(self._rng):
                reason, decided = _BY_CLIENT, True
            elif sampling.random.takes_number(number):
                reason, decided = _SAMPLED, True
        if reason != NOT_TRACED and not sampling.overall.takes_number(number):
            reason, decided = NOT_TRACED, True
        if decided and self._packs:
            set_trace_reason(request, reason)
        return reason

    def _count(self, reason: int) -> None:
        stats = self._stats
        if reason == NOT_TRACED:
            stats.tracing__not_traceable += 1
        elif reason == _SAMPLED:
            stats.tracing__random_sampling += 1
        elif reason == _BY_CLIENT:
            stats.tracing__client_enabled += 1
        else:
            stats.tracing__service_forced += 1


def _number_of(request_id: bytes) -> int:
    """From 0 to 9999; -1 if the id has none. As in Envoy, ``0x`` may be in front."""
    digits = request_id[:_NUMBER_LENGTH]
    if len(digits) < _NUMBER_LENGTH or not digits.isalnum():  # `int` accepts signs, spaces and underscores
        return -1
    try:
        return int(digits, 16) % 10_000
    except ValueError:
        return -1


def _reason_of(request_id: bytes) -> int:
    if len(request_id) != _UUID_LENGTH:
        return NOT_TRACED
    digit = request_id[_DIGIT_AT]
    return digit if digit in (_SAMPLED, _FORCED, _BY_CLIENT) else NOT_TRACED


def set_trace_reason(request: Request, reason: int) -> None:
    """Writes the digit `reason` into the request id, if it has the length of a UUID."""
    old = request.info.request_id
    if len(old) != _UUID_LENGTH or old[_DIGIT_AT] == reason:
        return
    request_id = b"%b%c%b" % (old[:_DIGIT_AT], reason, old[_DIGIT_AT + 1 :])
    request.info.request_id = request_id
    headers = request.headers
    for index, field in enumerate(headers):
        if field[0] == _REQUEST_ID:
            headers[index] = (_REQUEST_ID, request_id)
            return
