from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.endpoint import SocketAddress
from sidecar.identity.certs import CertificateFile, CertificatesInUse
from sidecar.listener.manager import ListenerState, ListenerStatus
from sidecar.observability.report import StatsReport
from sidecar.observability.request_metrics import ConnectionSeries, RequestSeries
from sidecar.observability.stats import (
    ClusterStats,
    Histogram,
    HostStats,
    HttpConnectionManagerStats,
    ListenerStats,
    Stats,
    TcpProxyStats,
    is_gauge,
)
from sidecar.process.merge import merge_certificates, merge_clusters, merge_listeners, merge_stats
from sidecar.process.pickling import dumps
from sidecar.upstream.status import ClusterStatus, HostStatus
from tests.support.clusters import at_port

KINDS = (ClusterStats, HttpConnectionManagerStats, ListenerStats, TcpProxyStats)
ADDRESS = SocketAddress("0.0.0.0", 15001)

counts = st.integers(0, 1000)
names = st.sampled_from(["a", "b"])
durations = st.lists(st.floats(0, 1e6), max_size=3)


def filled(part: object, numbers: Iterable[str], data: st.DataObject) -> None:
    for name in numbers:
        value = getattr(part, name)
        if isinstance(value, Histogram):
            for each in data.draw(durations):
                value.record(each)
        else:
            setattr(part, name, data.draw(counts))


@st.composite
def reports(draw: st.DrawFn) -> StatsReport:
    data = draw(st.data())
    stats, requests, connections = Stats(), {}, {}
    for prefix, kind in draw(st.sets(st.tuples(names, st.sampled_from(KINDS)), max_size=3)):
        counters = stats.counters(prefix, kind)
        some = draw(st.sets(st.sampled_from([name for name, _ in kind.names()]), max_size=4))
        filled(counters, some, data)
    for label in draw(st.sets(names)):
        requests[label] = RequestSeries({"l": label}, (label, ""))
        filled(requests[label], ["duration_ms", "request_bytes"], data)
    for label in draw(st.sets(names)):
        connections[label] = ConnectionSeries({"l": label}, (label, ""))
        filled(connections[label], ["opened", "sent_bytes"], data)
    return StatsReport(
        counters=tuple(stats.sets()),
        requests=tuple(requests.values()),
        connections=tuple(connections.values()),
    )


def numbers_of(report: StatsReport) -> Counter[tuple[object, ...]]:
    """Every number of a report by its name; those of a histogram by bucket."""
    found: Counter[tuple[object, ...]] = Counter()
    values: list[tuple[tuple[object, ...], int | Histogram]] = []
    for prefix, counters in report.counters:
        values += (((type(counters), prefix, name), value) for name, value in counters.items())
    for requests in report.requests:
        values += (
            (("requests", requests.labels["l"], name), getattr(requests, name))
            for name in ("duration_ms", "request_bytes", "response_bytes")
        )
    for connections in report.connections:
        values += (
            (("connections", connections.labels["l"], name), getattr(connections, name))
            for name in ("opened", "closed", "sent_bytes", "received_bytes")
        )
    for key, value in values:
        assert key not in found
        if isinstance(value, Histogram):
            found.update({(*key, bucket): count for bucket, count in enumerate(value.counts)})
        else:
            found[key] = value
    return found


def is_same_in_each(key: tuple[object, ...]) -> bool:
    name = str(key[2])
    return key[0] is ClusterStats and (
        name.startswith(("membership", "update_")) or name == "outlier_detection.ejections_active"
    )


@given(st.lists(reports(), min_size=1, max_size=3))
def test_merged_statistics_are_the_sum_of_their_parts(parts: list[StatsReport]) -> None:
    before = [numbers_of(part) for part in parts]
    merged = numbers_of(merge_stats(parts))
    assert merged.keys() == set().union(*before)
    for key, value in merged.items():
        every = [part[key] for part in before if key in part]
        assert value == (max(every) if is_same_in_each(key) else sum(every)), key
    assert [numbers_of(part) for part in parts] == before, "the reports have changed"


@given(reports(), reports(), reports())
def test_it_does_not_matter_in_which_order_reports_are_merged(
    one: StatsReport, two: StatsReport, three: StatsReport
) -> None:
    in_pairs = numbers_of(merge_stats([one, merge_stats([two, three])]))
    assert in_pairs == numbers_of(merge_stats([three, one, two]))


@given(reports())
def test_a_report_crosses_a_socket_unchanged(report: StatsReport) -> None:
    assert numbers_of(pickle.loads(dumps(report))) == numbers_of(report)


def test_durations_are_added_up() -> None:
    one, other = (RequestSeries({"l": "a"}, ("a", "")) for _ in range(2))
    one.duration_ms.record(3)
    other.duration_ms.record(4000)
    (merged,) = merge_stats([StatsReport(requests=(each,)) for each in (one, other)]).requests
    assert (merged.duration_ms.count, merged.duration_ms.total) == (2, 4003)
    assert merged.duration_ms.quantile(1.0) == 5000


def test_only_known_gauges_are_not_added_up() -> None:
    """A new gauge must be decided upon: a sum of versions or states would mean nothing."""
    gauges = {name for kind in (*KINDS, HostStats) for name, _ in kind.names() if is_gauge(name)}
    assert {
        name
        for name in gauges
        if not name.endswith(("cx_active", "rq_active", "http1_active", "http2_active"))
    } == {
        "downstream_cx_upgrades_active",
        "membership_healthy",
        "membership_total",
        "outlier_detection__ejections_active",
        "upstream_rq_pending_active",
    }


def host(port: int, *, ejected: bool = False, flags: str = "healthy", rq_total: int = 1) -> HostStatus:
    return HostStatus(
        endpoint=at_port(port, weight=3),
        stats=HostStats(rq_total=rq_total, cx_active=1),
        ejected=ejected,
        health_flags=flags,
    )


def cluster(*hosts: HostStatus, name: str = "up") -> ClusterStatus:
    return ClusterStatus(name=name, hosts=hosts)


def test_hosts_count_together_and_one_ejection_is_enough() -> None:
    ejected = host(2, ejected=True, flags="/failed_outlier_check", rq_total=4)
    merged = merge_clusters(
        [[cluster(host(1), host(2)), cluster(name="other")], [cluster(host(1, rq_total=5), ejected)]]
    )
    assert [status.name for status in merged] == ["up", "other"]
    first, second = merged[0].hosts
    assert (first.stats.rq_total, first.stats.cx_active, first.endpoint.weight) == (6, 2, 3)
    assert (first.ejected, first.health_flags) == (False, "healthy")
    assert (second.stats.rq_total, second.ejected, second.health_flags) == (5, True, "/failed_outlier_check")


def test_hosts_that_one_worker_alone_has_are_shown() -> None:
    (merged,) = merge_clusters([[cluster(host(1))], [cluster(host(2))]])
    assert [each.endpoint.address.port for each in merged.hosts] == [1, 2]


def status(state: ListenerState, connections: int) -> ListenerStatus:
    return ListenerStatus(name="in", address=ADDRESS, state=state, active_connections=connections)


def test_connections_of_a_listener_are_added_up_by_its_state() -> None:
    active, draining = ListenerState.ACTIVE, ListenerState.DRAINING
    merged = merge_listeners(
        [
            [status(active, 1), status(draining, 2), status(draining, 3)],
            [status(active, 10), status(draining, 20)],
        ]
    )
    assert [(each.state, each.active_connections) for each in merged] == [
        (active, 11),
        (draining, 22),
        (draining, 3),
    ]


def test_a_certificate_that_all_workers_have_is_shown_once() -> None:
    old, new = (CertificatesInUse(roots=None, chain=CertificateFile(pem, "<inline>")) for pem in (b"1", b"2"))
    assert merge_certificates([[old], [old, new]]) == [old, new]
