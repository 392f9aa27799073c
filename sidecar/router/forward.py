"""A route that sends requests to a cluster, compiled: destinations, rewrites, timeouts, retries.

Source: ``envoy.config.route.v3.RouteAction``.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping
from itertools import accumulate
from random import Random

from sidecar.config.route import ForwardAction, HeaderOperations, RetryPolicy, RouteMatch, WeightedCluster
from sidecar.http.headers import Headers, get_header
from sidecar.router.even_points import EvenPoints
from sidecar.router.filter_config import FilterLevels, RouteFilterConfigs
from sidecar.router.grpc_timeout import CallTimeout
from sidecar.router.header_operations import HeaderMutations, compile_header_operations
from sidecar.router.retry import retry_rules
from sidecar.router.rewrite import PathRewrite, compile_path_rewrite
from sidecar.router.stream_duration import StreamDuration
from sidecar.upstream.load_balancer.context import PickContext, subset_key

# Each process has its own seed: a fleet of sidecars must not send its canary requests at the same time.
_RNG = Random()
_NO_LEVELS = FilterLevels()


def timeout_ms(timeout_s: float) -> bytes:
    """The value of ``x-envoy-expected-rq-timeout-ms``: at least 1, because 0 means no timeout."""
    return b"%d" % max(1, round(timeout_s * 1000))


class Destination:
    """One of the clusters of a route, with what applies to the requests that go there. `cluster` is empty
    if a header of the request names it."""

    __slots__ = ("cluster", "context", "headers", "host_rewrite", "per_filter_config")

    def __init__(
        self,
        weighted: WeightedCluster,
        levels: tuple[HeaderOperations, ...],
        metadata_match: Mapping[str, str],
        filter_levels: FilterLevels,
    ) -> None:
        self.cluster = weighted.name
        self.per_filter_config: RouteFilterConfigs = filter_levels.with_level(
            weighted.per_filter_config
        ).merge()
        self.headers: HeaderMutations = compile_header_operations((weighted.headers, *levels))
        self.host_rewrite = weighted.host_rewrite.encode()
        self.context = PickContext(subset_key({**metadata_match, **weighted.metadata_match}))


class Forward:
    """The part of a route that the router reads for each request."""

    __slots__ = (
        "_bounds",
        "_cluster_header",
        "_destinations",
        "_points",
        "_total_weight",
        "append_x_forwarded_host",
        "auto_host_rewrite",
        "call_timeout",
        "cluster_not_found_status",
        "duration",
        "expected_timeout_ms",
        "host_rewrite",
        "only_destination",
        "path_rewrite",
        "replay_limit_bytes",
        "retry",
        "rewrites",
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
        rng: Random = _RNG,
        filter_levels: FilterLevels = _NO_LEVELS,
    ) -> None:
        self._cluster_header = action.cluster_header.encode()
        # A cluster that a header names has no weight and no name here; the options of the route apply to it.
        clusters = action.clusters or (WeightedCluster(name=""),)
        destinations = tuple(
            Destination(weighted, levels, action.metadata_match, filter_levels) for weighted in clusters
        )
        self.only_destination = destinations[0] if len(destinations) == 1 else None
        self._destinations = destinations
        self._bounds = tuple(accumulate(weighted.weight for weighted in clusters))
        self._total_weight = self._bounds[-1]
        self._points = EvenPoints(rng)
        self.path_rewrite: PathRewrite | None = compile_path_rewrite(
            match, action.prefix_rewrite, action.regex_rewrite
        )
        self.append_x_forwarded_host = action.append_x_forwarded_host
        self.host_rewrite = action.host_rewrite.encode()
        self.auto_host_rewrite = action.auto_host_rewrite
        self.cluster_not_found_status = action.cluster_not_found_status
        self.retry = retry_rules(action.retry_policy or virtual_host_retry)
        self.replay_limit_bytes = action.replay_limit_bytes
        self.terminate_connect = action.terminate_connect
        # Envoy: the limit on the duration of a stream replaces the timeouts, also those of gRPC calls.
        limits = action.max_stream_duration
        self.duration = None if limits is None else StreamDuration(limits)
        self.timeout_s = action.timeout_s if limits is None else 0.0
        self.call_timeout: CallTimeout | None = None
        if limits is None and action.max_grpc_timeout_s is not None:
            self.call_timeout = CallTimeout(action.max_grpc_timeout_s, action.grpc_timeout_offset_s)
        self.expected_timeout_ms = timeout_ms(self.retry.per_try_timeout_s or self.timeout_s)
        self.upgrades = action.upgrades
        self.rewrites = bool(
            self.host_rewrite
            or self.path_rewrite is not None
            or any(destination.headers.request or destination.host_rewrite for destination in destinations)
        )

    def cluster_from_header(self, headers: Headers) -> str:
        """The name of the cluster, for a destination that has none; empty if the header is missing."""
        return (get_header(headers, self._cluster_header) or b"").decode("latin-1")

    def choose(self) -> Destination:
        """Each destination has its share of [0, 1); the next even point lies in the share of the chosen
        one."""
        if self.only_destination is not None:
            return self.only_destination
        return self._destinations[bisect(self._bounds, self._points.next() * self._total_weight)]
