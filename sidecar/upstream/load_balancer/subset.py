"""Hosts divided by their labels, so that a route can select some of them.

Source: ``envoy.config.cluster.v3.Cluster.LbSubsetConfig``; the labels are the endpoint metadata ``envoy.lb``.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from sidecar.config.cluster import SubsetConfig, SubsetFallback
from sidecar.upstream.host import Host
from sidecar.upstream.load_balancer.context import PickContext, SubsetKey
from sidecar.upstream.load_balancer.host_set import HostSet
from sidecar.upstream.load_balancer.priority_level import BalancingRules


class SubsetBalancer:
    """One `HostSet` for each combination of values that the keys of a selector have among the hosts."""

    __slots__ = ("_fallback", "_sets_of", "_subsets", "in_panic")

    def __init__(
        self, hosts: Iterable[Host], config: SubsetConfig, rules: BalancingRules, rng: Random
    ) -> None:
        everyone = list(hosts)
        members: dict[SubsetKey, list[Host]] = {}
        for host in everyone:
            labels = host.endpoint.subset_labels
            keys = {
                frozenset((key, labels[key]) for key in selector.keys)
                for selector in config.selectors
                if selector.keys <= labels.keys()
            }
            for key in keys:
                members.setdefault(key, []).append(host)
        self._subsets = {key: HostSet(subset, rules, rng) for key, subset in members.items()}
        self._sets_of: dict[Host, list[HostSet]] = {}
        for key, subset in members.items():
            for host in subset:
                self._sets_of.setdefault(host, []).append(self._subsets[key])
        self._fallback = _fallback(everyone, config, rules, rng)
        self.in_panic = False  # not counted for subsets

    def pick(self, context: PickContext) -> Host | None:
        subset = self._subsets.get(context.subset, self._fallback)
        return subset.pick(context) if subset is not None else None

    def update(self, host: Host) -> None:
        """The host's health has changed."""
        for subset in self._sets_of.get(host, ()):
            subset.update(host)
        if self._fallback is not None:
            self._fallback.update(host)


def _fallback(hosts: list[Host], config: SubsetConfig, rules: BalancingRules, rng: Random) -> HostSet | None:
    """The balancer for requests whose labels no subset has."""
    if config.fallback is SubsetFallback.NO_FALLBACK:
        return None
    if config.fallback is SubsetFallback.DEFAULT_SUBSET:
        default = config.default_subset.items()
        hosts = [host for host in hosts if default <= host.endpoint.subset_labels.items()]
    return HostSet(hosts, rules, rng)
