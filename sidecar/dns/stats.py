"""The counters of the DNS resolver, by Istio's names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Final

from sidecar.observability.stats import Histogram

# Istio's agent has these and 0.005, in this unit.
_SECONDS: Final = (0.001, 0.005, 0.01, 0.1, 1, 5)
_PREFIX: Final = "istio_agent_dns_"


@dataclass(slots=True, eq=False)
class DnsStats:
    """``requests_total`` counts all messages, ``upstream_requests_total`` those that were passed on, and
    ``upstream_failures_total`` those that no resolver answered."""

    requests_total: int = 0
    upstream_requests_total: int = 0
    upstream_failures_total: int = 0
    upstream_request_duration_seconds: Histogram = field(default_factory=lambda: Histogram(_SECONDS))

    def items(self) -> Iterator[tuple[str, int | Histogram]]:
        for stat in fields(self):
            yield f"{_PREFIX}{stat.name}", getattr(self, stat.name)
