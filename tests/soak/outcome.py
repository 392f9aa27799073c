"""What became of a client's exchange, and whose fault that was."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

SPARED = "flaky"
"""Applications of names that begin so may fail after they have begun to answer: no policy saves that."""
_KEPT = 20


class ExchangeError(Exception):
    """An exchange that failed. `host` is the application that had begun to answer, empty if none had."""

    def __init__(self, reason: str, host: str = "") -> None:
        super().__init__(reason)
        self.host = host

    @property
    def beyond_policy(self) -> bool:
        return self.host.startswith(SPARED)


@dataclass(slots=True)
class Outcomes:
    """By the kind of the exchange. `violations` are failures that policy should have prevented."""

    succeeded: Counter[str] = field(default_factory=Counter)
    beyond_policy: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    reconnected: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def add_failure(self, kind: str, at_s: float, error: ExchangeError) -> None:
        if error.beyond_policy:
            self.beyond_policy[kind] += 1
            return
        self.failed[kind] += 1
        if len(self.examples) < _KEPT:
            self.examples.append(f"{at_s:.1f} s: {kind}: host {error.host or 'unknown'}: {error}")
