"""The figures by their names: how they are called, and how they are written."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """`worst`: the highest of all rounds counts instead of the median."""

    label: str
    decimals: int = 1
    worst: bool = False

    def text(self, value: float) -> str:
        return f"{value:,.{self.decimals}f}"


# In the order of the tables' columns.
FIGURES = {
    "cpu_us": Figure("CPU us"),
    "cpu_percent": Figure("CPU %"),
    "per_s": Figure("per s", 0),
    "p50_ms": Figure("p50 ms", 2),
    "p99_ms": Figure("p99", 2),
    "p999_ms": Figure("p99.9", 2),
    "worst_ms": Figure("worst", 2, worst=True),
    "switches": Figure("switches", 2),
    "system_calls": Figure("system calls", 2),
    "ready_s": Figure("ready s", 2),
    "ready_cpu_s": Figure("CPU s until then", 2),
    "apply_s": Figure("apply s", 2),
    "change_ms": Figure("change ms"),
    "change_cpu_ms": Figure("change CPU ms"),
    "resident_mib": Figure("RSS MiB"),
    "private_mib": Figure("private"),
    "proportional_mib": Figure("PSS"),
    "private_2_mib": Figure("private MiB, 2 workers"),
    "worker_mib": Figure("further worker MiB"),
    "connection_kib": Figure("KiB a connection"),
    "stream_kib": Figure("KiB a stream"),
    "resumed_percent": Figure("resumed %", 0),
}
