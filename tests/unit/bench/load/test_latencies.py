from __future__ import annotations

import pytest

from tests.bench.load.latencies import Load, load_of, percentile


@pytest.mark.parametrize(
    ("percent", "value"), [(50, 500.0), (99, 990.0), (99.9, 999.0), (100, 1000.0), (0.01, 1.0)]
)
def test_percentiles_are_by_the_nearest_rank(percent: float, value: float) -> None:
    assert percentile([float(number) for number in range(1, 1001)], percent) == value


def test_one_value_is_every_percentile() -> None:
    assert percentile([7.0], 99.9) == percentile([7.0], 50) == 7.0


def test_a_load_is_in_milliseconds() -> None:
    load = load_of([0.003, 0.001, 0.002], 1.5)
    assert (load.done, load.seconds, load.p50_ms, load.worst_ms) == (3, 1.5, 2.0, 3.0)


def test_a_load_survives_json() -> None:
    load = load_of([0.003], 1.5)
    assert Load.from_json(load.to_json()) == load


def test_nothing_done_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing was answered"):
        load_of([], 1.0)
