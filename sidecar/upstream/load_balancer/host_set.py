"""A balancer over all hosts of a cluster (or of a subset): priorities, health, panic, and then the policy."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Generic, Protocol, TypeVar

from sidecar.config.cluster import LbPolicy
from sidecar.config.endpoint import Endpoint
from sidecar.upstream.load_balancer.policies import Balanced, Pick, build_policy
from sidecar.upstream.load_balancer.priority import LevelHealth, spread_load


class Candidate(Balanced, Protocol):
    """A host as the balancers see it."""

    endpoint: Endpoint

    @property
    def healthy(self) -> bool: ...

    @property
    def degraded(self) -> bool: ...


HostT = TypeVar("HostT", bound=Candidate)


@dataclass(frozen=True, slots=True, kw_only=True)
class BalancingRules:
    """What of a cluster's configuration the balancers read."""

    policy: LbPolicy
    least_request_choices: int = 2
    overprovisioning_percent: int = 140
    panic_threshold_percent: float = 50.0


class HostSet(Generic[HostT]):
    """Built when a host comes, goes, or changes its health; then asked for every request.

    `pick` gives the next host, or None where no host may take the request. `in_panic`: some level balances
    over hosts that are not healthy.
    """

    __slots__ = ("_bounds", "_picks", "_rng", "in_panic", "pick")

    def __init__(self, hosts: Iterable[HostT], rules: BalancingRules, rng: Random) -> None:
        self._rng = rng
        self.in_panic = False
        self._picks: list[Pick[HostT]] = []
        shares = [share for share in self._shares(_by_priority(hosts), rules) if share[1] and share[0]]
        for members, _ in shares:
            self._picks.append(build_policy(rules.policy, members, rng, choices=rules.least_request_choices))
        self._bounds = tuple(accumulate(percent for _, percent in shares))
        self.pick: Callable[[], HostT | None] = (
            self._picks[0] if len(self._picks) == 1 else self._pick_by_share
        )

    def _shares(
        self, levels: Sequence[Sequence[HostT]], rules: BalancingRules
    ) -> Iterable[tuple[Sequence[HostT], int]]:
        """Each group of hosts that may take load, with its share in percent."""
        loads = spread_load(
            [_health(level) for level in levels],
            overprovisioning_percent=rules.overprovisioning_percent,
            panic_threshold_percent=rules.panic_threshold_percent,
        )
        for level, load in zip(levels, loads, strict=True):
            if load.panic:
                self.in_panic = self.in_panic or bool(level)
                yield level, load.healthy_percent + load.degraded_percent
            else:
                yield [host for host in level if host.healthy], load.healthy_percent
                yield [host for host in level if host.degraded], load.degraded_percent

    def _pick_by_share(self) -> HostT | None:
        if not self._picks:
            return None
        return self._picks[bisect(self._bounds, self._rng.random() * self._bounds[-1])]()


def _by_priority(hosts: Iterable[HostT]) -> list[list[HostT]]:
    levels: dict[int, list[HostT]] = {0: []}
    for host in hosts:
        levels.setdefault(host.endpoint.priority, []).append(host)
    return [levels[priority] for priority in sorted(levels)]


def _health(level: Sequence[Candidate]) -> LevelHealth:
    return LevelHealth(
        healthy=sum(host.healthy for host in level),
        degraded=sum(host.degraded for host in level),
        total=len(level),
    )
