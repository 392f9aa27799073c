"""The statistics in each format, compared with Envoy's."""

from __future__ import annotations

import re

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.interop.admin.pair import Pair, lines
from tests.support.admin_client import Page

# Ours alone. Envoy counts routes and endpoints of xDS for each connection manager and cluster, which is ours
# in sum; it does not know the name table (NDS), which is Istio's; it has these of TLS only where a cluster or
# a control plane is spoken to by TLS. A worker of Envoy does not die alone. The ports `status` and
# `metrics` are those of Istio's agent.
OURS = re.compile(
    r"^(xds\.(rds|eds|nds)\.|cluster_manager\.cds\.|listener_manager\.lds\.|control_plane\.connected_state"
    r"|cluster\.[^.]+\.(ssl|outlier_detection)\.|tcp\.[^.]+\.downstream_cx_active|listener\.(status|metrics)\."
    r"|server\.(seconds_until_first_cert_expiring|worker_deaths))"
)

COUNTED = (
    "http.web.downstream_rq_total|http.web.downstream_rq_completed|http.web.downstream_rq_2xx"
    "|http.web.downstream_rq_3xx|http.web.downstream_rq_4xx|http.web.downstream_rq_5xx"
    "|http.web.downstream_rq_active|http.web.downstream_cx_active|http.web.rq_direct_response"
    "|http.web.(no_cluster|no_route)|cluster.refusing.upstream_rq_(5xx|completed|pending_failure_eject)"
    "|cluster.upstream.upstream_cx_destroy(_local|_remote)?_with_active_rq"
    "|cluster.upstream.upstream_rq_(timeout|cancelled)"
    "|cluster.upstream.upstream_rq_2xx|cluster.upstream.upstream_rq_4xx|cluster.upstream.upstream_rq_5xx"
    "|cluster.upstream.upstream_rq_completed|cluster.refusing.upstream_rq_total"
    "|cluster.refusing.upstream_cx_connect_fail|cluster.refusing.upstream_rq_pending_active"
    "|cluster.(upstream|refusing|named).membership_(total|healthy)|tcp.raw.downstream_cx_total"
    "|tcp.raw.downstream_cx_[rt]x_bytes_total|listener_manager.total_listeners_active"
    "|cluster_manager.active_clusters|server.(live|state|concurrency)"
).replace(".", r"\.")


def test_every_stat_is_one_of_envoys(pair: Pair) -> None:
    envoy, sidecar = ({line.partition(": ")[0] for line in lines(page)} for page in pair.ask("/stats"))
    # These of Envoy's begin with the first answer.
    late = re.compile(r"cluster\..*\.upstream_rq_(time|completed|[1-5]xx)")
    assert {name for name in sidecar - envoy if not OURS.match(name) and not late.fullmatch(name)} == set()
    assert len(sidecar & envoy) > 180


def test_values_that_the_requests_decide_are_the_same(pair: Pair) -> None:
    envoy, sidecar = (lines(page) for page in pair.ask(f"/stats?filter=^({COUNTED})$"))
    assert sidecar == envoy
    assert "http.web.downstream_rq_total: 13" in sidecar


def test_usedonly_leaves_out_unused_stats(pair: Pair) -> None:
    envoy, sidecar = (
        {line.partition(": ")[0] for line in lines(page)}
        for page in pair.ask(r"/stats?usedonly&filter=^http\.web\.downstream_rq_[0-9a-z]*$")
    )
    envoy.discard("http.web.downstream_rq_active")  # used, and 0 again
    assert sidecar == envoy
    assert "http.web.downstream_rq_1xx" not in sidecar


def test_stats_in_json_have_envoys_shape(pair: Pair) -> None:
    envoy, sidecar = (
        page.json["stats"]
        for page in pair.ask(r"/stats?format=json&filter=^http\.web\.downstream_(rq|cx)_[a-z0-9]*$")
    )
    theirs, ours = ({stat["name"]: stat["value"] for stat in stats[:-1]} for stats in (envoy, sidecar))
    assert ours.items() <= theirs.items()
    theirs_of, ours_of = (stats[-1]["histograms"] for stats in (envoy, sidecar))
    assert ours_of.keys() == theirs_of.keys()
    assert ours_of["supported_quantiles"] == theirs_of["supported_quantiles"]
    theirs_by, ours_by = (
        {histogram["name"]: histogram["values"] for histogram in histograms["computed_quantiles"]}
        for histograms in (theirs_of, ours_of)
    )
    assert ours_by.keys() == {"http.web.downstream_rq_time"}
    for name, values in ours_by.items():
        assert [value.keys() for value in values] == [value.keys() for value in theirs_by[name]]


def test_histograms_in_text_have_envoys_form(pair: Pair) -> None:
    form = re.compile(r"[a-z._]+:( P[0-9.]+\((nan|[0-9.e+-]+),[0-9.e+-]+\)){10}")
    names = []
    for page in pair.ask(r"/stats?filter=^http\.web\.downstream_rq_time$"):
        (line,) = lines(page)
        assert form.fullmatch(line)
        names.append(re.findall(r"P[0-9.]+", line))
    assert names[0] == names[1]


def families(page: Page) -> dict[str, Metric]:
    found = list(text_string_to_metric_families(page.body))
    by_name = {family.name: family for family in found}
    # The counters by code and those in sum share a name.
    assert len(found) - len(by_name) <= (1 if "envoy_response_code=" in page.body else 0)
    return by_name


def label_keys(family: Metric) -> set[frozenset[str]]:
    """But of the counters by code, which Envoy alone has."""
    labels = [sample.labels.keys() for sample in family.samples]
    return {frozenset(keys - {"le"}) for keys in labels if "envoy_response_code" not in keys}


@pytest.mark.parametrize("path", ["/stats/prometheus", "/stats?format=prometheus"])
def test_prometheus_families_have_envoys_types_and_labels(pair: Pair, path: str) -> None:
    envoy, sidecar = (families(page) for page in pair.ask(path))
    common = envoy.keys() & sidecar.keys()
    for name in common:
        ours, theirs = sidecar[name], envoy[name]
        assert (ours.type, label_keys(ours)) == (theirs.type, label_keys(theirs)), name
    assert len(common) > 80
    istio = {name for name in sidecar if name.startswith("istio_")}
    assert {"istio_requests", "istio_request_duration_milliseconds", "istio_tcp_sent_bytes"} <= istio


def test_prometheus_can_be_filtered(pair: Pair) -> None:
    envoy, sidecar = (
        families(page).keys() for page in pair.ask("/stats/prometheus?filter=upstream_rq_retry&usedonly=")
    )
    assert envoy == {name for name in sidecar if name.startswith("envoy_")} == set()
