"""A route that sends requests on, compiled: which cluster, what is rewritten, how long, how often.

Source: ``envoy.config.route.v3.RouteAction``.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping
from itertools import accumulate
from random import random

from sidecar.config.route import ForwardAction, HeaderOperations, RetryPolicy, RouteMatch, WeightedCluster
from sidecar.errors import ConfigError
from sidecar.router.header_operations import HeaderMutations, compile_header_operations
from sidecar.router.retry import RetryRules
from sidecar.router.rewrite import PathRewrite, compile_path_rewrite
from sidecar.upstream.load_balancer.subset import SubsetKey, subset_key

# Its multiples, modulo 1, are spread more evenly than those of any other number (a Weyl sequence).
_GOLDEN_RATIO = (5**0.5 - 1) / 2


def timeout_ms(timeout_s: float) -> bytes:
    """As ``x-envoy-expected-rq-timeout-ms`` says it: at least a millisecond, as 0 would mean for ever."""
    return b"%d" % max(1, round(timeout_s * 1000))


class Destination:
    """One of the clusters that a route may choose, with what the choice entails."""

    __slots__ = ("cluster", "headers", "host_rewrite", "subset")

    def __init__(
        self,
        weighted: WeightedCluster,
        levels: tuple[HeaderOperations, ...],
        metadata_match: Mapping[str, str],
    ) -> None:
        self.cluster = weighted.name
        self.headers: HeaderMutations = compile_header_operations((weighted.headers, *levels))
        self.host_rewrite = weighted.host_rewrite.encode()
        self.subset: SubsetKey = subset_key({**metadata_match, **weighted.metadata_match})


class Forward:
    """What the router reads of a route, once a request."""

    __slots__ = (
        "_bounds",
        "_destinations",
        "_point",
        "_total_weight",
        "append_x_forwarded_host",
        "auto_host_rewrite",
        "cluster_header",
        "cluster_not_found_status",
        "expected_timeout_ms",
        "host_rewrite",
        "path_rewrite",
        "replay_limit_bytes",
        "retry",
        "terminate_connect",
        "timeout_s",
        "upgrades",
    )

    def __init__(
        self,
        action: ForwardAction,
        match: RouteMatch,
        levels: tuple[HeaderOperations, ...],
        virtual_host_retry: RetryPolicy | None,
    ) -> None:
        self.cluster_header = action.cluster_header.lower().encode()
        # A cluster named by a header has no weight and no name yet: it shares what the route says of all.
        clusters = action.clusters or (WeightedCluster(name=""),)
        self._destinations = tuple(
            Destination(weighted, levels, action.metadata_match) for weighted in clusters
        )
        self._bounds = tuple(accumulate(weighted.weight for weighted in clusters))
        self._total_weight = self._bounds[-1]
        if self._total_weight == 0:
            raise ConfigError("weighted_clusters", "the sum of the weights is 0")
        # Not the same everywhere: a fleet of sidecars must not send its canary requests in step.
        self._point = random()
        self.path_rewrite: PathRewrite | None = compile_path_rewrite(
            match, action.prefix_rewrite, action.regex_rewrite
        )
        self.append_x_forwarded_host = action.append_x_forwarded_host
        self.host_rewrite = action.host_rewrite.encode()
        self.auto_host_rewrite = action.auto_host_rewrite
        self.cluster_not_found_status = action.cluster_not_found_status
        self.retry = RetryRules(action.retry_policy or virtual_host_retry)
        self.replay_limit_bytes = action.replay_limit_bytes
        self.terminate_connect = action.terminate_connect
        self.timeout_s = action.timeout_s
        self.expected_timeout_ms = timeout_ms(self.retry.per_try_timeout_s or self.timeout_s)
        self.upgrades = action.upgrades

    def choose(self) -> Destination:
        """Each destination gets its share of [0, 1), and the sequence of points there is an even one: a
        canary has its share over tens of requests, and not in the long run alone."""
        if len(self._destinations) == 1:
            return self._destinations[0]
        self._point = (self._point + _GOLDEN_RATIO) % 1.0
        return self._destinations[bisect(self._bounds, self._point * self._total_weight)]
