"""Hosts divided by their labels, so that a route can ask for some of them.

Source: ``envoy.config.cluster.v3.Cluster.LbSubsetConfig``; the labels are the endpoint metadata ``envoy.lb``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random
from typing import Generic

from sidecar.config.cluster import SubsetConfig, SubsetFallback
from sidecar.upstream.load_balancer.host_set import BalancingRules, HostSet, HostT

SubsetKey = frozenset[tuple[str, str]]
"""The labels that a route asks for, as a key of the subsets."""

NO_SUBSET: SubsetKey = frozenset()
"""The route asks for no labels."""


def subset_key(labels: Mapping[str, str]) -> SubsetKey:
    return frozenset(labels.items())


class SubsetBalancer(Generic[HostT]):
    """One `HostSet` for every combination of values that a selector's keys have among the hosts."""

    __slots__ = ("_fallback", "_subsets")

    def __init__(
        self, hosts: Iterable[HostT], config: SubsetConfig, rules: BalancingRules, rng: Random
    ) -> None:
        everyone = list(hosts)
        members: dict[SubsetKey, list[HostT]] = {}
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
        self._fallback = _fallback(everyone, config, rules, rng)

    def pick(self, wanted: SubsetKey) -> HostT | None:
        subset = self._subsets.get(wanted, self._fallback)
        return subset.pick() if subset is not None else None


def _fallback(
    hosts: list[HostT], config: SubsetConfig, rules: BalancingRules, rng: Random
) -> HostSet[HostT] | None:
    """Where a request goes that no subset suits."""
    if config.fallback is SubsetFallback.NO_FALLBACK:
        return None
    if config.fallback is SubsetFallback.DEFAULT_SUBSET:
        default = config.default_subset.items()
        hosts = [host for host in hosts if default <= host.endpoint.subset_labels.items()]
    return HostSet(hosts, rules, rng)
