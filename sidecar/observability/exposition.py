"""Stats as text: Envoy's ``/stats`` lines and JSON, and the Prometheus exposition format (version 0.0.4).

All pages are generated in pieces: a page of a hundred thousand lines must not block the event loop.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter

from sidecar.observability.report import StatsReport
from sidecar.observability.series import Labels
from sidecar.observability.stats import ClusterStats, Counters, Histogram, is_gauge

QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 1.0)

Value = int | str | Histogram
"""A counter or gauge, a text readout, a histogram."""
ExtraStats = Iterable[tuple[str, Value]]
"""Stats that no worker counts: those of the server, the xDS client and the DNS resolver."""
_Labelled = tuple[str, str, Counters]
"""The prefix of a set of counters, its labels, and the set."""
Wanted = Callable[[str, Value], bool]
"""By the stat's full name."""

# Envoy's Prometheus label for the variable part of a prefix.
_PREFIX_LABELS = {
    "http": "envoy_http_conn_manager_prefix",
    "cluster": "envoy_cluster_name",
    "listener": "envoy_listener_address",
    "tcp": "envoy_tcp_prefix",
}
# Names that are Istio's, and complete.
_ISTIO = "istio_"
_CODE_CLASS = re.compile(r"_rq_([1-5])xx$")


def is_used(value: Value) -> bool:
    """Whether ``usedonly`` shows it: it is not 0. (Envoy: it was ever written.)"""
    return bool(value.count if isinstance(value, Histogram) else value)


def stat_values(
    counters: Iterable[tuple[str, Counters]], extra: ExtraStats, wanted: Wanted
) -> Iterator[list[tuple[str, Value]]]:
    """All wanted stats with their full names, sorted, in batches that may be empty."""
    groups: list[tuple[str, Iterable[tuple[str, Value]]]] = [(name, [(name, value)]) for name, value in extra]
    groups += ((prefix, _with_prefix(prefix, members)) for prefix, members in counters)
    for _, group in sorted(groups, key=itemgetter(0)):
        yield [(name, value) for name, value in group if wanted(name, value)]


def _with_prefix(prefix: str, counters: Counters) -> Iterator[tuple[str, Value]]:
    for name, value in counters.items():
        yield f"{prefix}.{name}", value


def text_pieces(batches: Iterable[Iterable[tuple[str, Value]]]) -> Iterator[str]:
    """``name: value``, the histograms last, as Envoy prints them."""
    histograms = []
    for batch in batches:
        lines = []
        for name, value in batch:
            if isinstance(value, Histogram):
                histograms.append((name, value))
            else:
                lines.append(f'{name}: "{value}"\n' if isinstance(value, str) else f"{name}: {value}\n")
        yield "".join(lines)
    for name, histogram in histograms:
        yield f"{name}: {_summary(histogram)}\n"


def json_batches(batches: Iterable[Iterable[tuple[str, Value]]]) -> Iterator[list[dict[str, object]]]:
    """Envoy's ``{"name", "value"}`` items, and one last item with all histograms."""
    histograms: list[dict[str, object]] = []
    for batch in batches:
        items: list[dict[str, object]] = []
        for name, value in batch:
            if isinstance(value, Histogram):
                computed = [{"interval": None, "cumulative": quantile} for quantile in _quantiles(value)]
                histograms.append({"name": name, "values": computed})
            else:
                items.append({"name": name, "value": value})
        yield items
    if histograms:
        quantiles = [share * 100 for share in QUANTILES]
        yield [{"histograms": {"supported_quantiles": quantiles, "computed_quantiles": histograms}}]


def prometheus_pieces(report: StatsReport, extra: ExtraStats, wanted: Wanted) -> Iterator[str]:
    """All stats in one page. The format requires that the samples of a family are adjacent."""
    clusters = {prefix for prefix, counters in report.counters if isinstance(counters, ClusterStats)}
    groups: dict[tuple[str, type[Counters]], list[_Labelled]] = defaultdict(list)
    for prefix, counters in report.counters:
        group, labels = _group_and_labels(prefix, clusters)
        groups[group, type(counters)].append((f"{prefix}.", labels, counters))
    for (group, _), labelled in groups.items():
        yield from _envoy_families(group, labelled, wanted)
    for name, value in extra:
        if not isinstance(value, str) and wanted(name, value):
            metric = name if name.startswith(_ISTIO) else f"envoy_{_sanitise(name)}"
            yield _type_line(metric, name, value) + _samples(metric, "", value)
    yield from _istio_families(report)


def _group_and_labels(prefix: str, clusters: Collection[str]) -> tuple[str, str]:
    """The first part of the metrics' names, and the labels, as Envoy makes them of a prefix. `clusters` are
    the prefixes of clusters, whose names may contain dots."""
    group, _, variable = prefix.partition(".")
    rest = ""
    if group == "cluster" and prefix not in clusters:
        known = prefix
        while known and known not in clusters:
            known = known.rpartition(".")[0]
        if known:
            variable, rest = known.partition(".")[2], prefix[len(known) + 1 :]
    labels = f'{_PREFIX_LABELS[group]}="{_escape(variable)}"' if variable else ""
    kind, _, method = rest.partition(".")
    if method:  # of a gRPC call: the service and the method
        service, _, method = method.rpartition(".")
        labels += (
            f',envoy_grpc_bridge_service="{_escape(service)}",envoy_grpc_bridge_method="{_escape(method)}"'
        )
    return _sanitise(f"{group}_{kind}") if kind else group, labels


def _envoy_families(group: str, labelled: Sequence[_Labelled], wanted: Wanted) -> Iterator[str]:
    """The sets of one kind, by family. The five classes of a status are one family with a label."""
    for family, stats in groupby(labelled[0][2].names(), key=lambda stat: _CODE_CLASS.sub("_rq_xx", stat[1])):
        metric = f"envoy_{group}_{_sanitise(family)}"
        headed = False
        for attribute, name in stats:
            code = _CODE_CLASS.search(name)
            code_label = f'envoy_response_code_class="{code[1]}",' if code else ""
            for prefix, labels, counters in labelled:
                value = getattr(counters, attribute)
                if not wanted(prefix + name, value):
                    yield ""  # the page may pause here
                    continue
                heading = "" if headed else _type_line(metric, name, value)
                headed = True
                yield heading + _samples(metric, code_label + labels, value)


def _istio_families(report: StatsReport) -> Iterator[str]:
    requests = [(_labels(series.labels), series) for series in report.requests]
    calls = [(labels, series) for labels, series in requests if series.is_grpc]
    connections = [(_labels(series.labels), series) for series in report.connections]
    families: tuple[tuple[str, list[tuple[str, int | Histogram]]], ...] = (
        ("istio_requests_total", [(labels, series.duration_ms.count) for labels, series in requests]),
        ("istio_request_duration_milliseconds", [(labels, one.duration_ms) for labels, one in requests]),
        ("istio_request_bytes", [(labels, one.request_bytes) for labels, one in requests]),
        ("istio_response_bytes", [(labels, one.response_bytes) for labels, one in requests]),
        ("istio_request_messages_total", [(labels, one.request_messages) for labels, one in calls]),
        ("istio_response_messages_total", [(labels, one.response_messages) for labels, one in calls]),
        ("istio_tcp_connections_opened_total", [(labels, one.opened) for labels, one in connections]),
        ("istio_tcp_connections_closed_total", [(labels, one.closed) for labels, one in connections]),
        ("istio_tcp_sent_bytes_total", [(labels, one.sent_bytes) for labels, one in connections]),
        ("istio_tcp_received_bytes_total", [(labels, one.received_bytes) for labels, one in connections]),
    )
    for metric, samples in families:
        if samples:
            yield _type_line(metric, metric, samples[0][1])
        for labels, value in samples:
            yield _samples(metric, labels, value)


def _type_line(metric: str, stat: str, value: Value = 0) -> str:
    kind = "histogram" if isinstance(value, Histogram) else "gauge" if is_gauge(stat) else "counter"
    return f"# TYPE {metric} {kind}\n"


def _samples(metric: str, labels: str, value: int | Histogram) -> str:
    if not isinstance(value, Histogram):
        return f"{metric}{{{labels}}} {value}\n"
    lines = []
    cumulative = 0
    for bound, count in zip(value.buckets, value.counts, strict=False):
        cumulative += count
        lines.append(f'{metric}_bucket{{{labels},le="{_number(bound)}"}} {cumulative}\n')
    lines.append(f'{metric}_bucket{{{labels},le="+Inf"}} {value.count}\n')
    lines.append(f"{metric}_sum{{{labels}}} {_number(value.total)}\n")
    lines.append(f"{metric}_count{{{labels}}} {value.count}\n")
    return "".join(lines)


def _labels(labels: Labels) -> str:
    return ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items())


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _sanitise(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_]", "_", name)


def _summary(histogram: Histogram) -> str:
    """Envoy prints each quantile for the last flush interval and for all time; here only the latter."""
    if not histogram.count:
        return "No recorded values"
    quantiles = zip(QUANTILES, _quantiles(histogram), strict=True)
    return " ".join(f"P{share * 100:g}(nan,{value:g})" for share, value in quantiles)


def _quantiles(histogram: Histogram) -> list[float | None]:
    """The quantiles with six digits, the precision of the buckets; None without records."""
    if not histogram.count:
        return [None] * len(QUANTILES)
    return [float(f"{histogram.quantile(share):.6g}") for share in QUANTILES]


def _number(value: float) -> str:
    """Formats without an exponent, as Envoy writes bounds."""
    return f"{value:.6f}".rstrip("0").rstrip(".")
