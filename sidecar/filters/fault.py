"""``envoy.filters.http.fault``: delays requests, answers them with an error, and slows responses down.

Source: ``envoy.extensions.filters.http.fault.v3.HTTPFault``. The configuration of the most specific level of
the route replaces the filter's. A share, a delay, a status or a rate may come from the request
(``x-envoy-fault-*``) if the configuration says so; the configured percentage is then the largest one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sidecar.config.fraction import Fraction
from sidecar.config.http_filters import FaultAbort, FaultConfig, FaultDelay, FaultRateLimit
from sidecar.errors import FaultAbortError
from sidecar.filters.bodies import on_end
from sidecar.filters.chain import FilterContext, FilterKind
from sidecar.filters.rate_limited_body import RateLimitedBody
from sidecar.grpc_status import NO_STATUS
from sidecar.http.headers import Headers, get_header
from sidecar.http.local_reply import local_reply
from sidecar.http.message import Request, Response, Service
from sidecar.observability.stats import Counters
from sidecar.observability.stream_info import fail
from sidecar.router.request_match import compile_header_match
from sidecar.router.resolution import ResolvedRoute

_DELAY_MS: Final = b"x-envoy-fault-delay-request"
_DELAY_PERCENTAGE: Final = b"x-envoy-fault-delay-request-percentage"
_ABORT_HTTP: Final = b"x-envoy-fault-abort-request"
_ABORT_GRPC: Final = b"x-envoy-fault-abort-grpc-request"
_ABORT_PERCENTAGE: Final = b"x-envoy-fault-abort-request-percentage"
_KIB_PER_S: Final = b"x-envoy-fault-throughput-response"
_RATE_PERCENTAGE: Final = b"x-envoy-fault-throughput-response-percentage"
_DOWNSTREAM_NODE: Final = b"x-envoy-downstream-service-node"


@dataclass(slots=True, eq=False)
class FaultStats(Counters):
    """``http.<stat_prefix>.``"""

    fault__aborts_injected: int = 0
    fault__active_faults: int = 0
    fault__delays_injected: int = 0
    fault__faults_overflow: int = 0
    fault__response_rl_injected: int = 0


class CompiledFault:
    """The faults of the filter, or of one level of a route."""

    __slots__ = (
        "_downstream_nodes",
        "_matches",
        "_upstream_cluster",
        "abort",
        "delay",
        "max_active",
        "rate_limit",
    )

    def __init__(self, config: FaultConfig) -> None:
        self._matches = tuple(map(compile_header_match, config.headers))
        self._downstream_nodes = config.downstream_nodes
        self._upstream_cluster = config.upstream_cluster
        self.delay = config.delay
        self.abort = config.abort
        self.rate_limit = config.response_rate_limit
        self.max_active = config.max_active_faults

    def applies(self, request: Request) -> bool:
        if self._upstream_cluster and self._upstream_cluster != _cluster(request):
            return False
        nodes = self._downstream_nodes
        if nodes and get_header(request.headers, _DOWNSTREAM_NODE) not in nodes:
            return False
        return all(matches(request) for matches in self._matches)


def _cluster(request: Request) -> str:
    """The name of the cluster that the request goes to, which may not exist; empty if the route answers."""
    resolved = request.route
    if not isinstance(resolved, ResolvedRoute) or resolved.destination is None:
        return ""
    return resolved.destination.cluster or request.info.cluster


class FaultFilter:
    def __init__(self, config: FaultConfig, context: FilterContext) -> None:
        self._name = context.name
        self._own = CompiledFault(config)
        self._rng = context.router_env.rng
        self._timers = context.timers
        self._stats = context.counters(FaultStats)

    async def __call__(self, request: Request, proceed: Service) -> Response:
        fault = self._fault(request)
        if not fault.applies(request):
            return await proceed(request)
        active = _ActiveFault(self._stats, fault.max_active)
        try:
            response = await self._inject(fault, active, request, proceed)
        except BaseException:
            active.end()
            raise
        if active.begun:
            response.body = on_end(response.body, active.end)
        return response

    def _fault(self, request: Request) -> CompiledFault:
        if request.route is not None:
            for config in request.route.filter_configs(self._name):
                assert isinstance(config, CompiledFault)
                return config
        return self._own

    async def _inject(
        self, fault: CompiledFault, active: _ActiveFault, request: Request, proceed: Service
    ) -> Response:
        """In Envoy's order. A request that was delayed may be aborted too."""
        headers, info = request.headers, request.info
        kib_per_s = self._rate(fault.rate_limit, headers)
        limits = kib_per_s > 0 and active.begin()
        if limits:
            self._stats.fault__response_rl_injected += 1
        delay_s = self._delay_s(fault.delay, headers)
        if delay_s > 0.0 and active.begin():
            self._stats.fault__delays_injected += 1
            info.add_flag("DI")
            await self._timers.sleep(delay_s)
        response = self._aborted(fault.abort, active, request) or await proceed(request)
        if limits and response.body.whole != b"":
            response.body = RateLimitedBody(response.body, kib_per_s, self._timers)
        return response

    def _delay_s(self, delay: FaultDelay | None, headers: Headers) -> float:
        """0.0 for no delay."""
        if delay is None or not self._takes(
            delay.percentage, headers, delay.fixed_s is None, _DELAY_PERCENTAGE
        ):
            return 0.0
        if delay.fixed_s is not None:
            return delay.fixed_s
        return _number(headers, _DELAY_MS) / 1000

    def _rate(self, limit: FaultRateLimit | None, headers: Headers) -> int:
        """KiB/s; 0 for no limit."""
        if limit is None:
            return 0
        fixed = limit.fixed_kib_per_s
        if not self._takes(limit.percentage, headers, fixed is None, _RATE_PERCENTAGE):
            return 0
        return _number(headers, _KIB_PER_S) if fixed is None else fixed

    def _aborted(self, abort: FaultAbort | None, active: _ActiveFault, request: Request) -> Response | None:
        """The answer to a request that is aborted."""
        if abort is None:
            return None
        headers, http_status, grpc_status = request.headers, abort.http_status, abort.grpc_status
        by_header = http_status is None and grpc_status is None
        if not self._takes(abort.percentage, headers, by_header, _ABORT_PERCENTAGE):
            return None
        if by_header:
            http_status = _number(headers, _ABORT_HTTP)
            if not 200 <= http_status < 600:
                http_status, grpc_status = None, _parse(get_header(headers, _ABORT_GRPC))
                if grpc_status < 0:
                    return None
        if not active.begin():
            return None
        self._stats.fault__aborts_injected += 1
        return _abort(request, http_status, grpc_status)

    def _takes(self, percentage: Fraction, headers: Headers, by_header: bool, name: bytes) -> bool:
        if by_header:
            asked = _parse(get_header(headers, name))
            if 0 <= asked < 2**32:
                percentage = percentage.at_most(asked)
        return percentage.takes(self._rng)

    def close(self) -> None:
        pass


class _ActiveFault:
    """The faults of one request, which count as one, from the first of them to the end of the response."""

    __slots__ = ("_max", "_stats", "begun")

    def __init__(self, stats: FaultStats, max_active: int | None) -> None:
        self._stats = stats
        self._max = max_active
        self.begun = False

    def begin(self) -> bool:
        """Whether another fault may be injected into the request."""
        if self.begun:
            return True
        if self._max is not None and self._stats.fault__active_faults >= self._max:
            self._stats.fault__faults_overflow += 1
            return False
        self._stats.fault__active_faults += 1
        self.begun = True
        return True

    def end(self) -> None:
        if self.begun:
            self.begun = False
            self._stats.fault__active_faults -= 1


def _abort(request: Request, http_status: int | None, grpc_status: int | None) -> Response:
    error = FaultAbortError("fault filter abort")
    fail(request.info, error)
    response = local_reply(
        request,
        http_status or 200,
        b"fault filter abort",
        grpc_status=NO_STATUS if grpc_status is None else grpc_status,
    )
    if request.route is not None:
        request.route.finish(response.headers)
    request.upstream_body = response.body
    return response


def _number(headers: Headers, name: bytes) -> int:
    """The number in a header; 0 if there is none."""
    return max(_parse(get_header(headers, name)), 0)


def _parse(value: bytes | None) -> int:
    """-1 for what is not a number of 64 bits."""
    if value is None or len(value) > 20 or not value.isdigit():
        return -1
    number = int(value)
    return number if number < 2**64 else -1


def _injects(config: FaultConfig) -> bool:
    return config.delay is not None or config.abort is not None or config.response_rate_limit is not None


KIND = FilterKind(
    config=FaultConfig,
    make=FaultFilter,
    route_config=FaultConfig,
    compile_route_config=CompiledFault,
    acts_alone=_injects,
)
