from __future__ import annotations

from xml.etree import ElementTree

from tests.bench.case import Bar
from tests.bench.report.plot import MOST, Row, rows, svg, x_of
from tests.bench.report.results import CaseResult, Ratio

SVG = "{http://www.w3.org/2000/svg}"
HALF = Ratio(median=0.5, lowest=0.4, highest=0.6)


def drawn(*rows: Row, builds: tuple[str, ...] = ("compiled", "python")) -> ElementTree.Element:
    return ElementTree.fromstring(svg(rows, builds))


def test_a_case_has_its_name_a_dot_for_each_build_and_the_bar() -> None:
    with_none = drawn()
    root = drawn(Row(name="http1", ratios={"compiled": HALF, "python": HALF}, bar=0.65))
    assert "http1" in [text.text for text in root.iter(f"{SVG}text")]
    assert len(root.findall(f"{SVG}circle")) == len(with_none.findall(f"{SVG}circle")) + 2
    assert len(root.findall(f"{SVG}rect")) == len(with_none.findall(f"{SVG}rect")) + 1


def test_a_dot_is_at_its_ratio() -> None:
    root = drawn(Row(name="http1", ratios={"compiled": HALF}, bar=None), builds=("compiled",))
    assert f"{x_of(0.5):.1f}" in [dot.get("cx") for dot in root.iter(f"{SVG}circle")]


def test_names_with_special_characters_are_escaped() -> None:
    drawn(Row(name="<&>", ratios={}, bar=None), builds=("/a&b",))


def test_a_large_ratio_is_drawn_at_the_edge() -> None:
    assert x_of(40.0) == x_of(MOST)


def test_rows_have_the_ratio_and_the_bar_of_the_compared_figure() -> None:
    bars = [Bar(figure="worker_mib", limit=10, absolute=True), Bar(figure="cpu_us", limit=0.65)]
    case = CaseResult(
        name="http1",
        title="",
        unit="request",
        compared="cpu_us",
        bars=bars,
        contenders={"Envoy": {"cpu_us": [40.0]}, "python": {"cpu_us": [20.0]}},
    )
    half = Ratio(median=0.5, lowest=0.5, highest=0.5)
    assert rows([case], ["compiled", "python"]) == [Row(name="http1", ratios={"python": half}, bar=0.65)]
