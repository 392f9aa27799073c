"""``/stats`` and ``/stats/prometheus``."""

from __future__ import annotations

from sidecar.admin.answers import PROMETHEUS, Query, json_page, page, wanted_format, wanted_names
from sidecar.admin.state import AdminView
from sidecar.http.message import Response
from sidecar.observability.exposition import (
    Value,
    Wanted,
    is_used,
    json_batches,
    prometheus_pieces,
    stat_values,
    text_pieces,
)


async def stats(view: AdminView, query: Query) -> Response:
    """``?filter=REGEX`` (RE2, anywhere in the name), ``?usedonly``, ``?format=json|prometheus``."""
    format_ = wanted_format(query, "text", "json", "prometheus")
    if format_ == "prometheus":
        return await prometheus(view, query)
    wanted = _wanted(query)
    report = await view.workers.stats()
    values = stat_values(report.counters, await view.extra_stats(), wanted)
    return json_page("stats", json_batches(values)) if format_ == "json" else page(text_pieces(values))


async def prometheus(view: AdminView, query: Query) -> Response:
    """``?filter`` and ``?usedonly`` as above; Istio's metrics are always shown."""
    wanted = _wanted(query)
    report = await view.workers.stats()
    return page(prometheus_pieces(report, await view.extra_stats(), wanted), PROMETHEUS)


def _wanted(query: Query) -> Wanted:
    pattern, used_only = wanted_names(query), "usedonly" in query

    def wanted(name: str, value: Value) -> bool:
        return (not used_only or is_used(value)) and (pattern is None or pattern.search(name) is not None)

    return wanted
