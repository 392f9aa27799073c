from __future__ import annotations

import pytest

from tests.bench.case import Bar
from tests.bench.document import PAGE, merged, replaced
from tests.bench.report.markdown import detail_table, ratio_table
from tests.bench.report.results import CaseResult

PAGE_TEXT = "before\n<!-- ratios: generated -->\nold\n<!-- end -->\nbetween\n<!-- end -->\n"


def case() -> CaseResult:
    return CaseResult(
        name="http1",
        title="HTTP/1.1",
        unit="request",
        compared="cpu_us",
        bars=[Bar(figure="cpu_us", limit=0.65)],
        contenders={
            "Envoy": {"cpu_us": [40.0], "per_s": [1000.0]},
            "compiled": {"cpu_us": [20.0], "per_s": [2000.0]},
            "nginx": {"cpu_us": [15.0]},
        },
    )


def test_only_the_section_is_replaced() -> None:
    page = replaced(PAGE_TEXT, "ratios", "new")
    assert page == PAGE_TEXT.replace("old\n", "\nnew\n\n")
    assert replaced(page, "ratios", "new") == page


def test_a_page_without_the_section_is_an_error() -> None:
    with pytest.raises(ValueError, match="figures"):
        replaced(PAGE_TEXT, "figures", "new")


def test_the_page_has_every_section() -> None:
    for section in ("machine", "ratios", "figures"):
        replaced(PAGE.read_text(), section, "")


def test_later_results_replace_the_cases_of_earlier_ones() -> None:
    first = {"time": 1, "builds": ["python"], "cases": {"a": 1, "b": 1}}
    second = {"time": 2, "builds": ["compiled", "python"], "cases": {"b": 2}}
    assert merged([first, second]) == {
        "time": 2,
        "builds": ["python", "compiled"],
        "cases": {"a": 1, "b": 2},
    }


def test_the_table_has_envoys_figure_the_ratios_and_the_bar() -> None:
    row = ratio_table([case()], ["compiled", "python"]).splitlines()[2]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[2:] == ["40.0", "20.0, **0.50** (0.50 to 0.50)", "", "", "15.0", "0.65 (CPU us)"]


def test_the_details_have_a_row_for_each_build_that_was_measured() -> None:
    table = detail_table([case()], ["compiled", "python"]).splitlines()[2:]
    assert [row.split(" | ")[1] for row in table] == ["Envoy", "compiled"]
