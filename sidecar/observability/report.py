"""The counts of one worker, as the admin interface reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sidecar.observability.request_metrics import ConnectionSeries, RequestSeries
from sidecar.observability.stats import Counters


@dataclass(frozen=True, slots=True, kw_only=True)
class StatsReport:
    """``counters``: each set with its prefix, as `Stats.sets`. ``requests`` and ``connections``: the series
    of Istio's metrics, of both reporters. A report can be pickled; the numbers of an unpickled one do not
    change any more."""

    counters: Sequence[tuple[str, Counters]] = ()
    requests: Sequence[RequestSeries] = ()
    connections: Sequence[ConnectionSeries] = ()
