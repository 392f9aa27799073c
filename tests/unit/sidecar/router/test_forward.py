from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.route import ForwardAction, RetryPolicy, WeightedCluster
from sidecar.errors import ConfigError
from sidecar.router.forward import Forward
from tests.support.routes import prefix, to


def forward(action: ForwardAction, retry: RetryPolicy | None = None) -> Forward:
    return Forward(action, prefix(), (), retry)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4).filter(any))
def test_each_cluster_gets_exactly_its_share_of_the_random_numbers(weights: list[int]) -> None:
    clusters = tuple(WeightedCluster(name=str(index), weight=weight) for index, weight in enumerate(weights))
    route = forward(ForwardAction(clusters=clusters))
    total = sum(weights)
    chosen = Counter(route.choose((point + 0.5) / total).cluster for point in range(total))
    assert chosen == Counter({str(index): weight for index, weight in enumerate(weights) if weight})


def test_weights_that_sum_to_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="sum of the weights is 0"):
        forward(ForwardAction(clusters=(WeightedCluster(name="a", weight=0),)))


def test_a_weighted_clusters_labels_add_to_the_routes() -> None:
    weighted = WeightedCluster(name="a", metadata_match={"version": "v2"})
    route = forward(ForwardAction(clusters=(weighted,), metadata_match={"version": "v1", "zone": "a"}))
    assert route.choose(0).subset == {("version", "v2"), ("zone", "a")}


def test_the_virtual_hosts_retry_policy_stands_in_for_a_routes() -> None:
    hosts_policy = RetryPolicy(retry_on=frozenset({"5xx"}), num_retries=2)
    own_policy = RetryPolicy(retry_on=frozenset({"reset"}), num_retries=7)
    assert forward(to("a"), hosts_policy).retry.max_retries == 2
    assert forward(to("a", retry_policy=own_policy), hosts_policy).retry.max_retries == 7
