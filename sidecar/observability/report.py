"""What one worker has counted, as the admin interface reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sidecar.observability.request_metrics import ConnectionSeries, RequestSeries
from sidecar.observability.stats import Counters


@dataclass(frozen=True, slots=True, kw_only=True)
class StatsReport:
    """``counters``: each set with its prefix, as `Stats.sets`. ``requests`` and ``connections``: the series
    of Istio's metrics, of both reporters. A report can be pickled; without that its numbers still move."""

    counters: Sequence[tuple[str, Counters]] = ()
    requests: Sequence[RequestSeries] = ()
    connections: Sequence[ConnectionSeries] = ()
