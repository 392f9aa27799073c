"""How load spreads over priority levels as their hosts fail, and when their health is ignored. Pure.

Source: Envoy's "Priority levels", "Degraded endpoints" and "Panic threshold" architecture pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelHealth:
    """Counts of the hosts of a priority level."""

    healthy: int
    degraded: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelLoad:
    """Shares, in percent, of all requests: to the healthy hosts of a level, and to its degraded ones.
    In `panic` all hosts of the level take its load, healthy or not."""

    healthy_percent: int = 0
    degraded_percent: int = 0
    panic: bool = False


def spread_load(
    levels: Sequence[LevelHealth], *, overprovisioning_percent: int, panic_threshold_percent: float
) -> tuple[LevelLoad, ...]:
    """Returns a load for each level; the shares sum to 100. A level takes as much as its healthy hosts,
    overprovisioned, can carry, and leaves the rest to the next level. Degraded hosts take the load that
    the healthy hosts of all levels leave."""
    healthy = [_availability(level.healthy, level.total, overprovisioning_percent) for level in levels]
    degraded = [_availability(level.degraded, level.total, overprovisioning_percent) for level in levels]
    available = min(100, sum(healthy) + sum(degraded))
    panics = [available < 100 and _in_panic(level, panic_threshold_percent) for level in levels]
    if all(panics):
        return _spread_by_size(levels)
    shares = _take_in_turn([*healthy, *degraded], available)
    return tuple(
        LevelLoad(healthy_percent=shares[i], degraded_percent=shares[len(levels) + i], panic=panics[i])
        for i in range(len(levels))
    )


def _availability(hosts: int, total: int, overprovisioning_percent: int) -> int:
    return min(100, hosts * overprovisioning_percent // total) if total else 0


def _in_panic(level: LevelHealth, threshold_percent: float) -> bool:
    if not level.total:
        return threshold_percent > 0
    return (level.healthy + level.degraded) * 100 < threshold_percent * level.total


def _take_in_turn(availabilities: Sequence[int], available: int) -> list[int]:
    """Shares of 100, each in proportion to its availability; the first ones take theirs first."""
    remaining, shares = 100, []
    for availability in availabilities:
        share = min(remaining, availability * 100 // available) if available else 0
        shares.append(share)
        remaining -= share
    _give_rest(shares, availabilities, remaining)
    return shares


def _spread_by_size(levels: Sequence[LevelHealth]) -> tuple[LevelLoad, ...]:
    """Every level is in panic: load follows the number of hosts."""
    sizes = [level.total for level in levels]
    total = sum(sizes)
    shares = [size * 100 // total if total else 0 for size in sizes]
    _give_rest(shares, sizes, 100 - sum(shares))
    return tuple(LevelLoad(healthy_percent=share, panic=True) for share in shares)


def _give_rest(shares: list[int], capacities: Sequence[int], rest: int) -> None:
    """Adds the remainder of an integer division to the first share that has capacity, else to the first."""
    first = next((index for index, capacity in enumerate(capacities) if capacity), 0)
    shares[first] += rest
