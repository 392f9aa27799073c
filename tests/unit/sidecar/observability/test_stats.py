from __future__ import annotations

from bisect import bisect_left
from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from sidecar.observability.exposition import render_json, render_prometheus, render_text, stat_values
from sidecar.observability.stats import Histogram, Stats


def everything(_: str) -> bool:
    return True


def test_the_same_prefix_goes_on_counting() -> None:
    stats = Stats()
    stats.cluster("a").upstream_rq_total += 1
    stats.cluster("a").upstream_rq_total += 1
    assert stats.cluster("a").upstream_rq_total == 2
    stats.forget_cluster("a")
    assert stats.cluster("a").upstream_rq_total == 0


def test_text_has_envoys_names_and_leaves_out_what_was_never_used() -> None:
    stats = Stats()
    stats.cluster("a").outlier_detection__ejections_active = 1
    stats.http("inbound").downstream_rq_total = 7
    text = render_text(stat_values(stats, [("server.live", 1)], keep=everything, used_only=True))
    assert text.splitlines() == [
        "cluster.a.outlier_detection.ejections_active: 1",
        "http.inbound.downstream_rq_total: 7",
        "server.live: 1",
    ]


def test_json_has_counters_and_histograms_in_envoys_shape() -> None:
    stats = Stats()
    stats.cluster("a").upstream_rq_time.record(20)
    values = render_json(stat_values(stats, [], keep=lambda name: "rq_time" in name, used_only=False))
    *plain, entry = values["stats"]
    assert all(stat["value"] == 0 for stat in plain)
    (histogram,) = entry["histograms"]["computed_quantiles"]
    assert histogram["name"] == "cluster.a.upstream_rq_time"
    assert entry["histograms"]["supported_quantiles"][2] == 50
    assert 10 <= histogram["values"][2]["cumulative"] <= 25


def test_prometheus_families_stand_together_with_one_type_line() -> None:
    stats = Stats()
    stats.cluster("a").upstream_rq_2xx = 3
    stats.cluster('b"\n').upstream_rq_5xx = 1
    page = render_prometheus(stats, [("server.live", 1)], [], used_only=True)
    assert page.splitlines() == [
        "# TYPE envoy_cluster_upstream_rq_xx counter",
        'envoy_cluster_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="a"} 3',
        'envoy_cluster_upstream_rq_xx{envoy_response_code_class="5",envoy_cluster_name="b\\"\\n"} 1',
        "# TYPE envoy_server_live counter",
        "envoy_server_live{} 1",
    ]


def test_a_histogram_in_prometheus_is_cumulative() -> None:
    stats = Stats()
    for value in (0.2, 3, 3, 10_000_000):
        stats.cluster("a").upstream_rq_time.record(value)
    lines = render_prometheus(stats, [], [], used_only=True).splitlines()
    counts = [int(line.rsplit(" ", 1)[1]) for line in lines if "_bucket" in line]
    assert counts == sorted(counts)
    assert counts[-1] == 4
    assert counts[-2] == 3
    assert "envoy_cluster_upstream_rq_time_count" in lines[-1]


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
