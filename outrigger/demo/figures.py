"""The results of the demo's steps and their checks."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from outrigger.demo.load import Results

SIGMAS = 3.0


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check. `detail` contains the figures."""

    what: str
    ok: bool
    detail: str = ""


@dataclass(slots=True, kw_only=True)
class StepFigures:
    """The results of one step: a row of the final table and an entry of the JSON file. Only requests that
    were sent after the sidecar had the step's configuration are counted. `note` is a text for the user."""

    number: int
    title: str
    requests: int = 0
    failed: int = 0
    requests_per_s: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    shares: dict[str, float] = field(default_factory=dict)
    ejected: list[str] = field(default_factory=list)
    converged_in_s: float = 0.0
    note: str = ""
    checks: list[Check] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)

    def measure(self, results: Results) -> None:
        """Fills in the figures of the load's requests."""
        self.requests = len(results)
        self.failed = len(results.failed())
        self.requests_per_s = results.rate_per_s()
        self.p50_ms = results.latency_ms(0.5)
        self.p99_ms = results.latency_ms(0.99)
        self.shares = shares(results.versions())

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "ok": self.ok}


def shares(counts: Counter[str]) -> dict[str, float]:
    total = counts.total()
    return {name: count / total for name, count in sorted(counts.items())} if total else {}


def check_shares(counts: Counter[str], weights: dict[str, int], *, who: str = "all") -> Check:
    """Checks that each version's count is within 3 standard deviations of its binomial expectation."""
    total, weight_sum = counts.total(), sum(weights.values())
    what = f"{who}: " + ", ".join(f"{name} {100 * w / weight_sum:g}%" for name, w in weights.items())
    if not total:
        return Check(what, ok=False, detail="no responses")
    ok = set(counts) <= set(weights)
    parts = []
    for name, weight in weights.items():
        share = weight / weight_sum
        sigma = math.sqrt(total * share * (1 - share))
        ok = ok and abs(counts[name] - total * share) <= SIGMAS * sigma
        parts.append(f"{name} {100 * counts[name] / total:.1f}% ± {100 * SIGMAS * sigma / total:.1f}")
    parts += [f"{name} {count}, unexpected" for name, count in counts.items() if name not in weights]
    return Check(what, ok, f"{', '.join(parts)} of {total}")


def check_no_failures(results: Results) -> Check:
    failed = results.failed()
    detail = f"{len(failed)} of {len(results)}"
    if failed:
        detail += f"; the first: status {failed[0].status} {failed[0].error}"
    return Check("no failed request", not failed, detail)
