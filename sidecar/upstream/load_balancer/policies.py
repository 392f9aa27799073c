"""The policies: each picks one of the hosts of a group, which hosts join and leave as their health changes.

Source: Envoy's "Supported load balancers" architecture page.
"""

from __future__ import annotations

from bisect import bisect, bisect_left
from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush, heapreplace
from itertools import accumulate
from random import Random

from sidecar.config.cluster import LbPolicy
from sidecar.upstream.host import Host
from sidecar.upstream.load_balancer.context import PickContext

Pick = Callable[[PickContext], Host]


class Policy:
    """The hosts of a group, ordered by their positions in the load assignment. `pick` needs at least one."""

    __slots__ = ("_positions", "hosts")

    def __init__(self, members: Sequence[tuple[int, Host]]) -> None:
        """`members`: positions, which increase, and hosts."""
        self._positions = [position for position, _ in members]
        self.hosts = [host for _, host in members]

    def pick(self, context: PickContext) -> Host:
        raise NotImplementedError

    def has(self, position: int) -> bool:
        index = bisect_left(self._positions, position)
        return index < len(self._positions) and self._positions[index] == position

    def add(self, position: int, host: Host) -> None:
        index = bisect_left(self._positions, position)
        self._positions.insert(index, position)
        self.hosts.insert(index, host)
        self._added(index)

    def remove(self, position: int) -> None:
        index = bisect_left(self._positions, position)
        del self._positions[index], self.hosts[index]
        self._removed(index, position)

    def _added(self, index: int) -> None:
        """A host was added at `index`."""

    def _removed(self, index: int, position: int) -> None:
        """The host that was at `index` was removed."""


def build_policy(
    policy: LbPolicy,
    members: Sequence[tuple[int, Host]],
    rng: Random,
    *,
    weighted: bool = False,
    choices: int = 2,
) -> Policy:
    """`weighted`: not all hosts that may enter the group have the same weight. `choices`: how many hosts
    least-request compares."""
    if policy is LbPolicy.LEAST_REQUEST:
        if weighted:
            return EarliestDeadlineFirst(members, rng, lambda host: host.weight / (host.stats.rq_active + 1))
        return LeastRequest(members, rng, choices)
    if policy is LbPolicy.RANDOM:
        return WeightedRandom(members, rng) if weighted else UniformRandom(members, rng)
    if weighted:
        return EarliestDeadlineFirst(members, rng, lambda host: host.weight)
    return RoundRobin(members, rng)


class RoundRobin(Policy):
    """Each in turn, from a random start: sidecars that got the same update do not pick in step."""

    __slots__ = ("_next",)

    def __init__(self, members: Sequence[tuple[int, Host]], rng: Random) -> None:
        super().__init__(members)
        self._next = rng.randrange(len(members)) if members else 0

    def pick(self, context: PickContext) -> Host:
        host = self.hosts[self._next]
        self._next += 1
        if self._next == len(self.hosts):
            self._next = 0
        return host

    def _added(self, index: int) -> None:
        if index < self._next:
            self._next += 1

    def _removed(self, index: int, position: int) -> None:
        if index < self._next:
            self._next -= 1
        if self._next >= len(self.hosts):
            self._next = 0


class EarliestDeadlineFirst(Policy):
    """Weighted round robin: a host is due again after the inverse of its weight, so that heavy hosts come
    often and never in bursts. With weights that shrink under load it is weighted least request too."""

    __slots__ = ("_absent", "_heap", "_rng", "_weight_of")

    def __init__(
        self, members: Sequence[tuple[int, Host]], rng: Random, weight_of: Callable[[Host], float]
    ) -> None:
        super().__init__(members)
        self._weight_of = weight_of
        self._rng = rng
        # The position decides between equal deadlines: hosts have no order.
        self._heap = [(rng.random() / host.weight, position, host) for position, host in members]
        heapify(self._heap)
        self._absent: set[int] = set()  # positions of hosts that have left, and are still in the heap

    def pick(self, context: PickContext) -> Host:
        heap = self._heap
        deadline, position, host = heap[0]
        while position in self._absent:
            heappop(heap)
            self._absent.discard(position)
            deadline, position, host = heap[0]
        heapreplace(heap, (deadline + 1 / self._weight_of(host), position, host))
        return host

    def _added(self, index: int) -> None:
        position, host = self._positions[index], self.hosts[index]
        if position in self._absent:
            self._absent.discard(position)  # it keeps its deadline
            return
        now = self._heap[0][0] if self._heap else 0.0
        heappush(self._heap, (now + self._rng.random() / host.weight, position, host))

    def _removed(self, index: int, position: int) -> None:
        self._absent.add(position)


class LeastRequest(Policy):
    """The host with the fewest requests of a few hosts chosen at random (of two: "power of two choices")."""

    __slots__ = ("_choices", "_random")

    def __init__(self, members: Sequence[tuple[int, Host]], rng: Random, choices: int) -> None:
        super().__init__(members)
        self._random = rng.random
        self._choices = choices

    def pick(self, context: PickContext) -> Host:
        hosts, random = self.hosts, self._random
        count = len(hosts)
        best = hosts[int(random() * count)]
        for _ in range(self._choices - 1):
            other = hosts[int(random() * count)]
            if other.stats.rq_active < best.stats.rq_active:
                best = other
        return best


class UniformRandom(Policy):
    __slots__ = ("_random",)

    def __init__(self, members: Sequence[tuple[int, Host]], rng: Random) -> None:
        super().__init__(members)
        self._random = rng.random

    def pick(self, context: PickContext) -> Host:
        return self.hosts[int(self._random() * len(self.hosts))]


class WeightedRandom(Policy):
    """Picks by weight. (Envoy's random policy ignores weights.)"""

    __slots__ = ("_bounds", "_random", "_weights")

    def __init__(self, members: Sequence[tuple[int, Host]], rng: Random) -> None:
        super().__init__(members)
        self._weights = [host.weight for host in self.hosts]
        self._bounds = list(accumulate(self._weights))
        self._random = rng.random

    def pick(self, context: PickContext) -> Host:
        return self.hosts[bisect(self._bounds, self._random() * self._bounds[-1])]

    def _added(self, index: int) -> None:
        self._weights.insert(index, self.hosts[index].weight)
        self._bounds = list(accumulate(self._weights))

    def _removed(self, index: int, position: int) -> None:
        del self._weights[index]
        self._bounds = list(accumulate(self._weights))
