"""Runs cases: contenders take turns within each round, in the opposite order in every second round."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from tests.bench.case import Case
from tests.bench.report.results import CaseResult, Rounds, add_round
from tests.bench.site import Site


def run_case(
    case: Case, site: Site, *, rounds: int, seconds: float, advance: Callable[[str], None]
) -> CaseResult:
    """`advance` is called before each measurement with its description."""
    measured: dict[str, Rounds] = {}
    with ExitStack() as stack:
        advance(f"{case.name}: starting")
        contenders = case.start(site, stack)
        for contender in contenders:
            measured[contender.name] = {}
        for number in range(1, rounds + 1):
            for contender in contenders if number % 2 else reversed(contenders):
                advance(f"{case.name}: round {number}, {contender.name}")
                add_round(measured, contender.name, contender.measure(seconds * case.longer))
        for contender in contenders:
            add_round(measured, contender.name, contender.finish())
    return CaseResult.of(case, measured)
