"""The metrics of status writes."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge


class StatusMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.leader: Final = Gauge(
            "outrigger_status_leader", "Whether this replica writes statuses: 1 or 0.", registry=registry
        )
        self.writes: Final = Counter(
            "outrigger_status_writes", "Statuses written.", ["kind"], registry=registry
        )
        self.failures: Final = Counter(
            "outrigger_status_write_failures",
            "Failed status writes; they are retried.",
            ["kind"],
            registry=registry,
        )
