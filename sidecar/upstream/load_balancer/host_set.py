"""A balancer over all hosts of a cluster, or of a subset: priorities, health, panic, and then the policy."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Iterable
from itertools import accumulate
from random import Random

from sidecar.upstream.host import Host
from sidecar.upstream.load_balancer.context import PickContext
from sidecar.upstream.load_balancer.policies import Pick, Policy
from sidecar.upstream.load_balancer.priority import spread_load
from sidecar.upstream.load_balancer.priority_level import BalancingRules, PriorityLevel


class HostSet:
    """Built when hosts are added or removed, or change their weight or priority. `update` is called for a
    host whose health has changed.

    `pick` gives the next host, or None if no host may take the request. `in_panic`: some level balances over
    hosts that are not healthy.
    """

    __slots__ = ("_levels", "_rng", "_rules", "in_panic", "pick")

    def __init__(self, hosts: Iterable[Host], rules: BalancingRules, rng: Random) -> None:
        self._rules = rules
        self._rng = rng
        by_priority: dict[int, list[Host]] = {0: []}
        for host in hosts:
            by_priority.setdefault(host.endpoint.priority, []).append(host)
        self._levels = {
            priority: PriorityLevel(by_priority[priority], rules, rng) for priority in sorted(by_priority)
        }
        self._spread()

    def update(self, host: Host) -> None:
        level = self._levels.get(host.endpoint.priority)
        if level is not None:
            level.update(host)
            self._spread()

    def _spread(self) -> None:
        """Gives each group of hosts its share of the requests."""
        rules = self._rules
        self.in_panic = False
        shares: list[tuple[Policy, int]] = []
        levels = self._levels.values()
        loads = spread_load(
            [level.health for level in levels],
            overprovisioning_percent=rules.overprovisioning_percent,
            panic_threshold_percent=rules.panic_threshold_percent,
        )
        for level, load in zip(levels, loads, strict=True):
            if load.panic:
                everyone = level.everyone
                self.in_panic = self.in_panic or bool(everyone.hosts)
                shares.append((everyone, load.healthy_percent + load.degraded_percent))
            else:
                shares.append((level.healthy, load.healthy_percent))
                shares.append((level.degraded, load.degraded_percent))
        shares = [(group, percent) for group, percent in shares if percent and group.hosts]
        picks = [_pick_of(group) for group, _ in shares]
        match picks:
            case []:
                self.pick: Callable[[PickContext], Host | None] = _pick_none
            case [pick]:
                self.pick = pick
            case _:
                bounds = list(accumulate(percent for _, percent in shares))
                self.pick = _Shares(picks, bounds, self._rng).pick


class _Shares:
    """Several groups take requests. It does not refer to its `HostSet`, so that removed hosts are freed
    without the garbage collector."""

    __slots__ = ("_bounds", "_picks", "_rng")

    def __init__(self, picks: list[Pick], bounds: list[int], rng: Random) -> None:
        self._picks = picks
        self._bounds = bounds
        self._rng = rng

    def pick(self, context: PickContext) -> Host | None:
        return self._picks[bisect(self._bounds, self._rng.random() * self._bounds[-1])](context)


def _pick_none(context: PickContext) -> Host | None:
    return None


def _pick_of(group: Policy) -> Pick:
    if len(group.hosts) == 1:
        only = group.hosts[0]
        return lambda context: only
    return group.pick
