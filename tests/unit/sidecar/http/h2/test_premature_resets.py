from __future__ import annotations

import pytest

from sidecar.http.h2.premature_resets import PrematureResets


def reset(resets: PrematureResets, lifetime_s: float = 0.1, *, answered: bool = False) -> bool:
    """As a connection reports it."""
    closes = resets.reset(lifetime_s, answered=answered)
    resets.ended()
    return closes


def test_half_of_500_streams_that_are_reset_at_once_end_the_connection() -> None:
    resets = PrematureResets()
    assert [reset(resets) for _ in range(250)] == [False] * 249 + [True]


def test_streams_that_are_served_between_do_not_hide_the_resets() -> None:
    resets = PrematureResets()
    closes = []
    for _ in range(600):
        resets.ended()
        closes.append(reset(resets))
    assert closes.index(True) == 249


def test_after_500_streams_half_of_all_of_them_end_the_connection() -> None:
    resets = PrematureResets()
    for _ in range(400):
        resets.ended()
    assert [reset(resets) for _ in range(400)] == [False] * 399 + [True]


@pytest.mark.parametrize(("lifetime_s", "answered"), [(1.5, False), (0.1, True)])
def test_streams_that_lived_or_had_a_response_are_not_counted(lifetime_s: float, answered: bool) -> None:
    resets = PrematureResets()
    assert not any(reset(resets, lifetime_s, answered=answered) for _ in range(2000))
