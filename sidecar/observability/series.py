"""Series of metrics that expire: inactive series are removed, and their number is bounded.

Similar to Istio's rotation of metric scopes (``metricRotationInterval``), but for each series, and always on:
pods and peers change, and a sidecar's memory must not grow with their total number.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

# For each kind and reporter. A series of requests takes 3 KB of memory, and about 20 KB of a page.
MOST_SERIES: Final = 2000
SWEEP_INTERVAL_S: Final = 60.0
# A peer that calls every hour keeps its series.
IDLE_SWEEPS: Final = 90
# Istio's metricGracefulDeletionInterval, 5 minutes: time to scrape the last values.
GONE_SWEEPS: Final = 5

Labels = dict[str, str]
Place = tuple[str, str]
"""The name of a cluster, and the `WorkloadMetadata.key` of one of its hosts; each is empty if unknown."""


@dataclass(slots=True, eq=False)
class Series:
    """The counts of one combination of labels, and for how long it has been inactive."""

    labels: Labels
    place: Place
    idle_sweeps: int = 0
    activity_seen: int = -1

    @property
    def activity(self) -> int:
        """A number that grows whenever something is counted."""
        raise NotImplementedError

    @property
    def in_use(self) -> bool:
        """Whether an open connection still counts into it."""
        return False


KeyT = TypeVar("KeyT", bound=Hashable)
SeriesT = TypeVar("SeriesT", bound=Series)


class SeriesTable(dict[KeyT, SeriesT], Generic[KeyT, SeriesT]):
    """A dictionary, so that a look-up is fast; `add` and `sweep` bound its size."""

    def __init__(self, most: int = MOST_SERIES) -> None:
        super().__init__()
        self._most = most

    def add(self, key: KeyT, series: SeriesT) -> SeriesT:
        """Adds a series. At the limit, first removes a tenth: the series that are inactive for longest."""
        if len(self) >= self._most:
            by_idleness = sorted(self, key=lambda each: (self[each].in_use, -self[each].idle_sweeps))
            for each in by_idleness[: max(1, self._most // 10)]:
                del self[each]
        self[key] = series
        return series

    def sweep(self, places: Collection[Place]) -> None:
        """Called every `SWEEP_INTERVAL_S`; removes expired series. ``places``: those that exist now."""
        for key, series in list(self.items()):
            activity = series.activity
            if series.in_use or activity != series.activity_seen:
                series.activity_seen = activity
                series.idle_sweeps = 0
                continue
            series.idle_sweeps += 1
            is_gone = bool(series.place[0]) and series.place not in places
            if series.idle_sweeps >= (GONE_SWEEPS if is_gone else IDLE_SWEEPS):
                del self[key]
