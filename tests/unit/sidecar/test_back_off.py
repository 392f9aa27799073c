from __future__ import annotations

import pytest

from sidecar.back_off import back_off_limit_s


@pytest.mark.parametrize(
    ("failures", "limit_s"), [(1, 0.5), (2, 1.0), (3, 2.0), (6, 16.0), (7, 30.0), (8, 30.0), (10**6, 30.0)]
)
def test_the_limit_doubles_with_each_failure_up_to_the_maximum(failures: int, limit_s: float) -> None:
    assert back_off_limit_s(failures, base_s=0.5, max_s=30.0) == limit_s


def test_a_base_above_the_maximum_is_cut_off() -> None:
    assert back_off_limit_s(1, base_s=5.0, max_s=2.0) == 2.0
