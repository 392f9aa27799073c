from __future__ import annotations

from collections import Counter
from random import Random

from sidecar.config.cluster import LbPolicy, SubsetConfig, SubsetFallback, SubsetSelector
from sidecar.config.endpoint import HealthStatus
from sidecar.upstream.load_balancer.host_set import BalancingRules, HostSet
from sidecar.upstream.load_balancer.subset import SubsetBalancer, subset_key
from tests.support.upstreams import FakeHost, endpoint

RULES = BalancingRules(policy=LbPolicy.ROUND_ROBIN)


def picks(hosts: list[FakeHost], count: int = 100) -> Counter[int]:
    balancer = HostSet(hosts, RULES, Random(1))
    picked = [balancer.pick() for _ in range(count)]
    return Counter(hosts.index(host) for host in picked if host is not None)


class TestHostSet:
    def test_nobody_is_picked_of_no_hosts(self) -> None:
        assert HostSet[FakeHost]([], RULES, Random(1)).pick() is None

    def test_ejected_hosts_are_passed_over(self) -> None:
        hosts = [FakeHost(endpoint(number)) for number in range(3)]
        hosts[0].monitor.ejected = True
        assert picks(hosts) == {1: 50, 2: 50}

    def test_in_panic_health_is_not_believed(self) -> None:
        hosts = [FakeHost(endpoint(number)) for number in range(3)]
        hosts[0].monitor.ejected = hosts[1].monitor.ejected = True
        assert HostSet(hosts, RULES, Random(1)).in_panic
        assert set(picks(hosts)) == {0, 1, 2}

    def test_without_a_panic_threshold_nobody_is_better_than_somebody_ill(self) -> None:
        rules = BalancingRules(policy=LbPolicy.ROUND_ROBIN, panic_threshold_percent=0)
        hosts = [FakeHost(endpoint(1, health=HealthStatus.UNHEALTHY))]
        assert HostSet(hosts, rules, Random(1)).pick() is None

    def test_the_next_priority_helps_out_in_proportion(self) -> None:
        ill = [FakeHost(endpoint(number, health=HealthStatus.UNHEALTHY)) for number in range(3)]
        well = [FakeHost(endpoint(3)), FakeHost(endpoint(4, priority=1))]
        counted = picks([*ill, *well], 2000)
        assert set(counted) == {3, 4}
        assert 0.3 < counted[3] / 2000 < 0.4  # a quarter of the hosts, overprovisioned by 140%

    def test_degraded_hosts_wait_until_they_are_needed(self) -> None:
        hosts = [FakeHost(endpoint(1)), FakeHost(endpoint(2, health=HealthStatus.DEGRADED))]
        assert set(picks(hosts)) == {0, 1}
        assert set(picks([*hosts, FakeHost(endpoint(3)), FakeHost(endpoint(4))])) == {0, 2, 3}


class TestSubsetBalancer:
    HOSTS = [  # noqa: RUF012  (read only)
        FakeHost(endpoint(1, labels={"version": "v1", "zone": "a"})),
        FakeHost(endpoint(2, labels={"version": "v1", "zone": "b"})),
        FakeHost(endpoint(3, labels={"version": "v2"})),
        FakeHost(endpoint(4)),
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
        picked = [balancer.pick(subset_key(wanted)) for _ in range(20)]
        return {self.HOSTS.index(host) for host in picked if host is not None}

    def test_labels_choose_the_hosts_that_have_them_all(self) -> None:
        assert self.picks({"version": "v1"}, SubsetFallback.NO_FALLBACK) == {0, 1}
        assert self.picks({"version": "v1", "zone": "b"}, SubsetFallback.NO_FALLBACK) == {1}

    def test_labels_that_no_selector_names_choose_nobody(self) -> None:
        assert self.picks({"zone": "a"}, SubsetFallback.NO_FALLBACK) == set()

    def test_fallbacks(self) -> None:
        unknown = {"version": "v9"}
        assert self.picks(unknown, SubsetFallback.NO_FALLBACK) == set()
        assert self.picks(unknown, SubsetFallback.ANY_ENDPOINT) == {0, 1, 2, 3}
        default = {"default_subset": {"version": "v2"}}
        assert self.picks(unknown, SubsetFallback.DEFAULT_SUBSET, **default) == {2}

    def test_no_wish_goes_the_way_of_the_fallback(self) -> None:
        assert self.picks({}, SubsetFallback.ANY_ENDPOINT) == {0, 1, 2, 3}
        assert self.picks({}, SubsetFallback.NO_FALLBACK) == set()
