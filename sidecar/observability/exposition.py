"""Stats as text: Envoy's ``/stats`` lines and JSON, and the Prometheus exposition format (version 0.0.4)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from sidecar.observability.request_metrics import Labels, RequestMetrics
from sidecar.observability.stats import Counters, Histogram, Stats, is_gauge

QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 1.0)

NameFilter = Callable[[str], bool]

# Envoy's Prometheus label for the variable part of a prefix.
_PREFIX_LABELS = {
    "http": "envoy_http_conn_manager_prefix",
    "cluster": "envoy_cluster_name",
    "listener": "envoy_listener_address",
    "tcp": "envoy_tcp_prefix",
}
_CODE_CLASS = re.compile(r"_([1-5])xx$")


def stat_values(
    stats: Stats, extra: Iterable[tuple[str, int]], *, keep: NameFilter, used_only: bool
) -> Iterator[tuple[str, int | Histogram]]:
    """Every stat by its full name, sorted. `extra` are stats that live elsewhere (the xDS client's, the
    server's). `used_only` leaves out what is still 0 (Envoy: what was never written)."""
    values: list[tuple[str, int | Histogram]] = list(extra)
    for prefix, counters in stats.sets():
        values += ((f"{prefix}.{name}", value) for name, value in counters.items())
    for name, value in sorted(values, key=lambda item: item[0]):
        used = value.count if isinstance(value, Histogram) else value
        if keep(name) and (used or not used_only):
            yield name, value


def render_text(values: Iterable[tuple[str, int | Histogram]]) -> str:
    """``name: value`` lines, the histograms last, as Envoy prints them."""
    plain, histograms = [], []
    for name, value in values:
        if isinstance(value, Histogram):
            histograms.append(f"{name}: {_summary(value)}\n")
        else:
            plain.append(f"{name}: {value}\n")
    return "".join(plain + histograms)


def render_json(values: Iterable[tuple[str, int | Histogram]]) -> dict[str, object]:
    """Envoy's ``{"stats": [{"name", "value"}, …, {"histograms": …}]}``."""
    plain: list[dict[str, object]] = []
    histograms: list[dict[str, object]] = []
    for name, value in values:
        if isinstance(value, Histogram):
            computed = [{"interval": None, "cumulative": value.quantile(share)} for share in QUANTILES]
            histograms.append({"name": name, "values": computed})
        else:
            plain.append({"name": name, "value": value})
    if histograms:
        quantiles = [share * 100 for share in QUANTILES]
        plain.append({"histograms": {"supported_quantiles": quantiles, "computed_quantiles": histograms}})
    return {"stats": plain}


def render_prometheus(
    stats: Stats, extra: Iterable[tuple[str, int]], reporters: Iterable[RequestMetrics], *, used_only: bool
) -> str:
    """Everything in one page; samples of a family stand together, as the format demands."""
    families: dict[str, list[str]] = {}
    for prefix, counters in stats.sets():
        _envoy_samples(families, prefix, counters, used_only=used_only)
    for name, value in extra:
        metric = "envoy_" + _sanitise(name)
        family = families.setdefault(f"# TYPE {metric} {'gauge' if is_gauge(name) else 'counter'}\n", [])
        family.append(f"{metric}{{}} {value}\n")
    for reporter in reporters:
        _istio_samples(families, reporter)
    return "".join(head + "".join(samples) for head, samples in families.items())


def _envoy_samples(
    families: dict[str, list[str]], prefix: str, counters: Counters, *, used_only: bool
) -> None:
    group, _, variable = prefix.partition(".")
    for name, value in counters.items():
        labels = {_PREFIX_LABELS[group]: variable}
        metric = f"envoy_{group}_{_sanitise(name)}"
        code = _CODE_CLASS.search(metric)
        if code:
            labels = {"envoy_response_code_class": code[1], **labels}
            metric = _CODE_CLASS.sub("_xx", metric)
        if isinstance(value, Histogram):
            if value.count or not used_only:
                _histogram(families, metric, labels, value)
        elif value or not used_only:
            kind = "gauge" if is_gauge(name) else "counter"
            sample = f"{metric}{_labels(labels)} {value}\n"
            families.setdefault(f"# TYPE {metric} {kind}\n", []).append(sample)


def _istio_samples(families: dict[str, list[str]], reporter: RequestMetrics) -> None:
    for request in reporter.requests():
        _counter(families, "istio_requests_total", request.labels, request.duration_ms.count)
        _histogram(families, "istio_request_duration_milliseconds", request.labels, request.duration_ms)
        _histogram(families, "istio_request_bytes", request.labels, request.request_bytes)
        _histogram(families, "istio_response_bytes", request.labels, request.response_bytes)
    for tcp in reporter.connections():
        _counter(families, "istio_tcp_connections_opened_total", tcp.labels, tcp.opened)
        _counter(families, "istio_tcp_connections_closed_total", tcp.labels, tcp.closed)
        _counter(families, "istio_tcp_sent_bytes_total", tcp.labels, tcp.sent_bytes)
        _counter(families, "istio_tcp_received_bytes_total", tcp.labels, tcp.received_bytes)


def _counter(families: dict[str, list[str]], metric: str, labels: Labels, value: int) -> None:
    families.setdefault(f"# TYPE {metric} counter\n", []).append(f"{metric}{_labels(labels)} {value}\n")


def _histogram(families: dict[str, list[str]], metric: str, labels: Labels, value: Histogram) -> None:
    family = families.setdefault(f"# TYPE {metric} histogram\n", [])
    cumulative = 0
    for bound, count in zip(value.buckets, value.counts, strict=False):
        cumulative += count
        family.append(f"{metric}_bucket{_labels({**labels, 'le': f'{bound:g}'})} {cumulative}\n")
    family.append(f"{metric}_bucket{_labels({**labels, 'le': '+Inf'})} {value.count}\n")
    family.append(f"{metric}_sum{_labels(labels)} {value.total:g}\n")
    family.append(f"{metric}_count{_labels(labels)} {value.count}\n")


def _labels(labels: Labels) -> str:
    inner = ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items())
    return f"{{{inner}}}"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _sanitise(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_]", "_", name)


def _summary(histogram: Histogram) -> str:
    if not histogram.count:
        return "No recorded values"
    return " ".join(f"P{share * 100:g}(nan,{histogram.quantile(share):g})" for share in QUANTILES)
