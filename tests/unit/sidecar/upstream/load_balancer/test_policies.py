from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.cluster import LbPolicy
from sidecar.upstream.host import Host
from sidecar.upstream.load_balancer.context import PickContext
from sidecar.upstream.load_balancer.policies import Policy, build_policy
from tests.support.upstreams import make_host

WEIGHTS = st.lists(st.integers(1, 20), min_size=1, max_size=6)


ANY = PickContext()


def hosts_of(weights: list[int]) -> list[Host]:
    return [make_host(number, weight=weight) for number, weight in enumerate(weights)]


def policy_of(policy: LbPolicy, hosts: list[Host], rng: Random | None = None, *, choices: int = 2) -> Policy:
    weighted = len({host.weight for host in hosts}) > 1
    members = list(enumerate(hosts))
    return build_policy(policy, members, rng or Random(1), weighted=weighted, choices=choices)


def shares(policy: Policy, hosts: list[Host], picks: int) -> list[int]:
    counted = Counter(policy.pick(ANY) for _ in range(picks))
    return [counted[host] for host in hosts]


@given(WEIGHTS, st.integers(1, 5), st.randoms(use_true_random=False))
def test_round_robin_gives_each_host_its_weight_in_every_round(
    weights: list[int], rounds: int, rng: Random
) -> None:
    hosts = hosts_of(weights)
    picked = shares(policy_of(LbPolicy.ROUND_ROBIN, hosts, rng), hosts, rounds * sum(weights))
    for count, weight in zip(picked, weights, strict=True):
        assert abs(count - rounds * weight) <= 1


@pytest.mark.parametrize("policy", [LbPolicy.RANDOM, LbPolicy.LEAST_REQUEST])
@pytest.mark.parametrize("weights", [[1, 1, 1], [1, 2, 5]])
def test_idle_hosts_are_picked_by_weight(policy: LbPolicy, weights: list[int]) -> None:
    hosts = hosts_of(weights)
    picked = shares(policy_of(policy, hosts), hosts, 8000)
    for count, weight in zip(picked, weights, strict=True):
        assert count == pytest.approx(8000 * weight / sum(weights), rel=0.1)


def test_least_request_avoids_the_busier_of_two() -> None:
    hosts = hosts_of([1, 1])
    hosts[0].stats.rq_active = 10
    picked = shares(policy_of(LbPolicy.LEAST_REQUEST, hosts), hosts, 1000)
    assert picked[0] == pytest.approx(250, abs=50)  # only when both choices fell on it


def test_least_request_with_more_choices_finds_the_idle_one_more_often() -> None:
    hosts = hosts_of([1] * 5)
    for host in hosts[1:]:
        host.stats.rq_active = 10
    two, five = (
        shares(policy_of(LbPolicy.LEAST_REQUEST, hosts, choices=choices), hosts, 1000)[0]
        for choices in (2, 5)
    )
    assert two < five


def test_weighted_least_request_shrinks_the_weight_of_a_busy_host() -> None:
    hosts = hosts_of([1, 9])
    hosts[1].stats.rq_active = 8  # 9 / (8 + 1)
    picked = shares(policy_of(LbPolicy.LEAST_REQUEST, hosts), hosts, 1000)
    assert picked[0] == pytest.approx(500, abs=15)


@pytest.mark.parametrize("policy", list(LbPolicy))
def test_a_single_host_is_always_picked(policy: LbPolicy) -> None:
    (host,) = hosts_of([3])
    assert policy_of(policy, [host]).pick(ANY) is host


class TestHostsThatComeAndGo:
    """A host leaves its group when it is ejected, and enters it again in its old position."""

    def test_round_robin_goes_on_in_its_order(self) -> None:
        hosts = hosts_of([1] * 5)
        policy = policy_of(LbPolicy.ROUND_ROBIN, hosts)
        while policy.pick(ANY) is not hosts[1]:
            pass
        policy.remove(3)
        assert [hosts.index(policy.pick(ANY)) for _ in range(5)] == [2, 4, 0, 1, 2]
        policy.remove(0)
        policy.add(3, hosts[3])
        assert [hosts.index(policy.pick(ANY)) for _ in range(5)] == [3, 4, 1, 2, 3]
        policy.add(0, hosts[0])
        assert [hosts.index(policy.pick(ANY)) for _ in range(5)] == [4, 0, 1, 2, 3]

    def test_round_robin_begins_again_after_the_last_host_has_left(self) -> None:
        hosts = hosts_of([1] * 3)
        policy = policy_of(LbPolicy.ROUND_ROBIN, hosts)
        while policy.pick(ANY) is not hosts[1]:
            pass
        policy.remove(2)
        assert [hosts.index(policy.pick(ANY)) for _ in range(3)] == [0, 1, 0]

    @given(WEIGHTS, st.data(), st.randoms(use_true_random=False))
    def test_weighted_round_robin_keeps_the_weights_of_those_that_remain(
        self, weights: list[int], data: st.DataObject, rng: Random
    ) -> None:
        hosts = hosts_of([*weights, 21])  # at least two weights
        policy = policy_of(LbPolicy.ROUND_ROBIN, hosts, rng)
        positions = list(range(len(hosts)))
        gone: set[int] = set()
        for position in data.draw(st.lists(st.sampled_from(positions))):
            if position in gone:
                policy.add(position, hosts[position])
                gone.discard(position)
            elif len(gone) < len(hosts) - 1:
                policy.remove(position)
                gone.add(position)
            policy.pick(ANY)
        remaining = [position for position in positions if position not in gone]
        rounds = 3
        picked = shares(policy, hosts, rounds * sum(hosts[position].weight for position in remaining))
        for position in positions:
            expected = rounds * hosts[position].weight if position in remaining else 0
            assert abs(picked[position] - expected) <= len(remaining) + 1

    @pytest.mark.parametrize("policy", list(LbPolicy))
    @pytest.mark.parametrize("weights", [[1, 1, 1, 1], [1, 2, 3, 4]])
    @given(moves=st.lists(st.integers(0, 3)))
    def test_only_members_are_picked_and_each_of_them(
        self, policy: LbPolicy, weights: list[int], moves: list[int]
    ) -> None:
        hosts = hosts_of(weights)
        group = policy_of(policy, hosts, Random(2))
        members = set(range(4))
        for position in moves:
            assert group.has(position) is (position in members)
            if position in members:
                group.remove(position)
                members.discard(position)
            else:
                group.add(position, hosts[position])
                members.add(position)
            assert group.hosts == [hosts[member] for member in sorted(members)]
        if members:
            picked = {hosts.index(group.pick(ANY)) for _ in range(150)}
            assert picked == members
