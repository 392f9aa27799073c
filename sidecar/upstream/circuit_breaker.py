"""The limits of one cluster: how many connections, requests and retries at a time.

Source: ``envoy.config.cluster.v3.CircuitBreakers.Thresholds``, priority DEFAULT.
"""

from __future__ import annotations

from sidecar.config.cluster import CircuitBreakers
from sidecar.upstream.shared_counters import SharedRow


class LimitedResource:
    """`count` is how many this worker uses now. `maximum` is for all workers together, if the count is
    `shared` with them."""

    __slots__ = ("_column", "_shared", "count", "maximum")

    def __init__(self, maximum: int, shared: SharedRow | None, column: int) -> None:
        self.count = 0
        self.maximum = maximum
        self._shared = shared
        self._column = column

    def total(self) -> int:
        """How many all workers use now."""
        shared = self._shared
        return self.count if shared is None else self.count + shared.others(self._column)

    def begin(self) -> bool:
        """Counts one more, unless the maximum is reached. Returns whether it has counted."""
        shared = self._shared
        count = self.count if shared is None else self.count + shared.others(self._column)
        if count >= self.maximum:
            return False
        self.count += 1
        if shared is not None:
            shared.publish(self._column, self.count)
        return True

    def force(self) -> None:
        """Counts one more, whatever the maximum."""
        self.count += 1
        if self._shared is not None:
            self._shared.publish(self._column, self.count)

    def end(self) -> None:
        self.count -= 1
        if self._shared is not None:
            self._shared.publish(self._column, self.count)

    def leave(self) -> None:
        """From now on the count is not that of the other workers."""
        if self._shared is not None:
            self._shared.publish(self._column, 0)
            self._shared = None


class CircuitBreaker:
    """The resources of a cluster. `requests` have a connection, `pending_requests` wait for one."""

    __slots__ = ("_budget", "connections", "pending_requests", "requests", "retries")

    def __init__(self, limits: CircuitBreakers, shared: SharedRow | None = None) -> None:
        self._budget = limits.retry_budget
        self.connections = LimitedResource(limits.max_connections, shared, 0)
        self.pending_requests = LimitedResource(limits.max_pending_requests, shared, 1)
        self.requests = LimitedResource(limits.max_requests, shared, 2)
        self.retries = LimitedResource(limits.max_retries, shared, 3)

    def begin_retry(self) -> bool:
        """As `retries.begin`. With a budget, retries are a share of the active and waiting requests, and
        ``max_retries`` does not apply."""
        budget = self._budget
        if budget is None:
            return self.retries.begin()
        share = budget.budget_percent / 100 * (self.requests.total() + self.pending_requests.total())
        if self.retries.total() >= max(share, budget.min_retry_concurrency):
            return False
        self.retries.force()
        return True

    def leave(self) -> None:
        """The cluster was removed or replaced: its last requests count neither for the other workers, nor for
        the cluster that replaces it."""
        for resource in (self.connections, self.pending_requests, self.requests, self.retries):
            resource.leave()
