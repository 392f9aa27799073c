"""Whether a request is retried, and when. Pure.

Source: ``envoy.config.route.v3.RetryPolicy``, and the conditions of Envoy's ``x-envoy-retry-on`` and
``x-envoy-retry-grpc-on``. Besides the configured retries there is the default retry, once, of a request that
failed together with a reused connection, if it was provably not processed or its method is idempotent.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from sidecar.back_off import BackOff
from sidecar.config.route import RetryPolicy
from sidecar.errors import (
    UpstreamConnectError,
    UpstreamError,
    UpstreamRefusedStreamError,
    UpstreamResetError,
    UpstreamStreamResetError,
)
from sidecar.grpc_status import RETRY_CONDITIONS
from sidecar.http.headers import Headers, get_header
from sidecar.observability.stats import ClusterStats
from sidecar.observability.stream_info import StreamInfo
from sidecar.router.request_match import compile_response_header_match
from sidecar.upstream.circuit_breaker import CircuitBreaker

# RFC 9110 9.2.2: repeating these has the effect of sending them once.
IDEMPOTENT_METHODS = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})

_PUSHBACK: Final = b"grpc-retry-pushback-ms"
_NO_RETRIES = RetryPolicy(retry_on=frozenset(), num_retries=0)


class RetryRules:
    """A compiled retry policy. With `max_retries` 0 only the default retry is made."""

    __slots__ = (
        "_grpc_statuses",
        "_retriable_headers",
        "_retries_rate_limited",
        "_retry_on",
        "_statuses",
        "back_off",
        "host_selection_attempts",
        "max_retries",
        "per_try_timeout_s",
    )

    def __init__(self, policy: RetryPolicy | None) -> None:
        policy = policy or _NO_RETRIES
        self._retry_on = policy.retry_on
        self._retries_rate_limited = "envoy-ratelimited" in policy.retry_on
        self._statuses = _retriable_statuses(policy)
        self._grpc_statuses = frozenset(
            b"%d" % RETRY_CONDITIONS[condition] for condition in RETRY_CONDITIONS.keys() & policy.retry_on
        )
        self._retriable_headers: tuple[Callable[[Headers], bool], ...] = ()
        if "retriable-headers" in policy.retry_on:
            self._retriable_headers = tuple(map(compile_response_header_match, policy.retriable_headers))
        self.max_retries = policy.num_retries if policy.retry_on else 0
        self.per_try_timeout_s = policy.per_try_timeout_s
        self.host_selection_attempts = policy.host_selection_max_attempts if policy.previous_hosts else 0
        self.back_off = BackOff(base_s=policy.back_off_base_interval_s, max_s=policy.back_off_max_interval_s)

    def wants_response_retried(self, status: int, headers: Headers) -> bool:
        """The response of a rate limit is retried only for ``envoy-ratelimited``, not for its status."""
        retriable = (
            status in self._statuses
            or (self._grpc_statuses and get_header(headers, b"grpc-status") in self._grpc_statuses)
            or (self._retriable_headers and any(matches(headers) for matches in self._retriable_headers))
        )
        if not retriable and not self._retries_rate_limited:
            return False
        if get_header(headers, b"x-envoy-ratelimited") is not None:
            return self._retries_rate_limited
        return bool(retriable)

    def wants_error_retried(self, error: UpstreamError) -> bool:
        """An open circuit breaker or a lack of hosts is not an `UpstreamError`, and never retried."""
        retry_on = self._retry_on
        if "reset" in retry_on or "5xx" in retry_on or "gateway-error" in retry_on:
            return True
        if isinstance(error, UpstreamConnectError) and "connect-failure" in retry_on:
            return True
        if isinstance(error, UpstreamRefusedStreamError) and "refused-stream" in retry_on:
            return True
        return "reset-before-request" in retry_on and not error.request_sent


@lru_cache(maxsize=256)
def retry_rules(policy: RetryPolicy | None) -> RetryRules:
    """The same object for equal policies: most routes of a mesh have the same one, and it takes 2 KB."""
    return RetryRules(policy)


class Retries:
    """The retries of one request, counted. A retry lasts until the next one begins, or until `end`."""

    __slots__ = ("_breaker", "_configured", "_default_made", "_info", "_rules", "_stats", "_under_way")

    def __init__(
        self, rules: RetryRules, stats: ClusterStats, breaker: CircuitBreaker, info: StreamInfo
    ) -> None:
        self._rules = rules
        self._stats = stats
        self._breaker = breaker
        self._info = info
        self._configured = 0  # retries by the policy
        self._default_made = False
        self._under_way = False

    def begin(self, *, replayable: bool, by_default: bool) -> bool:
        """Begins a retry: of the policy, or the default one. False if there are no more, if the body cannot
        be sent again (`replayable`), or if the circuit breaker is open."""
        if by_default:
            if self._default_made:
                return False
            self._default_made = True
        else:
            if self._configured == self._rules.max_retries:
                self._stats.upstream_rq_retry_limit_exceeded += 1
                self._info.add_flag("URX")
                return False
            self._configured += 1
        self.end()
        if not replayable:
            self._stats.retry_or_shadow_abandoned += 1
            return False
        if not self._breaker.begin_retry():
            self._stats.upstream_rq_retry_overflow += 1
            self._info.add_flag("UO")
            return False
        self._stats.upstream_rq_retry += 1
        self._under_way = True
        return True

    def back_off_s(self, random: float) -> float:
        """The pause before the retry that has begun. The default retry has none: its first attempt did not
        reach the application."""
        return random * self._rules.back_off.longest_s(self._configured) if self._configured else 0.0

    def succeeded(self) -> None:
        self._stats.upstream_rq_retry_success += self._under_way

    def end(self) -> None:
        """Idempotent."""
        if self._under_way:
            self._under_way = False
            self._breaker.retries.end()


def _retriable_statuses(policy: RetryPolicy) -> frozenset[int]:
    statuses: set[int] = set()
    if "5xx" in policy.retry_on:
        statuses.update(range(500, 600))
    if "gateway-error" in policy.retry_on:
        statuses.update((502, 503, 504))
    if "retriable-4xx" in policy.retry_on:
        statuses.add(409)
    if "retriable-status-codes" in policy.retry_on:
        statuses.update(policy.retriable_status_codes)
    return frozenset(statuses)


def is_safe_to_repeat(error: UpstreamError, method: bytes) -> bool:
    """Whether the default retry is safe. The upstream may close an idle connection just when a request is
    written to it: a request of which nothing was sent was not processed, and an idempotent one may be sent
    twice. A stream that the upstream has refused was certainly not processed (RFC 9113 8.7); one that it
    resets with another code is an answer, and not a connection that closes."""
    if isinstance(error, UpstreamRefusedStreamError):
        return True
    return (
        error.connection_reused
        and isinstance(error, UpstreamResetError)
        and not isinstance(error, UpstreamStreamResetError)
        and (not error.request_sent or method in IDEMPOTENT_METHODS)
    )


def pushback_s(headers: Headers) -> float | None:
    """The pause that a gRPC server demands before the next attempt (``grpc-retry-pushback-ms`` of gRPC's
    proposal A6); negative if it forbids a retry, which an invalid value does too. None without a demand."""
    value = get_header(headers, _PUSHBACK)
    if value is None:
        return None
    if len(value) > 10 or not value.isdigit():
        return -1.0
    pause_ms = int(value)
    return pause_ms / 1000 if pause_ms < 1 << 31 else -1.0
