"""The hosts of one priority level, in groups by their health, each group with its own policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from sidecar.config.cluster import LbPolicy
from sidecar.upstream.host import Host
from sidecar.upstream.load_balancer.policies import Policy, build_policy
from sidecar.upstream.load_balancer.priority import LevelHealth


@dataclass(frozen=True, slots=True, kw_only=True)
class BalancingRules:
    """The part of a cluster's configuration that the balancers read."""

    policy: LbPolicy
    least_request_choices: int = 2
    overprovisioning_percent: int = 140
    panic_threshold_percent: float = 50.0


class PriorityLevel:
    """`healthy` and `degraded` take requests by health, `everyone` in panic. `update` moves a host whose
    health has changed from group to group, and does not touch other hosts."""

    __slots__ = ("_everyone", "_hosts", "_positions", "_rng", "_rules", "_weighted", "degraded", "healthy")

    def __init__(self, hosts: Sequence[Host], rules: BalancingRules, rng: Random) -> None:
        self._hosts = hosts
        self._rules = rules
        self._rng = rng
        self._weighted = len({host.weight for host in hosts}) > 1
        self._positions: dict[Host, int] = {}  # filled by the first update
        self._everyone: Policy | None = None  # built by the first panic
        members = list(enumerate(hosts))
        self.healthy = self._policy([member for member in members if member[1].healthy])
        self.degraded = self._policy([member for member in members if member[1].degraded])

    def _policy(self, members: Sequence[tuple[int, Host]]) -> Policy:
        rules = self._rules
        return build_policy(
            rules.policy, members, self._rng, weighted=self._weighted, choices=rules.least_request_choices
        )

    @property
    def everyone(self) -> Policy:
        if self._everyone is None:
            self._everyone = self._policy(list(enumerate(self._hosts)))
        return self._everyone

    @property
    def health(self) -> LevelHealth:
        return LevelHealth(
            healthy=len(self.healthy.hosts), degraded=len(self.degraded.hosts), total=len(self._hosts)
        )

    def update(self, host: Host) -> None:
        if not self._positions:
            self._positions = {host: position for position, host in enumerate(self._hosts)}
        position = self._positions.get(host)
        if position is None:
            return
        _set_member(self.healthy, position, host, belongs=host.healthy)
        _set_member(self.degraded, position, host, belongs=host.degraded)


def _set_member(group: Policy, position: int, host: Host, *, belongs: bool) -> None:
    if belongs and not group.has(position):
        group.add(position, host)
    elif not belongs and group.has(position):
        group.remove(position)
