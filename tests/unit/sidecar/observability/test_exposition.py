from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from sidecar.observability.exposition import (
    Value,
    is_used,
    json_batches,
    prometheus_pieces,
    stat_values,
    text_pieces,
)
from sidecar.observability.report import StatsReport
from sidecar.observability.stats import Stats, TcpProxyStats


def every(name: str, value: Value) -> bool:
    return True


def used(name: str, value: Value) -> bool:
    return is_used(value)


def text(stats: Stats, extra: Iterable[tuple[str, int | str]] = (), wanted: Any = every) -> list[str]:
    return "".join(text_pieces(stat_values(stats.sets(), extra, wanted))).splitlines()


def items(stats: Stats, wanted: Any = every) -> list[dict[str, Any]]:
    return [item for batch in json_batches(stat_values(stats.sets(), [], wanted)) for item in batch]


def prometheus(stats: Stats, extra: Iterable[tuple[str, int | str]] = (), wanted: Any = used) -> str:
    return "".join(prometheus_pieces(StatsReport(counters=tuple(stats.sets())), extra, wanted))


def test_text_has_envoys_names_and_leaves_out_unused_stats() -> None:
    stats = Stats()
    stats.cluster("a").outlier_detection__ejections_active = 1
    stats.http("inbound").downstream_rq_total = 7
    assert text(stats, [("server.live", 1), ("cluster_manager.cds.version_text", "v1")], used) == [
        "cluster.a.outlier_detection.ejections_active: 1",
        'cluster_manager.cds.version_text: "v1"',
        "http.inbound.downstream_rq_total: 7",
        "server.live: 1",
    ]


def test_a_histogram_in_text_is_a_line_of_quantiles_after_all_else() -> None:
    stats = Stats()
    stats.cluster("a")
    assert text(stats)[-1] == "cluster.a.upstream_rq_time: No recorded values"
    stats.cluster("a").upstream_rq_time.record(20)
    name, _, quantiles = text(stats)[-1].partition(": ")
    assert name == "cluster.a.upstream_rq_time"
    names = [quantile.partition("(")[0] for quantile in quantiles.split(" ")]
    assert names == ["P0", "P25", "P50", "P75", "P90", "P95", "P99", "P99.5", "P99.9", "P100"]
    assert quantiles.endswith("P100(nan,25)")


def test_json_has_counters_and_histograms_in_envoys_shape() -> None:
    stats = Stats()
    stats.cluster("a").upstream_rq_time.record(20)
    stats.cluster("b")
    *plain, entry = items(stats, lambda name, value: "rq_time" in name)
    assert all(stat["value"] == 0 for stat in plain)
    used_one, unused_one = entry["histograms"]["computed_quantiles"]
    assert used_one["name"] == "cluster.a.upstream_rq_time"
    assert entry["histograms"]["supported_quantiles"][2] == 50
    assert 10 <= used_one["values"][2]["cumulative"] <= 25
    assert unused_one["values"] == [{"interval": None, "cumulative": None}] * 10


def test_a_status_class_is_a_label_and_nothing_else_that_looks_like_one() -> None:
    stats = Stats()
    stats.cluster("a").upstream_rq_2xx = 3
    stats.cluster('b"\n').upstream_rq_5xx = 1
    stats.cluster("a").outlier_detection__ejections_consecutive_5xx = 2
    assert prometheus(stats).splitlines() == [
        "# TYPE envoy_cluster_outlier_detection_ejections_consecutive_5xx counter",
        'envoy_cluster_outlier_detection_ejections_consecutive_5xx{envoy_cluster_name="a"} 2',
        "# TYPE envoy_cluster_upstream_rq_xx counter",
        'envoy_cluster_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="a"} 3',
        'envoy_cluster_upstream_rq_xx{envoy_response_code_class="5",envoy_cluster_name="b\\"\\n"} 1',
    ]


def test_gauges_are_known_wherever_they_live() -> None:
    page = prometheus(Stats(), [("server.uptime", 5), ("x.update_success", 1), ("x.version_text", "v")])
    assert page.splitlines() == [
        "# TYPE envoy_server_uptime gauge",
        "envoy_server_uptime{} 5",
        "# TYPE envoy_x_update_success counter",
        "envoy_x_update_success{} 1",
    ]


def test_a_page_of_everything_is_valid_and_says_each_family_once() -> None:
    stats = Stats()
    for name in ("a", "b"):
        stats.cluster(name).upstream_rq_time.record(3)
        stats.http(name), stats.listener(name), stats.tcp(name)
    page = prometheus(stats, wanted=every)
    families = [family.name for family in text_string_to_metric_families(page)]
    assert len(families) == len(set(families)) > 90


def test_a_histogram_in_prometheus_is_cumulative() -> None:
    stats = Stats()
    for value in (0.2, 3, 3, 10_000_000):
        stats.cluster("a").upstream_rq_time.record(value)
    lines = prometheus(stats).splitlines()
    counts = [int(line.rsplit(" ", 1)[1]) for line in lines if "_bucket" in line]
    assert counts == sorted(counts)
    assert counts[-1] == 4
    assert counts[-2] == 3
    assert 'le="3600000"} 3' in lines[-4]
    assert lines[-2:] == [
        'envoy_cluster_upstream_rq_time_sum{envoy_cluster_name="a"} 10000006.2',
        'envoy_cluster_upstream_rq_time_count{envoy_cluster_name="a"} 4',
    ]


def test_several_kinds_of_counters_can_have_one_prefix() -> None:
    stats = Stats()
    stats.http("web"), stats.cluster("a.b")
    for prefix in ("http.web", "cluster.a.b.others", "others"):
        stats.counters(prefix, TcpProxyStats).idle_timeout = 3
    report = StatsReport(counters=tuple(stats.sets()))
    page = "".join(prometheus_pieces(report, [], every))
    assert 'envoy_http_idle_timeout{envoy_http_conn_manager_prefix="web"} 3\n' in page
    assert 'envoy_cluster_others_idle_timeout{envoy_cluster_name="a.b"} 3\n' in page
    assert "envoy_others_idle_timeout{} 3\n" in page
