from __future__ import annotations

import pytest

from sidecar.http.h2.premature_resets import PrematureResets


def test_half_of_500_streams_that_are_reset_at_once_end_the_connection() -> None:
    resets = PrematureResets()
    assert [resets.reset(0.1, answered=False) for _ in range(250)] == [False] * 249 + [True]


def test_after_500_streams_half_of_all_of_them_end_the_connection() -> None:
    resets = PrematureResets()
    for _ in range(400):
        resets.ended()
    assert [resets.reset(0.1, answered=False) for _ in range(400)] == [False] * 399 + [True]


@pytest.mark.parametrize(("lifetime_s", "answered"), [(1.5, False), (0.1, True)])
def test_streams_that_lived_or_had_a_response_are_not_counted(lifetime_s: float, answered: bool) -> None:
    resets = PrematureResets()
    assert not any(resets.reset(lifetime_s, answered=answered) for _ in range(2000))
