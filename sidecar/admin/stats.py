"""``/stats`` and ``/stats/prometheus``."""

from __future__ import annotations

import re2

from sidecar.admin.answers import PROMETHEUS, AdminError, Answer, Query, text, wanted_format
from sidecar.admin.state import AdminView
from sidecar.observability.exposition import render_json, render_prometheus, render_text, stat_values


def stats(view: AdminView, query: Query) -> Answer:
    """``?filter=REGEX`` (RE2, anywhere in the name), ``?usedonly``, ``?format=json|prometheus``."""
    format_ = wanted_format(query, "text", "json", "prometheus")
    if format_ == "prometheus":
        return prometheus(view, query)
    view.refresh_stats()
    pattern = _compile(query.get("filter", ""))
    values = stat_values(
        view.stats,
        view.extra_stats(),
        keep=lambda name: pattern.search(name) is not None,
        used_only="usedonly" in query,
    )
    return render_json(values) if format_ == "json" else render_text(values)


def prometheus(view: AdminView, query: Query) -> Answer:
    view.refresh_stats()
    page = render_prometheus(view.stats, view.extra_stats(), view.reporters, used_only="usedonly" in query)
    return text(page, content_type=PROMETHEUS)


def _compile(pattern: str) -> re2._Regexp:
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        raise AdminError(f"filter: not a regular expression: {error}") from error
