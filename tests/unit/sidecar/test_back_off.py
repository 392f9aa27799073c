from __future__ import annotations

from sidecar.back_off import BackOff


def test_the_longest_pause_doubles_with_each_failure_up_to_the_maximum() -> None:
    back_off = BackOff(base_s=0.5, max_s=30.0)
    assert [back_off.longest_s(failures) for failures in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_any_number_of_failures_has_a_pause() -> None:
    assert BackOff(base_s=0.5, max_s=30.0).longest_s(10**6) == 30.0
