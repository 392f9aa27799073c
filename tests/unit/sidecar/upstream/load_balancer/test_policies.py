from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.cluster import LbPolicy
from sidecar.upstream.load_balancer.policies import Pick, build_policy
from tests.support.upstreams import FakeHost, endpoint

WEIGHTS = st.lists(st.integers(1, 20), min_size=1, max_size=6)


def hosts_of(weights: list[int]) -> list[FakeHost]:
    return [FakeHost(endpoint(number, weight=weight)) for number, weight in enumerate(weights)]


def shares(pick: Pick[FakeHost], hosts: list[FakeHost], picks: int) -> list[int]:
    counted = Counter(id(pick()) for _ in range(picks))
    return [counted[id(host)] for host in hosts]


@given(WEIGHTS, st.integers(1, 5), st.randoms(use_true_random=False))
def test_round_robin_gives_each_host_its_weight_in_every_round(
    weights: list[int], rounds: int, rng: Random
) -> None:
    hosts = hosts_of(weights)
    picked = shares(build_policy(LbPolicy.ROUND_ROBIN, hosts, rng), hosts, rounds * sum(weights))
    for count, weight in zip(picked, weights, strict=True):
        assert abs(count - rounds * weight) <= 1


@pytest.mark.parametrize("policy", [LbPolicy.RANDOM, LbPolicy.LEAST_REQUEST])
@pytest.mark.parametrize("weights", [[1, 1, 1], [1, 2, 5]])
def test_idle_hosts_are_picked_by_weight(policy: LbPolicy, weights: list[int]) -> None:
    hosts = hosts_of(weights)
    picked = shares(build_policy(policy, hosts, Random(1)), hosts, 8000)
    for count, weight in zip(picked, weights, strict=True):
        assert count == pytest.approx(8000 * weight / sum(weights), rel=0.1)


def test_least_request_avoids_the_busier_of_two() -> None:
    hosts = hosts_of([1, 1])
    hosts[0].stats.rq_active = 10
    picked = shares(build_policy(LbPolicy.LEAST_REQUEST, hosts, Random(1)), hosts, 1000)
    assert picked[0] == pytest.approx(250, abs=50)  # only when both choices fell on it


def test_least_request_with_more_choices_finds_the_idle_one_more_often() -> None:
    hosts = hosts_of([1] * 5)
    for host in hosts[1:]:
        host.stats.rq_active = 10
    two, five = (
        shares(build_policy(LbPolicy.LEAST_REQUEST, hosts, Random(1), choices=choices), hosts, 1000)[0]
        for choices in (2, 5)
    )
    assert two < five


def test_weighted_least_request_shrinks_the_weight_of_a_busy_host() -> None:
    hosts = hosts_of([1, 9])
    hosts[1].stats.rq_active = 8  # 9 / (8 + 1)
    picked = shares(build_policy(LbPolicy.LEAST_REQUEST, hosts, Random(1)), hosts, 1000)
    assert picked[0] == pytest.approx(500, abs=15)


@pytest.mark.parametrize("policy", list(LbPolicy))
def test_a_single_host_is_always_picked(policy: LbPolicy) -> None:
    (host,) = hosts_of([3])
    assert build_policy(policy, [host], Random(1))() is host
