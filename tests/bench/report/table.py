"""The tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tests.bench.proxies.launch import ENVOY
from tests.bench.report.figures import FIGURES
from tests.bench.report.results import CaseResult, Ratio


def print_case(console: Console, case: CaseResult) -> None:
    """A row for each contender: the medians, and the ratio of the first bar's figure to Envoy's."""
    present = [name for name in FIGURES if any(name in rounds for rounds in case.contenders.values())]
    table = _table(f"{case.name}: {case.title}, a {case.unit}")
    table.add_column("")
    for name in present:
        table.add_column(FIGURES[name].label, justify="right", no_wrap=True)
    table.add_column(f"{FIGURES[case.compared].label}: ratio", justify="right", no_wrap=True)
    for contender in case.contenders:
        ratio = None if contender == ENVOY else case.ratio(contender, case.compared)
        table.add_row(contender, *_values(case, contender, present), ratio_text(ratio))
    console.print(table)


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))


def _values(case: CaseResult, contender: str, names: Iterable[str]) -> Iterable[str]:
    for name in names:
        value = case.value(contender, name)
        yield "" if value is None else FIGURES[name].text(value)


def ratio_text(ratio: Ratio | None) -> str:
    """With the lowest and the highest of the rounds."""
    return "" if ratio is None else f"{ratio.median:.2f} ({ratio.lowest:.2f}-{ratio.highest:.2f})"


def print_bars(console: Console, cases: Iterable[CaseResult], builds: Iterable[str]) -> None:
    table = _table("The bars")
    table.add_column("case")
    table.add_column("figure")
    table.add_column("at most", justify="right")
    for build in builds:
        table.add_column(build, justify="right")
    for case in cases:
        for bar in case.bars:
            reached = [case.reached(build, bar) if build in case.contenders else None for build in builds]
            label = FIGURES[bar.figure].label
            table.add_row(
                case.name,
                label if bar.absolute else f"{label}, ratio",
                f"{bar.limit:g}",
                *(_judged(value, bar.limit) for value in reached),
            )
    console.print(table)


def _judged(value: float | None, limit: float) -> str:
    if value is None:
        return ""
    return f"[{'green' if value <= limit else 'red'}]{value:.2f}[/]"
