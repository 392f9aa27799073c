from __future__ import annotations

from bisect import bisect_left
from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from sidecar.observability.stats import Histogram, Stats


def test_the_same_prefix_goes_on_counting() -> None:
    stats = Stats()
    stats.cluster("a").upstream_rq_total += 1
    stats.cluster("a").upstream_rq_total += 1
    assert stats.cluster("a").upstream_rq_total == 2
    stats.forget_cluster("a")
    assert stats.cluster("a").upstream_rq_total == 0


@given(st.lists(st.floats(0, 4_000_000), min_size=1), st.floats(0.01, 1))
def test_a_quantile_lies_in_the_bucket_of_the_exact_one(values: list[float], share: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    exact = sorted(values)[max(ceil(share * len(values)), 1) - 1]
    bucket = bisect_left(histogram.buckets, exact)
    lower = histogram.buckets[bucket - 1] if bucket else 0
    upper = histogram.buckets[min(bucket, len(histogram.buckets) - 1)]
    assert lower <= histogram.quantile(share) <= upper


def test_counters_of_listeners_that_are_gone_go_and_those_of_clusters_stay() -> None:
    stats = Stats()
    kept = stats.http("web")
    stats.tcp("db"), stats.listener("10.0.0.1_80"), stats.cluster("c")
    stats.keep_listeners({"http.web"})
    assert {prefix for prefix, _ in stats.sets()} == {"http.web", "cluster.c"}
    assert stats.http("web") is kept
