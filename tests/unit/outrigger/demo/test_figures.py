from __future__ import annotations

from collections import Counter

import pytest

from outrigger.demo.figures import StepFigures, check_no_failures, check_shares
from outrigger.demo.load import Result, Results


def result(start_s: float = 0.0, *, status: int = 200, version: str = "v1", took_s: float = 0.01) -> Result:
    return Result(start_s=start_s, duration_s=took_s, status=status, user="", version=version, pod=version)


@pytest.mark.parametrize(
    ("v1", "v2", "ok"),
    [(900, 100, True), (872, 128, True), (871, 129, False), (928, 72, True), (929, 71, False)],
)
def test_shares_hold_within_three_sigma_of_the_weights(v1: int, v2: int, ok: bool) -> None:
    """For 1000 requests and 10%, sigma is sqrt(1000 x 0.1 x 0.9) = 9.49."""
    assert check_shares(Counter(v1=v1, v2=v2), {"v1": 90, "v2": 10}).ok is ok


def test_traffic_to_an_unexpected_version_fails_the_check() -> None:
    check = check_shares(Counter(v1=999, v3=1), {"v1": 100})
    assert not check.ok
    assert "v3 1, unexpected" in check.detail


def test_a_step_without_responses_fails() -> None:
    assert not check_shares(Counter(), {"v1": 100}).ok


def test_one_failed_request_fails_the_step_and_is_reported() -> None:
    results = Results([result(), result(status=503)])
    check = check_no_failures(results)
    assert not check.ok
    assert check.detail == "1 of 2; the first: status 503 "


def test_figures_are_of_the_requests_given() -> None:
    results = Results(result(number / 50, took_s=0.001 * (number + 1)) for number in range(100))
    figures = StepFigures(number=1, title="all")
    figures.measure(results)
    assert figures.requests == 100
    assert figures.requests_per_s == pytest.approx(50)
    assert figures.p50_ms == pytest.approx(50)
    assert figures.p99_ms == pytest.approx(99)
    assert figures.shares == {"v1": 1.0}


def test_a_step_counts_requests_sent_after_it_began() -> None:
    results = Results([result(1.0), result(2.0), result(3.0)])
    assert [r.start_s for r in results.since(2.0)] == [2.0, 3.0]
