from __future__ import annotations

import pytest

from tests.bench.case import Bar
from tests.bench.report.results import CaseResult, Rounds, add_round, from_json, ratio_of, to_json

BAR = Bar(figure="cpu_us", limit=0.65, aim=0.5)


def result(**contenders: Rounds) -> CaseResult:
    return CaseResult(
        name="http1", title="HTTP", unit="request", compared="cpu_us", bars=[BAR], contenders=contenders
    )


def test_a_ratio_is_the_median_of_the_pairs_of_a_round() -> None:
    """Not the ratio of the medians: in a slow minute, both are slow."""
    ratio = ratio_of([10.0, 40.0, 9.0], [20.0, 80.0, 10.0])
    assert (ratio.median, ratio.lowest, ratio.highest) == (0.5, 0.5, 0.9)


def test_rounds_that_are_not_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="argument 2"):
        ratio_of([1.0], [1.0, 2.0])


def test_a_value_is_the_median_of_the_rounds() -> None:
    assert result(Envoy={"cpu_us": [3.0, 1.0, 2.0]}).value("Envoy", "cpu_us") == 2.0


def test_the_worst_latency_is_the_worst_of_all_rounds() -> None:
    case = result(Envoy={"worst_ms": [3.0, 8.0]}, python={"worst_ms": [4.0, 2.0]})
    assert case.value("Envoy", "worst_ms") == 8.0
    ratio = case.ratio("python", "worst_ms")
    assert ratio is not None
    assert ratio.median == 0.5


def test_a_figure_that_one_of_them_lacks_has_no_ratio() -> None:
    case = result(Envoy={}, python={"cpu_us": [4.0]})
    assert case.ratio("python", "cpu_us") is None
    assert case.value("Envoy", "cpu_us") is None


def test_a_bar_limits_the_ratio_or_the_value() -> None:
    case = result(Envoy={"cpu_us": [40.0]}, python={"cpu_us": [20.0]})
    assert case.reached("python", BAR) == 0.5
    assert case.reached("python", Bar(figure="cpu_us", limit=25, absolute=True)) == 20.0


def test_figures_of_rounds_are_gathered_in_order() -> None:
    gathered: dict[str, Rounds] = {}
    add_round(gathered, "Envoy", {"cpu_us": 1.0})
    add_round(gathered, "Envoy", {"cpu_us": 2.0})
    add_round(gathered, "Envoy", {"system_calls": 9.0})
    assert gathered == {"Envoy": {"cpu_us": [1.0, 2.0], "system_calls": [9.0]}}


def test_a_result_survives_json() -> None:
    case = result(Envoy={"cpu_us": [40.0]})
    assert from_json("http1", to_json(case)) == case
