"""``CircuitBreakers``. Defaults are Envoy's."""

from __future__ import annotations

from typing import Final

from sidecar.config.cluster import CircuitBreakers, RetryBudget
from sidecar.xds.decode.support import STATISTICS_ONLY, SupportTable, support
from sidecar.xds.decode.view import View

_MESSAGE = "envoy.config.cluster.v3.CircuitBreakers"

TABLE: Final[SupportTable] = {
    _MESSAGE: support("thresholds"),
    f"{_MESSAGE}.Thresholds": support(
        "priority max_connections max_pending_requests max_requests max_retries retry_budget",
        track_remaining=STATISTICS_ONLY,
    ),
    f"{_MESSAGE}.Thresholds.RetryBudget": support("budget_percent min_retry_concurrency"),
}


def decode_circuit_breakers(view: View) -> CircuitBreakers:
    """The thresholds of the default priority. Those of the high priority have no effect, because a route with
    the high priority is refused."""
    for thresholds in view.get("circuit_breakers").each("thresholds"):
        if thresholds.enum_name("priority") == "DEFAULT":
            return CircuitBreakers(
                max_connections=thresholds.wrapped("max_connections", 1024),
                max_pending_requests=thresholds.wrapped("max_pending_requests", 1024),
                max_requests=thresholds.wrapped("max_requests", 1024),
                max_retries=thresholds.wrapped("max_retries", 3),
                retry_budget=_retry_budget(thresholds.find("retry_budget")),
            )
    return CircuitBreakers()


def _retry_budget(budget: View | None) -> RetryBudget | None:
    if budget is None:
        return None
    percent = budget.find("budget_percent")
    return RetryBudget(
        budget_percent=20.0 if percent is None else float(percent.message.value),
        min_retry_concurrency=budget.wrapped("min_retry_concurrency", 3),
    )
