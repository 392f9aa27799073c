from __future__ import annotations

import pytest

from sidecar.config.cluster import CircuitBreakers
from sidecar.config.route import RetryPolicy
from sidecar.errors import (
    UpstreamConnectError,
    UpstreamError,
    UpstreamPerTryTimeoutError,
    UpstreamProtocolError,
    UpstreamRefusedStreamError,
    UpstreamResetError,
    UpstreamStreamResetError,
)
from sidecar.http.headers import Headers
from sidecar.observability.stats import ClusterStats
from sidecar.router.retry import Retries, RetryRules, is_safe_to_repeat, pushback_s
from sidecar.upstream.circuit_breaker import CircuitBreaker
from tests.support.requests import make_request
from tests.support.routes import header, string


def rules(*retry_on: str, **options: object) -> RetryRules:
    return RetryRules(RetryPolicy(retry_on=frozenset(retry_on), **options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("condition", "retried", "not_retried"),
    [
        ("5xx", [500, 503, 599], [200, 404, 499]),
        ("gateway-error", [502, 503, 504], [500, 501, 505]),
        ("retriable-4xx", [409], [400, 404, 500]),
        ("retriable-status-codes", [418], [500]),
        ("connect-failure", [], [500, 503]),
        ("reset", [], [503]),
    ],
)
def test_statuses(condition: str, retried: list[int], not_retried: list[int]) -> None:
    wanted = rules(condition, retriable_status_codes=frozenset({418}))
    assert all(wanted.wants_response_retried(status, []) for status in retried)
    assert not any(wanted.wants_response_retried(status, []) for status in not_retried)


def test_status_codes_alone_ask_for_nothing() -> None:
    assert not rules("reset", retriable_status_codes=frozenset({418})).wants_response_retried(418, [])


@pytest.mark.parametrize(
    ("condition", "grpc_status"),
    [
        ("cancelled", b"1"),
        ("deadline-exceeded", b"4"),
        ("resource-exhausted", b"8"),
        ("internal", b"13"),
        ("unavailable", b"14"),
    ],
)
def test_grpc_statuses_of_responses_without_a_body(condition: str, grpc_status: bytes) -> None:
    assert rules(condition).wants_response_retried(200, [(b"grpc-status", grpc_status)])
    assert not rules(condition).wants_response_retried(200, [(b"grpc-status", b"0")])
    assert not rules(condition).wants_response_retried(200, [])


def test_retriable_headers() -> None:
    wanted = rules("retriable-headers", retriable_headers=(header("x-retry", string("yes")),))
    assert wanted.wants_response_retried(200, [(b"x-retry", b"yes")])
    assert not wanted.wants_response_retried(200, [(b"x-retry", b"no")])


def test_a_rate_limited_response_is_retried_only_where_that_is_asked_for() -> None:
    limited: Headers = [(b"x-envoy-ratelimited", b"true")]
    assert not rules("5xx").wants_response_retried(503, limited)
    assert rules("envoy-ratelimited").wants_response_retried(429, limited)


NOT_SENT = UpstreamResetError("gone", request_sent=False)
SENT = UpstreamResetError("gone", request_sent=True)


@pytest.mark.parametrize(
    ("condition", "error", "retried"),
    [
        ("connect-failure", UpstreamConnectError("refused"), True),
        ("connect-failure", SENT, False),
        ("reset", SENT, True),
        ("reset", UpstreamConnectError("refused"), True),
        ("reset", UpstreamPerTryTimeoutError("slow", request_sent=True), True),
        ("5xx", SENT, True),
        ("gateway-error", UpstreamProtocolError("garbage", request_sent=True), True),
        ("reset-before-request", NOT_SENT, True),
        ("reset-before-request", SENT, False),
        ("refused-stream", UpstreamRefusedStreamError("refused"), True),
        ("refused-stream", SENT, False),
        ("retriable-4xx", SENT, False),
    ],
)
def test_errors(condition: str, error: UpstreamError, retried: bool) -> None:
    assert rules(condition).wants_error_retried(error) is retried


@pytest.mark.parametrize(
    ("reused", "sent", "method", "safe"),
    [
        (True, True, b"GET", True),
        (True, True, b"PUT", True),
        (True, True, b"POST", False),  # it may have been processed
        (True, False, b"POST", True),
        (True, True, b"PATCH", False),
        (False, True, b"GET", False),  # not an idle connection: the upstream itself failed
    ],
)
def test_what_is_repeated_without_being_asked(reused: bool, sent: bool, method: bytes, safe: bool) -> None:
    error = UpstreamResetError("gone", request_sent=sent)
    error.connection_reused = reused
    assert is_safe_to_repeat(error, method) is safe


@pytest.mark.parametrize(
    ("error", "safe"),
    [
        (UpstreamRefusedStreamError("not processed"), True),
        (UpstreamStreamResetError("INTERNAL_ERROR", request_sent=True), False),  # the connection lives
    ],
)
def test_a_reset_stream_is_repeated_if_it_was_refused(error: UpstreamError, safe: bool) -> None:
    error.connection_reused = True
    assert is_safe_to_repeat(error, b"GET") is safe


def test_no_policy_means_no_retries() -> None:
    assert RetryRules(None).max_retries == 0
    assert RetryRules(RetryPolicy(retry_on=frozenset(), num_retries=5)).max_retries == 0


def test_hosts_are_avoided_only_where_that_is_asked_for() -> None:
    assert rules("5xx", host_selection_max_attempts=5).host_selection_attempts == 0
    assert rules("5xx", host_selection_max_attempts=5, previous_hosts=True).host_selection_attempts == 5


class Counted:
    """The retries of one request, with their cluster's accounts."""

    def __init__(self, policy: RetryRules, *, max_retries: int = 3) -> None:
        self.stats = ClusterStats()
        self.breaker = CircuitBreaker(CircuitBreakers(max_retries=max_retries))
        self.info = make_request().info
        self.retries = Retries(policy, self.stats, self.breaker, self.info)

    def begin(self, *, replayable: bool = True, by_default: bool = False) -> bool:
        return self.retries.begin(replayable=replayable, by_default=by_default)


def test_a_request_is_retried_as_often_as_its_policy_says() -> None:
    counted = Counted(rules("5xx", num_retries=2))
    assert [counted.begin() for _ in range(3)] == [True, True, False]
    assert counted.info.flags == "URX"
    assert (counted.stats.upstream_rq_retry, counted.stats.upstream_rq_retry_limit_exceeded) == (2, 1)


def test_the_default_retry_is_made_once_and_does_not_count_as_one_of_the_policy() -> None:
    counted = Counted(rules("5xx", num_retries=1))
    begun = [counted.begin(by_default=True), counted.begin(by_default=True), counted.begin()]
    assert begun == [True, False, True]
    assert counted.info.flags == ""


def test_a_retry_counts_against_the_circuit_breaker_until_the_next_one_or_the_end() -> None:
    counted = Counted(rules("5xx", num_retries=5), max_retries=1)
    for _ in range(3):
        assert counted.begin()
        assert counted.breaker.retries.count == 1
    counted.retries.succeeded()
    counted.retries.end()
    counted.retries.end()
    assert counted.breaker.retries.count == 0
    assert (counted.stats.upstream_rq_retry, counted.stats.upstream_rq_retry_success) == (3, 1)


def test_an_open_circuit_breaker_refuses_a_retry() -> None:
    counted = Counted(rules("5xx"), max_retries=0)
    assert not counted.begin()
    assert counted.info.flags == "UO"
    assert (counted.stats.upstream_rq_retry_overflow, counted.breaker.retries.count) == (1, 0)


def test_a_body_that_cannot_be_sent_again_ends_the_retries() -> None:
    counted = Counted(rules("5xx"))
    assert not counted.begin(replayable=False)
    assert (counted.stats.retry_or_shadow_abandoned, counted.stats.upstream_rq_retry) == (1, 0)


def test_the_default_retry_goes_out_at_once() -> None:
    counted = Counted(rules("5xx", back_off_base_interval_s=1.0, back_off_max_interval_s=10.0))
    counted.begin(by_default=True)
    assert counted.retries.back_off_s(0.5) == 0.0
    counted.begin()
    assert counted.retries.back_off_s(0.5) == 0.5


def test_the_pause_before_each_configured_retry_is_longer() -> None:
    policy = rules("5xx", num_retries=4, back_off_base_interval_s=1.0, back_off_max_interval_s=5.0)
    counted = Counted(policy)
    pauses_s = [counted.retries.back_off_s(0.5) for _ in range(4) if counted.begin()]
    assert pauses_s == [0.5, 1.0, 2.0, 2.5]


@pytest.mark.parametrize(
    ("value", "pause_s"),
    [(b"0", 0.0), (b"1500", 1.5), (b"2147483647", 2147483.647), (b"2147483648", -1.0), (b"-1", -1.0)]
    + [(invalid, -1.0) for invalid in (b"", b"soon", b"1.5", b"+1", b"99999999999")],
)
def test_a_grpc_server_says_when_to_retry(value: bytes, pause_s: float) -> None:
    assert pushback_s([(b"grpc-retry-pushback-ms", value)]) == pause_s


def test_without_a_demand_of_the_server_the_policy_decides() -> None:
    assert pushback_s([]) is None
