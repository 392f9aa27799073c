from __future__ import annotations

from collections import Counter
from itertools import groupby
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.route import ForwardAction, RetryPolicy, WeightedCluster
from sidecar.router.forward import Forward
from tests.support.routes import prefix, to


def forward(action: ForwardAction, retry: RetryPolicy | None = None) -> Forward:
    return Forward(action, prefix(), (), retry)


@given(st.lists(st.integers(0, 100), min_size=1, max_size=4).filter(any), st.integers(1, 4))
def test_each_cluster_has_its_share_of_every_sixteen_requests(weights: list[int], sixteens: int) -> None:
    clusters = tuple(WeightedCluster(name=str(index), weight=weight) for index, weight in enumerate(weights))
    route = forward(ForwardAction(clusters=clusters))
    for _ in range(sixteens):
        chosen = Counter(route.choose().cluster for _ in range(16))
        for index, weight in enumerate(weights):
            assert chosen[str(index)] == pytest.approx(16 * weight / sum(weights), abs=1)


@pytest.mark.parametrize("cycle", [2, 16, 48, 89, 256, 987, 1424])
def test_no_caller_keeps_step_with_the_sequence(cycle: int) -> None:
    """The first request of each of its cycles: a tenth of them, and the others no less often after one."""
    clusters = (WeightedCluster(name="v1", weight=90), WeightedCluster(name="v2", weight=10))
    route = Forward(ForwardAction(clusters=clusters), prefix(), (), None, Random(cycle))
    cycles = 400
    firsts = []
    for _ in range(cycles):
        firsts.append(route.choose().cluster)
        for _ in range(cycle - 1):
            route.choose()
    canaries = firsts.count("v2")
    assert canaries == pytest.approx(cycles / 10, abs=4 * (cycles * 0.1 * 0.9) ** 0.5)
    in_a_row = max(len(list(group)) for _, group in groupby(firsts))
    assert in_a_row < 100, "of 400 random ones with 0.9 this has a probability of 0.001"


def test_a_cluster_without_weight_is_never_chosen() -> None:
    clusters = (WeightedCluster(name="a", weight=0), WeightedCluster(name="b", weight=1))
    route = forward(ForwardAction(clusters=clusters))
    assert {route.choose().cluster for _ in range(1000)} == {"b"}


def test_a_weighted_clusters_labels_add_to_the_routes() -> None:
    weighted = WeightedCluster(name="a", metadata_match={"version": "v2"})
    route = forward(ForwardAction(clusters=(weighted,), metadata_match={"version": "v1", "zone": "a"}))
    assert route.choose().context.subset == {("version", "v2"), ("zone", "a")}


def test_the_virtual_hosts_retry_policy_is_the_default_of_its_routes() -> None:
    hosts_policy = RetryPolicy(retry_on=frozenset({"5xx"}), num_retries=2)
    own_policy = RetryPolicy(retry_on=frozenset({"reset"}), num_retries=7)
    assert forward(to("a"), hosts_policy).retry.max_retries == 2
    assert forward(to("a", retry_policy=own_policy), hosts_policy).retry.max_retries == 7
