"""The limits of one cluster: how many connections, requests and retries at a time. Pure.

Source: ``envoy.config.cluster.v3.CircuitBreakers.Thresholds``, priority DEFAULT.
"""

from __future__ import annotations

from sidecar.config.cluster import CircuitBreakers


class CircuitBreaker:
    """Counts of a cluster, and whether they may grow. The callers count up and down."""

    __slots__ = ("connections", "limits", "pending_requests", "requests", "retries")

    def __init__(self, limits: CircuitBreakers) -> None:
        self.limits = limits
        self.connections = 0
        self.pending_requests = 0
        self.requests = 0
        self.retries = 0

    def may_connect(self) -> bool:
        return self.connections < self.limits.max_connections

    def may_wait(self) -> bool:
        return self.pending_requests < self.limits.max_pending_requests

    def may_request(self) -> bool:
        return self.requests < self.limits.max_requests

    def may_retry(self) -> bool:
        """With a budget, retries are a share of the active and waiting requests, and ``max_retries`` does not
        apply."""
        budget = self.limits.retry_budget
        if budget is None:
            return self.retries < self.limits.max_retries
        share = budget.budget_percent / 100 * (self.requests + self.pending_requests)
        return self.retries < max(share, budget.min_retry_concurrency)
