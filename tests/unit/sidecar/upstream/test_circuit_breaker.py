from __future__ import annotations

from collections.abc import Callable

import pytest

from sidecar.config.cluster import CircuitBreakers, RetryBudget
from sidecar.upstream.circuit_breaker import CircuitBreaker, LimitedResource
from sidecar.upstream.shared_counters import SharedCounters

LIMITS = CircuitBreakers(max_connections=1, max_pending_requests=2, max_requests=3, max_retries=4)


def resources(breaker: CircuitBreaker) -> tuple[LimitedResource, ...]:
    return (breaker.connections, breaker.pending_requests, breaker.requests, breaker.retries)


def how_often(begin: Callable[[], bool]) -> int:
    count = 0
    while begin():
        count += 1
    return count


def of_workers(limits: CircuitBreakers, workers: int = 2) -> list[CircuitBreaker]:
    counters = SharedCounters(workers)
    return [CircuitBreaker(limits, counters.of_worker(number).row(7)) for number in range(workers)]


def test_each_resource_has_its_own_limit() -> None:
    breaker = CircuitBreaker(LIMITS)
    assert [how_often(resource.begin) for resource in resources(breaker)] == [1, 2, 3, 4]
    for resource in resources(breaker):
        resource.end()
    assert [how_often(resource.begin) for resource in resources(breaker)] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("requests", "pending", "retries", "allowed"),
    [(0, 0, 2, True), (0, 0, 3, False), (100, 0, 19, True), (100, 0, 20, False), (50, 50, 19, True)],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_retry_budget_is_a_share_of_the_active_requests(
    requests: int, pending: int, retries: int, allowed: bool, workers: int
) -> None:
    budget = CircuitBreakers(max_retries=0, retry_budget=RetryBudget(budget_percent=20))
    breakers = of_workers(budget, workers)
    first, last = breakers[0], breakers[-1]
    for _ in range(requests):
        first.requests.force()
    for _ in range(pending):
        last.pending_requests.force()
    for _ in range(retries):
        first.retries.force()
    assert last.begin_retry() is allowed


def test_workers_share_each_limit() -> None:
    one, other = of_workers(LIMITS)
    for mine, theirs, limit in zip(resources(one), resources(other), (1, 2, 3, 4), strict=True):
        assert mine.begin()
        assert how_often(theirs.begin) == limit - 1
        mine.end()
        assert theirs.begin()
        assert not mine.begin()
    assert (one.requests.count, other.requests.count, one.requests.total()) == (0, 3, 3)


def test_three_workers_share_too() -> None:
    breakers = of_workers(CircuitBreakers(max_requests=3), workers=3)
    assert [breaker.requests.begin() for breaker in (*breakers, breakers[0])] == [True, True, True, False]


def test_clusters_do_not_share_with_each_other() -> None:
    counters = SharedCounters(2)
    first = CircuitBreaker(LIMITS, counters.of_worker(0).row(0))
    second = CircuitBreaker(LIMITS, counters.of_worker(1).row(1))
    assert first.connections.begin()
    assert second.connections.begin()


def test_a_cluster_that_is_replaced_leaves_no_usage_behind() -> None:
    counters = SharedCounters(2)
    replaced = CircuitBreaker(LIMITS, counters.of_worker(0).row(0))
    assert replaced.connections.begin()
    replaced.leave()
    successor, other = (CircuitBreaker(LIMITS, counters.of_worker(number).row(0)) for number in (0, 1))
    assert successor.connections.begin()
    replaced.connections.end()
    assert not other.connections.begin(), "the end of an old connection is not that of a new one"


def test_a_dead_worker_leaves_no_usage_behind() -> None:
    counters = SharedCounters(2)
    dead, living = (CircuitBreaker(LIMITS, counters.of_worker(number).row(0)) for number in (0, 1))
    assert dead.connections.begin()
    assert living.requests.begin()
    assert not living.connections.begin()
    counters.clear(0)
    assert living.connections.begin()
    assert CircuitBreaker(LIMITS, counters.of_worker(0).row(0)).requests.total() == 1
