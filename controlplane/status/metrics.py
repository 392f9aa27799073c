"""The metrics of what is written back."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge


class StatusMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.leader: Final = Gauge(
            "outrigger_status_leader", "1: this replica writes statuses.", registry=registry
        )
        self.writes: Final = Counter(
            "outrigger_status_writes", "Statuses written.", ["kind"], registry=registry
        )
        self.failures: Final = Counter(
            "outrigger_status_write_failures",
            "Statuses that could not be written, and are tried again.",
            ["kind"],
            registry=registry,
        )
