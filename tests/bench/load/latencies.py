"""A load's outcome: how much was done, and how long each piece took."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """`done` counts requests, messages or connections, `resumed` those connections among them that resumed a
    TLS session, where that is measured. The latencies are milliseconds."""

    done: int
    seconds: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    worst_ms: float
    resumed: int | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Load:
        return cls(**json.loads(text))


def load_of(latencies_s: Sequence[float], seconds: float) -> Load:
    """Raises ValueError if nothing was done."""
    if not latencies_s:
        raise ValueError(f"nothing was answered in {seconds:.1f} s")
    ordered = sorted(latencies_s)
    return Load(
        done=len(ordered),
        seconds=seconds,
        p50_ms=percentile(ordered, 50) * 1000,
        p99_ms=percentile(ordered, 99) * 1000,
        p999_ms=percentile(ordered, 99.9) * 1000,
        worst_ms=ordered[-1] * 1000,
    )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The nearest rank: the smallest value that at least `percent` of all values do not exceed."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
