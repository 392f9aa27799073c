"""The statistics of all workers together, which do not go backwards when a worker ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from operator import attrgetter, gt
from typing import Any, Final

from sidecar.observability.report import StatsReport
from sidecar.observability.request_metrics import ConnectionSeries
from sidecar.observability.series import GONE_SWEEPS, MOST_SERIES, SWEEP_INTERVAL_S
from sidecar.observability.stats import Counters, is_gauge
from sidecar.process.merge import Part, PartKey, add_parts, parts, report_of

# As long as the series of a pod that has gone: time to scrape the last values.
_GONE_S: Final = GONE_SWEEPS * SWEEP_INTERVAL_S


class WorkerTotals:
    """Adds up the last `report` of each worker, and the counts that workers had when they `ended`, or when
    they forgot a series that others still have.

    Prometheus takes a counter that falls for one that was reset to 0, and would count the others' share a
    second time. A dead worker's counts are those of its last report; what it counted later is lost.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: dict[int, dict[PartKey, Part]] = {}
        self._kept: dict[PartKey, Part] = {}
        self._gone_since_s: dict[PartKey, float] = {}

    def report(self, worker: int, report: StatsReport) -> None:
        """Replaces the worker's last report."""
        now = parts(report)
        for key, before in self._last.get(worker, {}).items():
            if key not in now or _fell(before, now[key]):
                self._keep(key, before)
        self._last[worker] = now

    def ended(self, worker: int) -> None:
        """The worker process is dead; another one gets another number."""
        for key, before in self._last.pop(worker, {}).items():
            self._keep(key, before)

    def merged(self) -> StatsReport:
        self._drop_gone()
        totals: dict[PartKey, Part] = {}
        for counted in (*self._last.values(), self._kept):
            add_parts(totals, counted.items())
        return report_of(totals)

    def _keep(self, key: PartKey, part: Part) -> None:
        _end_connections(part)
        add_parts(self._kept, [(key, part)])

    def _drop_gone(self) -> None:
        """Counters of a cluster or listener that was removed go with it, series a while later."""
        live: set[PartKey] = set().union(*self._last.values())
        now_s = self._clock()
        for key in list(self._kept):
            if key in live:
                self._gone_since_s.pop(key, None)
            elif isinstance(self._kept[key], Counters):
                if live:  # else the workers have not been configured yet
                    del self._kept[key]
            elif now_s - self._gone_since_s.setdefault(key, now_s) >= _GONE_S:
                del self._kept[key]
                del self._gone_since_s[key]
        for key in list(self._gone_since_s)[:-MOST_SERIES]:
            del self._kept[key]
            del self._gone_since_s[key]


def _fell(before: Part, now: Part) -> bool:
    """Whether the counters were reset: their set or series was removed, and added again."""
    if isinstance(before, Counters):
        kind: Any = type(before)
        counts = _counts(kind)
        return any(map(gt, counts(before), counts(now)))
    return not isinstance(now, Counters) and now.activity < before.activity


@cache
def _counts(kind: Any) -> attrgetter[tuple[int, ...]]:
    """Reads all counters of a set; not the gauges, and not the histograms, which counters accompany."""
    empty = kind()
    names = [name for name, _ in kind.names() if isinstance(getattr(empty, name), int)]
    return attrgetter(*[name for name in names if not is_gauge(name)])


def _end_connections(part: Part) -> None:
    """The connections of a worker that has ended are closed, and nothing of it is active."""
    if isinstance(part, ConnectionSeries):
        part.closed = part.opened
    if not isinstance(part, Counters):
        return
    for attribute, _ in part.names():
        if not is_gauge(attribute):
            continue
        destroyed = attribute.removesuffix("active") + "destroy"
        if attribute.endswith("_cx_active") and hasattr(part, destroyed):
            setattr(part, destroyed, getattr(part, destroyed) + getattr(part, attribute))
        setattr(part, attribute, 0)
