from __future__ import annotations

from sidecar.xds.client import back_off_s


def upper(low: float, high: float) -> float:
    return high


def test_the_back_off_doubles_up_to_30_seconds_with_full_jitter() -> None:
    assert [back_off_s(failures, upper) for failures in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert back_off_s(10**6, upper) == 30.0
    assert back_off_s(5, lambda low, high: low) == 0.0
