"""Merges the reports of several workers into the report that one worker would give. Pure.

Envoy's workers count into shared memory; ours count separately, and each statistic is merged by its meaning:

    most counters, ``*_active``, histograms, series   the sum of the workers' parts
    `_SAME_IN_EACH`                                   the largest: each worker has the same configuration, and
                                                      counts the same updates, hosts and ejections
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from operator import add, attrgetter
from typing import Any, TypeVar

from sidecar.config.endpoint import SocketAddress
from sidecar.identity.certs import CertificatesInUse
from sidecar.listener.manager import ListenerState, ListenerStatus
from sidecar.observability.report import StatsReport
from sidecar.observability.request_metrics import ConnectionSeries, RequestSeries
from sidecar.observability.stats import Counters
from sidecar.upstream.status import ClusterStatus, HostStatus

_SAME_IN_EACH = frozenset((
    "membership_change", "membership_healthy", "membership_total", "outlier_detection__ejections_active",
    "update_attempt", "update_failure", "update_success",
))  # fmt: skip
_REQUEST_NUMBERS = (
    "duration_ms", "request_bytes", "response_bytes", "request_messages", "response_messages",
)  # fmt: skip
_CONNECTION_NUMBERS = ("opened", "closed", "sent_bytes", "received_bytes")

Part = Counters | RequestSeries | ConnectionSeries
"""A set of numbers that are merged with those of the same key."""
PartKey = tuple[object, ...]
PartT = TypeVar("PartT", bound=Part)


# Statistics.


def merge_stats(reports: Iterable[StatsReport]) -> StatsReport:
    """The reports remain as they are."""
    merged: dict[PartKey, Part] = {}
    for report in reports:
        add_parts(merged, parts(report).items())
    return report_of(merged)


def parts(report: StatsReport) -> dict[PartKey, Part]:
    """By prefix and kind, or by labels."""
    found: dict[PartKey, Part] = {(prefix, type(each)): each for prefix, each in report.counters}
    series: tuple[RequestSeries | ConnectionSeries, ...] = (*report.requests, *report.connections)
    found.update(((type(each), *each.labels.items()), each) for each in series)
    return found


def report_of(merged: Mapping[PartKey, Part]) -> StatsReport:
    """The opposite of `parts`."""
    return StatsReport(
        counters=tuple((str(key[0]), part) for key, part in merged.items() if isinstance(part, Counters)),
        requests=tuple(part for part in merged.values() if isinstance(part, RequestSeries)),
        connections=tuple(part for part in merged.values() if isinstance(part, ConnectionSeries)),
    )


def add_parts(totals: dict[PartKey, Part], more: Iterable[tuple[PartKey, Part]]) -> None:
    for key, part in more:
        total = totals.get(key)
        totals[key] = part if total is None else _merged(total, part)


def _merged(one: PartT, other: PartT) -> PartT:
    kind: Any = type(one)
    numbers, same_in_each = _numbers(kind)
    ours, theirs = numbers(one), numbers(other)
    values = list(map(add, ours, theirs))
    for index in same_in_each:
        values[index] = max(ours[index], theirs[index])
    merged: PartT = (
        kind(*values) if isinstance(one, Counters) else kind(one.labels, one.place, 0, -1, *values)
    )
    return merged


@cache
def _numbers(kind: Any) -> tuple[attrgetter[tuple[Any, ...]], list[int]]:
    """Reads the integers and histograms of a part, in the order of its arguments; and the places of those
    that are not added up."""
    names: Sequence[str]
    if issubclass(kind, Counters):
        names = [attribute for attribute, _ in kind.names()]
    else:
        names = _REQUEST_NUMBERS if issubclass(kind, RequestSeries) else _CONNECTION_NUMBERS
    return attrgetter(*names), [place for place, name in enumerate(names) if name in _SAME_IN_EACH]


# Clusters, listeners, certificates.


def merge_clusters(reports: Sequence[Sequence[ClusterStatus]]) -> list[ClusterStatus]:
    """All clusters, with all hosts: an ``ORIGINAL_DST`` cluster has other hosts in each worker."""
    hosts: dict[str, dict[SocketAddress, HostStatus]] = {}
    for status in (status for report in reports for status in report):
        known = hosts.setdefault(status.name, {})
        for host in status.hosts:
            address = host.endpoint.address
            known[address] = _merged_host(known[address], host) if address in known else host
    return [ClusterStatus(name=name, hosts=tuple(found.values())) for name, found in hosts.items()]


def _merged_host(one: HostStatus, other: HostStatus) -> HostStatus:
    """Ejected if one worker has ejected it: the others are about to."""
    return replace(other if other.ejected else one, stats=_merged(one.stats, other.stats))


def merge_listeners(reports: Sequence[Sequence[ListenerStatus]]) -> list[ListenerStatus]:
    """Each listener once in each of its states. Several replaced versions of a listener may drain: the first
    one in each worker is taken for the same, and so on."""
    merged: dict[tuple[str, SocketAddress, ListenerState, int], ListenerStatus] = {}
    for key, status in (each for report in reports for each in _numbered(report)):
        known = merged.get(key)
        connections = status.active_connections + (0 if known is None else known.active_connections)
        merged[key] = replace(status, active_connections=connections)
    return list(merged.values())


def _numbered(
    report: Sequence[ListenerStatus],
) -> Iterator[tuple[tuple[str, SocketAddress, ListenerState, int], ListenerStatus]]:
    seen: Counter[tuple[str, SocketAddress, ListenerState]] = Counter()
    for status in report:
        key = (status.name, status.address, status.state)
        seen[key] += 1
        yield (*key, seen[key]), status


def merge_certificates(reports: Sequence[Sequence[CertificatesInUse]]) -> list[CertificatesInUse]:
    """Workers have the same certificates, except for a moment after a renewal, when those of both are
    shown."""
    return list(dict.fromkeys(each for report in reports for each in report))
