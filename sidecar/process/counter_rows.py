"""Gives each cluster that has limits a row of `SharedCounters`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Final

from sidecar.config.cluster import CircuitBreakers, ClusterConfig
from sidecar.errors import ConfigError
from sidecar.upstream.shared_counters import MOST_ROWS

# Istio's value for no limit.
_UNLIMITED: Final = 2**32 - 1


def assign_rows(
    in_force: Mapping[str, int], clusters: Mapping[str, ClusterConfig], most: int = MOST_ROWS
) -> dict[str, int]:
    """The rows by cluster. A cluster keeps the row that it has, and a row that is `in_force` goes to no other
    cluster: workers take the new configuration one after another. Raises `ConfigError`."""
    limited = [name for name, config in clusters.items() if _has_limits(config.circuit_breakers)]
    taken = set(in_force.values())
    free = (row for row in count() if row not in taken)
    rows = {name: in_force[name] if name in in_force else next(free) for name in limited}
    if any(row >= most for row in rows.values()):
        raise ConfigError("circuit_breakers", f"more than {most} clusters have limits that workers share")
    return rows


def _has_limits(limits: CircuitBreakers) -> bool:
    lowest = min(limits.max_connections, limits.max_pending_requests, limits.max_requests, limits.max_retries)
    return lowest < _UNLIMITED or limits.retry_budget is not None
