"""Whether a request is tried again, and when. Pure.

Source: ``envoy.config.route.v3.RetryPolicy``, and the conditions of Envoy's ``x-envoy-retry-on`` and
``x-envoy-retry-grpc-on``. Beside what is configured, one retry is made of a request that died with a
connection which had been idle, if it was provably not processed, or its method allows it to be repeated.
"""

from __future__ import annotations

from collections.abc import Callable

from sidecar.config.route import RetryPolicy
from sidecar.errors import (
    UpstreamConnectError,
    UpstreamError,
    UpstreamRefusedStreamError,
    UpstreamResetError,
)
from sidecar.grpc_status import RETRY_CONDITIONS
from sidecar.http.headers import Headers, get_header
from sidecar.router.request_match import compile_response_header_match

# RFC 9110 9.2.2: repeating these has the effect of sending them once.
IDEMPOTENT_METHODS = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})

_NO_RETRIES = RetryPolicy(retry_on=frozenset(), num_retries=0)


class RetryRules:
    """A retry policy, compiled. `max_retries` of 0 means that only the default retry is ever made."""

    __slots__ = (
        "_grpc_statuses",
        "_retriable_headers",
        "_retries_rate_limited",
        "_retry_on",
        "_statuses",
        "back_off_base_interval_s",
        "back_off_max_interval_s",
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
        self.back_off_base_interval_s = policy.back_off_base_interval_s
        self.back_off_max_interval_s = policy.back_off_max_interval_s

    def wants_response_retried(self, status: int, headers: Headers) -> bool:
        """A rate limit's answer is retried where that is asked for, and for no other reason."""
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
        """An open circuit breaker, or a lack of hosts, is no such error and never retried."""
        retry_on = self._retry_on
        if "reset" in retry_on or "5xx" in retry_on or "gateway-error" in retry_on:
            return True
        if isinstance(error, UpstreamConnectError) and "connect-failure" in retry_on:
            return True
        if isinstance(error, UpstreamRefusedStreamError) and "refused-stream" in retry_on:
            return True
        return "reset-before-request" in retry_on and not error.request_sent

    def back_off_s(self, retry: int, random: float) -> float:
        """The pause before the `retry`-th retry (from 1): uniform below a bound that doubles each time."""
        bound = self.back_off_base_interval_s * float(2 ** min(retry - 1, 32))
        return random * min(bound, self.back_off_max_interval_s)


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
    """An idle connection that the upstream closed just as the request was written to it: nothing was
    processed where nothing was sent, and what is idempotent may be sent twice."""
    return (
        error.connection_reused
        and isinstance(error, UpstreamResetError)
        and (not error.request_sent or method in IDEMPOTENT_METHODS)
    )
