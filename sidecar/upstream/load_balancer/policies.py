"""The policies: each picks one of a fixed, non-empty list of hosts, and is built anew when the list changes.

Source: Envoy's "Supported load balancers" architecture page.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Sequence
from heapq import heapify, heapreplace
from itertools import accumulate
from random import Random
from typing import Generic, Protocol, TypeVar

from sidecar.config.cluster import LbPolicy
from sidecar.observability.stats import HostStats


class Balanced(Protocol):
    """What the policies look at in a host."""

    @property
    def stats(self) -> HostStats: ...

    @property
    def weight(self) -> int: ...


HostT = TypeVar("HostT", bound=Balanced)
Pick = Callable[[], HostT]


def build_policy(policy: LbPolicy, hosts: Sequence[HostT], rng: Random, *, choices: int = 2) -> Pick[HostT]:
    """`choices`: how many hosts least-request compares."""
    if len(hosts) == 1:
        only = hosts[0]
        return lambda: only
    weighted = len({host.weight for host in hosts}) > 1
    if policy is LbPolicy.LEAST_REQUEST:
        if weighted:
            return EarliestDeadlineFirst(
                hosts, rng, lambda host: host.weight / (host.stats.rq_active + 1)
            ).pick
        return LeastRequest(hosts, rng, choices).pick
    if policy is LbPolicy.RANDOM:
        return WeightedRandom(hosts, rng).pick if weighted else UniformRandom(hosts, rng).pick
    if weighted:
        return EarliestDeadlineFirst(hosts, rng, lambda host: host.weight).pick
    return RoundRobin(hosts, rng).pick


class RoundRobin(Generic[HostT]):
    """Each in turn, from a random start: sidecars that got the same update do not march in step."""

    __slots__ = ("_hosts", "_next")

    def __init__(self, hosts: Sequence[HostT], rng: Random) -> None:
        self._hosts = tuple(hosts)
        self._next = rng.randrange(len(hosts))

    def pick(self) -> HostT:
        host = self._hosts[self._next]
        self._next += 1
        if self._next == len(self._hosts):
            self._next = 0
        return host


class EarliestDeadlineFirst(Generic[HostT]):
    """Weighted round robin: a host comes due again after the inverse of its weight, so that heavy hosts come
    often and never in bursts. With weights that shrink under load it is weighted least request too."""

    __slots__ = ("_heap", "_weight_of")

    def __init__(self, hosts: Sequence[HostT], rng: Random, weight_of: Callable[[HostT], float]) -> None:
        self._weight_of = weight_of
        # The index decides between equal deadlines: hosts have no order.
        self._heap = [(rng.random() / host.weight, index, host) for index, host in enumerate(hosts)]
        heapify(self._heap)

    def pick(self) -> HostT:
        deadline, index, host = self._heap[0]
        heapreplace(self._heap, (deadline + 1 / self._weight_of(host), index, host))
        return host


class LeastRequest(Generic[HostT]):
    """The least loaded of a few hosts chosen at random (of two: "power of two choices")."""

    __slots__ = ("_choices", "_count", "_hosts", "_random")

    def __init__(self, hosts: Sequence[HostT], rng: Random, choices: int) -> None:
        self._hosts = tuple(hosts)
        self._count = len(hosts)
        self._random = rng.random
        self._choices = choices

    def pick(self) -> HostT:
        hosts, count, random = self._hosts, self._count, self._random
        best = hosts[int(random() * count)]
        for _ in range(self._choices - 1):
            other = hosts[int(random() * count)]
            if other.stats.rq_active < best.stats.rq_active:
                best = other
        return best


class UniformRandom(Generic[HostT]):
    __slots__ = ("_hosts", "_random")

    def __init__(self, hosts: Sequence[HostT], rng: Random) -> None:
        self._hosts = tuple(hosts)
        self._random = rng.random

    def pick(self) -> HostT:
        return self._hosts[int(self._random() * len(self._hosts))]


class WeightedRandom(Generic[HostT]):
    """Envoy's random policy ignores weights; one that was given weights is better heeded."""

    __slots__ = ("_bounds", "_hosts", "_random", "_total")

    def __init__(self, hosts: Sequence[HostT], rng: Random) -> None:
        self._hosts = tuple(hosts)
        self._bounds = tuple(accumulate(host.weight for host in hosts))
        self._total = self._bounds[-1]
        self._random = rng.random

    def pick(self) -> HostT:
        return self._hosts[bisect(self._bounds, self._random() * self._total)]
