"""The tables of `docs/benchmarks.md`."""

from __future__ import annotations

from collections.abc import Sequence

from tests.bench.case import Bar
from tests.bench.proxies.launch import ENVOY
from tests.bench.report.figures import FIGURES
from tests.bench.report.results import CaseResult, Ratio

_OTHERS = ("HAProxy", "nginx")


def ratio_table(cases: Sequence[CaseResult], builds: Sequence[str]) -> str:
    """A row for each case: the compared figure of Envoy and of the builds, the ratios, and the bar."""
    head = ["case", "figure", ENVOY, *(f"{build}, ratio" for build in builds), *_OTHERS, "bar"]
    lines = [_line(head), _line(["---"] * len(head))]
    for case in cases:
        figure = FIGURES[case.compared]
        cells = [f"`{case.name}`: {case.title}", f"{figure.label}, a {case.unit}", _value(case, ENVOY)]
        cells += [_compared(case, build) for build in builds]
        cells += [_value(case, other) for other in _OTHERS]
        lines.append(_line([*cells, ", ".join(map(_bar, case.bars))]))
    return "\n".join(lines)


def detail_table(cases: Sequence[CaseResult], builds: Sequence[str]) -> str:
    """All other figures of Envoy and of the builds."""
    labels = [FIGURES[name].label for name in FIGURES if name in _shown(cases)]
    lines = [_line(["case", "", *labels]), _line(["---"] * (len(labels) + 2))]
    for case in cases:
        for contender in (ENVOY, *builds):
            if contender in case.contenders:
                values = [_text(case, contender, name) for name in FIGURES if name in _shown(cases)]
                lines.append(_line([f"`{case.name}`", contender, *values]))
    return "\n".join(lines)


def _shown(cases: Sequence[CaseResult]) -> set[str]:
    return {name for case in cases for rounds in case.contenders.values() for name in rounds}


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _value(case: CaseResult, contender: str) -> str:
    return _text(case, contender, case.compared) if contender in case.contenders else ""


def _text(case: CaseResult, contender: str, figure: str) -> str:
    value = case.value(contender, figure)
    return "" if value is None else FIGURES[figure].text(value)


def _compared(case: CaseResult, build: str) -> str:
    if build not in case.contenders:
        return ""
    ratio = case.ratio(build, case.compared)
    return _value(case, build) if ratio is None else f"{_value(case, build)}, {_ratio(ratio)}"


def _ratio(ratio: Ratio) -> str:
    return f"**{ratio.median:.2f}** ({ratio.lowest:.2f} to {ratio.highest:.2f})"


def _bar(bar: Bar) -> str:
    label = FIGURES[bar.figure].label
    return f"{label} {bar.limit:g}" if bar.absolute else f"{bar.limit:g} ({label})"
