from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from random import Random
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.cluster import LbPolicy, SubsetConfig, SubsetFallback, SubsetSelector
from sidecar.config.endpoint import HealthStatus
from sidecar.upstream.host import Host
from sidecar.upstream.load_balancer.context import PickContext, subset_key
from sidecar.upstream.load_balancer.host_set import HostSet
from sidecar.upstream.load_balancer.priority_level import BalancingRules
from sidecar.upstream.load_balancer.subset import SubsetBalancer
from tests.support.upstreams import make_host

ANY = PickContext()
RULES = BalancingRules(policy=LbPolicy.ROUND_ROBIN)


def picks(hosts: list[Host], count: int = 100) -> Counter[int]:
    balancer = HostSet(hosts, RULES, Random(1))
    picked = [balancer.pick(ANY) for _ in range(count)]
    return Counter(hosts.index(host) for host in picked if host is not None)


class TestHostSet:
    def test_a_set_without_hosts_picks_none(self) -> None:
        assert HostSet([], RULES, Random(1)).pick(ANY) is None

    def test_ejected_hosts_are_passed_over(self) -> None:
        hosts = [make_host(number) for number in range(3)]
        hosts[0].monitor.ejected = True
        assert picks(hosts) == {1: 50, 2: 50}

    def test_in_panic_unhealthy_hosts_are_picked_too(self) -> None:
        hosts = [make_host(number) for number in range(3)]
        hosts[0].monitor.ejected = hosts[1].monitor.ejected = True
        assert HostSet(hosts, RULES, Random(1)).in_panic
        assert set(picks(hosts)) == {0, 1, 2}

    def test_without_a_panic_threshold_an_unhealthy_host_is_never_picked(self) -> None:
        rules = BalancingRules(policy=LbPolicy.ROUND_ROBIN, panic_threshold_percent=0)
        hosts = [make_host(1, health=HealthStatus.UNHEALTHY)]
        assert HostSet(hosts, rules, Random(1)).pick(ANY) is None

    def test_the_next_priority_takes_the_share_of_the_unhealthy_hosts(self) -> None:
        ill = [make_host(number, health=HealthStatus.UNHEALTHY) for number in range(3)]
        well = [make_host(3), make_host(4, priority=1)]
        counted = picks([*ill, *well], 2000)
        assert set(counted) == {3, 4}
        assert 0.3 < counted[3] / 2000 < 0.4  # a quarter of the hosts, overprovisioned by 140%

    def test_degraded_hosts_are_picked_only_if_healthy_ones_are_not_enough(self) -> None:
        hosts = [make_host(1), make_host(2, health=HealthStatus.DEGRADED)]
        assert set(picks(hosts)) == {0, 1}
        assert set(picks([*hosts, make_host(3), make_host(4)])) == {0, 2, 3}


class TestChangesOfHealth:
    """A host whose health changes moves from group to group; all others stay where they are."""

    @given(
        policy=st.sampled_from([LbPolicy.ROUND_ROBIN, LbPolicy.LEAST_REQUEST, LbPolicy.RANDOM]),
        hosts=st.lists(st.tuples(st.integers(0, 1), st.integers(1, 2)), min_size=1, max_size=6),
        changes=st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["ejected", *HealthStatus]))),
    )
    def test_an_updated_balancer_picks_like_a_new_one(
        self,
        policy: LbPolicy,
        hosts: list[tuple[int, int]],
        changes: list[tuple[int, HealthStatus | str]],
    ) -> None:
        rules = BalancingRules(policy=policy)
        members = [
            make_host(i, priority=priority, weight=weight) for i, (priority, weight) in enumerate(hosts)
        ]
        updated = HostSet(members, rules, Random(1))
        for index, change in changes:
            host = members[index % len(members)]
            if isinstance(change, HealthStatus):
                host.endpoint = replace(host.endpoint, health=change)
            else:
                host.monitor.ejected = not host.monitor.ejected
            updated.update(host)
        rebuilt = HostSet(members, rules, Random(1))
        assert updated.in_panic is rebuilt.in_panic
        count = 2000
        shares, expected = (Counter(each.pick(ANY) for _ in range(count)) for each in (updated, rebuilt))
        for host in (None, *members):
            assert abs(shares[host] - expected[host]) < 0.12 * count
            assert bool(shares[host]) is bool(expected[host])

    def test_the_others_go_on_in_turn(self) -> None:
        hosts = [make_host(number) for number in range(5)]
        balancer = HostSet(hosts, RULES, Random(1))
        while balancer.pick(ANY) is not hosts[1]:
            pass
        hosts[3].monitor.ejected = True
        balancer.update(hosts[3])
        assert [hosts.index(host) for _ in range(4) if (host := balancer.pick(ANY))] == [2, 4, 0, 1]

    def test_an_unknown_host_changes_nothing(self) -> None:
        hosts = [make_host(number) for number in range(2)]
        balancer = HostSet(hosts, RULES, Random(1))
        balancer.update(make_host(7))
        balancer.update(make_host(7, priority=3))
        assert {balancer.pick(ANY) for _ in range(4)} == set(hosts)

    @pytest.mark.parametrize("subsets", [False, True])
    def test_a_change_takes_as_many_steps_with_a_thousand_hosts_as_with_twenty(self, subsets: bool) -> None:
        steps = []
        for count in (20, 1000):
            hosts = [
                make_host(number, weight=1 + number % 3, labels={"version": f"v{number % 4}"})
                for number in range(count)
            ]
            balancer: HostSet | SubsetBalancer = HostSet(hosts, RULES, Random(1))
            if subsets:
                selectors = (SubsetSelector(keys=frozenset({"version"})),)
                config = SubsetConfig(selectors=selectors, fallback=SubsetFallback.ANY_ENDPOINT)
                balancer = SubsetBalancer(hosts, config, RULES, Random(1))
            balancer.update(hosts[0])  # numbers the hosts, once
            hosts[7].monitor.ejected = True
            steps.append(calls(lambda: balancer.update(hosts[7])))  # noqa: B023 - called at once
        assert steps[0] == steps[1]


def calls(action: Callable[[], None]) -> int:
    """How many functions of the proxy the action calls, if it is not compiled."""
    counted = 0

    def count(frame: FrameType, event: str, _: object) -> None:
        nonlocal counted
        counted += event == "call" and "sidecar" in frame.f_code.co_filename

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        action()
    finally:
        sys.setprofile(before)
    return counted


class TestSubsetBalancer:
    HOSTS = [  # noqa: RUF012  (read only)
        make_host(1, labels={"version": "v1", "zone": "a"}),
        make_host(2, labels={"version": "v1", "zone": "b"}),
        make_host(3, labels={"version": "v2"}),
        make_host(4),
    ]

    def picks(self, wanted: dict[str, str], fallback: SubsetFallback, **options: object) -> set[int]:
        config = SubsetConfig(
            selectors=(
                SubsetSelector(keys=frozenset({"version"})),
                SubsetSelector(keys=frozenset({"version", "zone"})),
            ),
            fallback=fallback,
            **options,  # type: ignore[arg-type]
        )
        balancer = SubsetBalancer(self.HOSTS, config, RULES, Random(1))
        picked = [balancer.pick(PickContext(subset_key(wanted))) for _ in range(20)]
        return {self.HOSTS.index(host) for host in picked if host is not None}

    def test_labels_choose_the_hosts_that_have_them_all(self) -> None:
        assert self.picks({"version": "v1"}, SubsetFallback.NO_FALLBACK) == {0, 1}
        assert self.picks({"version": "v1", "zone": "b"}, SubsetFallback.NO_FALLBACK) == {1}

    def test_labels_that_no_selector_names_choose_no_host(self) -> None:
        assert self.picks({"zone": "a"}, SubsetFallback.NO_FALLBACK) == set()

    def test_fallbacks(self) -> None:
        unknown = {"version": "v9"}
        assert self.picks(unknown, SubsetFallback.NO_FALLBACK) == set()
        assert self.picks(unknown, SubsetFallback.ANY_ENDPOINT) == {0, 1, 2, 3}
        default = {"default_subset": {"version": "v2"}}
        assert self.picks(unknown, SubsetFallback.DEFAULT_SUBSET, **default) == {2}

    def test_a_route_without_labels_uses_the_fallback(self) -> None:
        assert self.picks({}, SubsetFallback.ANY_ENDPOINT) == {0, 1, 2, 3}
        assert self.picks({}, SubsetFallback.NO_FALLBACK) == set()
