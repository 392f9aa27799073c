"""What a run has measured: each figure of each round, as JSON, and what is read from it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.case import Bar, Case, Figures
from tests.bench.proxies.launch import ENVOY
from tests.bench.report.figures import FIGURES

Rounds = dict[str, list[float]]
"""The values of each figure, in the order of the rounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """The median, the lowest and the highest of the pairs of a round."""

    median: float
    lowest: float
    highest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """`contenders` are in the order of the tables: Envoy first."""

    name: str
    title: str
    unit: str
    compared: str
    bars: Sequence[Bar]
    contenders: Mapping[str, Rounds]

    @classmethod
    def of(cls, case: Case, contenders: Mapping[str, Rounds]) -> CaseResult:
        return cls(
            name=case.name,
            title=case.title,
            unit=case.unit,
            compared=case.compared,
            bars=case.bars,
            contenders=contenders,
        )

    def value(self, contender: str, figure: str) -> float | None:
        """Of all rounds: the median, or the worst, as the figure asks."""
        values = self.contenders[contender].get(figure)
        if not values:
            return None
        return max(values) if FIGURES[figure].worst else statistics.median(values)

    def ratio(self, contender: str, figure: str) -> Ratio | None:
        """To Envoy's; None where one of them has no such figure, or Envoy's is 0."""
        ours, theirs = self.contenders[contender].get(figure), self.contenders[ENVOY].get(figure)
        if not ours or not theirs or not all(theirs):
            return None
        if FIGURES[figure].worst:
            only = max(ours) / max(theirs)
            return Ratio(median=only, lowest=only, highest=only)
        return ratio_of(ours, theirs)

    def reached(self, contender: str, bar: Bar) -> float | None:
        """What the bar limits: the value, or its ratio to Envoy's."""
        if bar.absolute:
            return self.value(contender, bar.figure)
        ratio = self.ratio(contender, bar.figure)
        return None if ratio is None else ratio.median


def ratio_of(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Of rounds that took turns: the first with the first, and so on, so that slow minutes of the machine
    affect both."""
    pairs = [our / their for our, their in zip(ours, theirs, strict=True)]
    return Ratio(median=statistics.median(pairs), lowest=min(pairs), highest=max(pairs))


def add_round(contenders: dict[str, Rounds], contender: str, figures: Figures) -> None:
    rounds = contenders.setdefault(contender, {})
    for name, value in figures.items():
        rounds.setdefault(name, []).append(value)


def to_json(case: CaseResult) -> dict[str, Any]:
    bars = [
        {"figure": bar.figure, "limit": bar.limit, "aim": bar.aim, "absolute": bar.absolute}
        for bar in case.bars
    ]
    return {
        "title": case.title,
        "unit": case.unit,
        "compared": case.compared,
        "bars": bars,
        "contenders": dict(case.contenders),
    }


def from_json(name: str, document: Mapping[str, Any]) -> CaseResult:
    return CaseResult(
        name=name,
        title=document["title"],
        unit=document["unit"],
        compared=document["compared"],
        bars=[Bar(**bar) for bar in document["bars"]],
        contenders=document["contenders"],
    )
