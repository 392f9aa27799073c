"""Reports for the admin interface: the counts of one worker, and the names that the DNS resolver answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedHost:
    """A host of the name table, with the other names that lead to it."""

    name: str
    addresses: tuple[str, ...]
    registry: str
    short_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsReport:
    """``hosts`` are sorted by name. ``has_table``: the control plane sent a name table. ``upstreams`` are the
    resolvers for other names; a name with ``suffix`` leads to the same host as without."""

    has_table: bool
    upstreams: tuple[str, ...]
    suffix: str
    hosts: Iterable[ResolvedHost]
