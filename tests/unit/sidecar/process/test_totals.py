from __future__ import annotations

import pickle
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sidecar.observability.report import StatsReport
from sidecar.observability.request_metrics import ConnectionSeries, RequestSeries
from sidecar.observability.series import GONE_SWEEPS, MOST_SERIES, SWEEP_INTERVAL_S
from sidecar.observability.stats import ClusterStats, ListenerStats, Stats
from sidecar.process.pickling import dumps
from sidecar.process.totals import WorkerTotals


def request_series(label: str, requests: int) -> RequestSeries:
    series = RequestSeries({"l": label}, (label, ""))
    for _ in range(requests):
        series.duration_ms.record(1)
    return series


def report(requests: int = 0, active: int = 0, cluster: str = "up", **series: int) -> StatsReport:
    stats = Stats()
    counters = stats.cluster(cluster)
    counters.upstream_rq_total = requests
    counters.upstream_cx_total = counters.upstream_cx_active = active
    counters.update_success = 1
    return StatsReport(
        counters=tuple(stats.sets()),
        requests=tuple(request_series(label, count) for label, count in series.items()),
    )


@dataclass
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


def cluster_of(totals: WorkerTotals) -> ClusterStats:
    ((prefix, counters),) = totals.merged().counters
    assert prefix == "cluster.up"
    assert isinstance(counters, ClusterStats)
    return counters


def requests_of(totals: WorkerTotals) -> dict[str, int]:
    return {series.labels["l"]: series.duration_ms.count for series in totals.merged().requests}


def test_a_dead_worker_leaves_its_counters_and_no_connections() -> None:
    totals = WorkerTotals()
    totals.report(1, report(requests=5, active=2, a=5))
    totals.report(2, report(requests=1, active=1))
    totals.ended(1)
    counters = cluster_of(totals)
    assert (counters.upstream_rq_total, counters.upstream_cx_total) == (6, 3)
    assert (counters.upstream_cx_active, counters.upstream_cx_destroy) == (1, 2)
    assert counters.update_success == 1, "each worker counts the same updates"
    assert requests_of(totals) == {"a": 5}
    totals.report(3, report(requests=2, a=1))
    assert cluster_of(totals).upstream_rq_total == 8
    assert requests_of(totals) == {"a": 6}


def test_a_dead_workers_tcp_connections_are_closed() -> None:
    totals = WorkerTotals()
    series = ConnectionSeries({"l": "a"}, ("a", ""), opened=3, closed=1, sent_bytes=9)
    listener = ListenerStats(downstream_cx_active=2, downstream_cx_total=3, downstream_cx_destroy=1)
    totals.report(1, StatsReport(connections=(series,), counters=(("listener.l", listener),)))
    totals.report(2, StatsReport(counters=(("listener.l", ListenerStats()),)))
    totals.ended(1)
    merged = totals.merged()
    (connections,) = merged.connections
    assert (connections.opened, connections.closed, connections.sent_bytes) == (3, 3, 9)
    ((_, counters),) = merged.counters
    assert dict(counters.items()) | {"downstream_cx_active": 0, "downstream_cx_destroy": 3} == dict(
        counters.items()
    )


def test_a_series_that_one_worker_forgets_keeps_its_part() -> None:
    totals = WorkerTotals()
    totals.report(1, report(a=5))
    totals.report(2, report(a=1))
    totals.report(1, report())
    assert requests_of(totals) == {"a": 6}
    totals.report(1, report(a=1))
    assert requests_of(totals) == {"a": 7}


def test_a_set_that_was_removed_and_added_again_does_not_go_back() -> None:
    totals = WorkerTotals()
    totals.report(1, report(requests=5))
    totals.report(1, report(requests=2))
    assert cluster_of(totals).upstream_rq_total == 7


def test_a_removed_cluster_is_forgotten() -> None:
    totals = WorkerTotals()
    totals.report(1, report(requests=5, cluster="removed"))
    totals.report(1, report())
    cluster_of(totals)
    totals.report(1, report(cluster="removed"))
    assert [dict(each.items())["upstream_rq_total"] for _, each in totals.merged().counters] == [0]


def test_counters_last_from_the_end_of_all_workers_until_the_next_are_configured() -> None:
    totals = WorkerTotals()
    totals.report(1, report(requests=5))
    totals.ended(1)
    totals.report(2, StatsReport())
    assert cluster_of(totals).upstream_rq_total == 5
    totals.report(2, report(requests=1))
    assert cluster_of(totals).upstream_rq_total == 6


def test_a_series_that_no_worker_has_lasts_long_enough_to_be_scraped() -> None:
    clock = Clock()
    totals = WorkerTotals(clock)
    totals.report(1, report(a=5))
    totals.report(1, report())
    assert requests_of(totals) == {"a": 5}
    clock.now_s = GONE_SWEEPS * SWEEP_INTERVAL_S - 1
    assert requests_of(totals) == {"a": 5}
    clock.now_s += 1
    assert requests_of(totals) == {}


def test_the_number_of_series_that_no_worker_has_is_bounded() -> None:
    totals = WorkerTotals(Clock())
    for batch in range(3):
        totals.report(
            1, StatsReport(requests=[request_series(f"{batch}.{n}", 1) for n in range(MOST_SERIES)])
        )
        totals.report(1, StatsReport())
        assert len(totals.merged().requests) == MOST_SERIES


class WorkersThatComeAndGo(RuleBasedStateMachine):
    """Whatever happens to workers, no counter of a page is below that of the page before."""

    def __init__(self) -> None:
        super().__init__()
        self.totals = WorkerTotals(Clock())
        self.workers: dict[int, dict[str, int]] = {0: {"requests": 0, "a": 0}}
        self.started = 1
        self.shown = (0, 0)

    @rule(count=st.integers(1, 5), which=st.integers(0, 9), key=st.sampled_from(["requests", "a"]))
    def counts(self, count: int, which: int, key: str) -> None:
        worker = self.workers[list(self.workers)[which % len(self.workers)]]
        worker[key] = worker.get(key, 0) + count

    @rule(which=st.integers(0, 9))
    def forgets_its_series(self, which: int) -> None:
        self.workers[list(self.workers)[which % len(self.workers)]].pop("a", None)

    @rule()
    def starts(self) -> None:
        self.workers[self.started] = {"requests": 0}
        self.started += 1

    @rule(which=st.integers(0, 9))
    def dies(self, which: int) -> None:
        number = list(self.workers)[which % len(self.workers)]
        del self.workers[number]
        self.totals.ended(number)
        if not self.workers:
            self.starts()

    @invariant()
    def no_counter_falls(self) -> None:
        for number, counts in self.workers.items():
            self.totals.report(number, pickle.loads(dumps(report(**counts))))
        shown = (cluster_of(self.totals).upstream_rq_total, requests_of(self.totals).get("a", 0))
        assert shown[0] >= self.shown[0]
        assert shown[1] >= self.shown[1]
        self.shown = shown


TestWorkersThatComeAndGo = WorkersThatComeAndGo.TestCase
TestWorkersThatComeAndGo.settings = settings(max_examples=40, stateful_step_count=15, deadline=None)
