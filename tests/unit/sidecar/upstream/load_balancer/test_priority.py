from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.upstream.load_balancer.priority import LevelHealth, LevelLoad, spread_load


def level(healthy: int, total: int, degraded: int = 0) -> LevelHealth:
    return LevelHealth(healthy=healthy, degraded=degraded, total=total)


def loads(*levels: LevelHealth, panic: float = 50) -> tuple[LevelLoad, ...]:
    return spread_load(levels, overprovisioning_percent=140, panic_threshold_percent=panic)


# From Envoy's documentation of priority levels, with 140% overprovisioning.
@pytest.mark.parametrize(
    ("healthy", "expected"),
    [
        ((100, 100), (100, 0)),
        ((72, 72), (100, 0)),
        ((71, 71), (99, 1)),
        ((50, 60), (70, 30)),
        ((25, 100), (35, 65)),
        ((0, 100), (0, 100)),
        ((25, 25), (50, 50)),
    ],
)
def test_a_level_leaves_the_load_that_it_cannot_carry_to_the_next(
    healthy: tuple[int, int], expected: tuple[int, int]
) -> None:
    spread = loads(*(level(count, 100) for count in healthy), panic=0)
    assert tuple(load.healthy_percent for load in spread) == expected


@pytest.mark.parametrize(("healthy", "panic"), [(4, False), (2, False), (1, True), (0, True)])
def test_a_level_with_too_few_healthy_hosts_panics(healthy: int, panic: bool) -> None:
    (load,) = loads(level(healthy, 4))
    assert load.panic is panic
    assert load.healthy_percent == 100


def test_no_level_panics_while_all_together_can_bear_the_load() -> None:
    assert not any(load.panic for load in loads(level(1, 10), level(10, 10)))


def test_when_every_level_panics_load_follows_the_number_of_hosts() -> None:
    first, second = loads(level(0, 30), level(1, 10))
    assert (first.panic, second.panic) == (True, True)
    assert (first.healthy_percent, second.healthy_percent) == (75, 25)


def test_a_threshold_of_zero_disables_panic() -> None:
    (load,) = loads(level(1, 10), panic=0)
    assert not load.panic


def test_degraded_hosts_come_after_all_healthy_ones() -> None:
    first, second = loads(level(50, 100, degraded=50), level(20, 100))
    assert (first.healthy_percent, second.healthy_percent) == (70, 28)
    assert (first.degraded_percent, second.degraded_percent) == (2, 0)


LEVELS = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)).map(
        lambda counts: LevelHealth(healthy=counts[0], degraded=counts[1], total=sum(counts))
    ),
    min_size=1,
    max_size=4,
)


@given(LEVELS, st.integers(0, 100))
def test_the_shares_always_sum_to_a_hundred(levels: list[LevelHealth], threshold: int) -> None:
    spread = spread_load(levels, overprovisioning_percent=140, panic_threshold_percent=threshold)
    assert sum(load.healthy_percent + load.degraded_percent for load in spread) == 100
    assert all(load.healthy_percent >= 0 and load.degraded_percent >= 0 for load in spread)
