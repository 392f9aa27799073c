from __future__ import annotations

import pytest

from sidecar.config.cluster import CircuitBreakers, RetryBudget
from sidecar.upstream.circuit_breaker import CircuitBreaker


def gates(breaker: CircuitBreaker) -> tuple[bool, ...]:
    return (breaker.may_connect(), breaker.may_wait(), breaker.may_request(), breaker.may_retry())


def test_each_limit_closes_its_own_gate() -> None:
    breaker = CircuitBreaker(
        CircuitBreakers(max_connections=1, max_pending_requests=2, max_requests=3, max_retries=4)
    )
    breaker.connections, breaker.pending_requests, breaker.requests, breaker.retries = 0, 1, 2, 3
    assert gates(breaker) == (True,) * 4
    breaker.connections, breaker.pending_requests, breaker.requests, breaker.retries = 1, 2, 3, 4
    assert gates(breaker) == (False,) * 4


@pytest.mark.parametrize(
    ("requests", "pending", "retries", "allowed"),
    [(0, 0, 2, True), (0, 0, 3, False), (100, 0, 19, True), (100, 0, 20, False), (50, 50, 19, True)],
)
def test_a_retry_budget_is_a_share_of_the_active_requests(
    requests: int, pending: int, retries: int, allowed: bool
) -> None:
    breaker = CircuitBreaker(CircuitBreakers(max_retries=0, retry_budget=RetryBudget(budget_percent=20)))
    breaker.requests, breaker.pending_requests, breaker.retries = requests, pending, retries
    assert breaker.may_retry() is allowed
