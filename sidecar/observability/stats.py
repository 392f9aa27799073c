"""Counters that cost an integer addition, rendered only when somebody looks.

The slots of each class are Envoy's stat names under the prefix given in its docstring; `name__part` stands
for `name.part`. Slots ending in ``_active``, and the few of `GAUGES`, are gauges; histograms are their own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import ClassVar, TypeVar

# Milliseconds; istio_request_duration_milliseconds and Envoy's default buckets.
DURATION_BUCKETS_MS = (0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000,
                       600000, 1800000, 3600000)  # fmt: skip
SIZE_BUCKETS_BYTES = DURATION_BUCKETS_MS

GAUGES = frozenset({"membership_total", "membership_healthy", "membership_degraded", "membership_excluded",
                    "upstream_rq_pending_active"})  # fmt: skip


class Histogram:
    """Counts by bucket; `buckets` are inclusive upper bounds, and one more count is for what lies above."""

    __slots__ = ("buckets", "count", "counts", "total")

    def __init__(self, buckets: tuple[float, ...] = DURATION_BUCKETS_MS) -> None:
        self.buckets = buckets
        self.counts = [0] * (len(buckets) + 1)
        self.count = 0
        self.total = 0.0

    def record(self, value: float) -> None:
        self.counts[bisect_left(self.buckets, value)] += 1
        self.count += 1
        self.total += value

    def quantile(self, share: float) -> float:
        """The value below which `share` (0 to 1) of the records lie, interpolated within its bucket."""
        if not self.count:
            return 0.0
        rank, seen, lower = share * self.count, 0, 0.0
        for upper, count in zip(self.buckets, self.counts, strict=False):
            if count and seen + count >= rank:
                return lower + (upper - lower) * max(rank - seen, 0) / count
            seen += count
            lower = upper
        return lower


class Counters:
    """A set of counters: each slot starts at 0, or as an empty `Histogram` where `HISTOGRAMS` names it."""

    __slots__: tuple[str, ...] = ()
    HISTOGRAMS: ClassVar[frozenset[str]] = frozenset()

    def __init__(self) -> None:
        for slot in self.__slots__:
            setattr(self, slot, Histogram() if slot in self.HISTOGRAMS else 0)

    def items(self) -> Iterator[tuple[str, int | Histogram]]:
        """Each stat by its dotted name."""
        for slot in self.__slots__:
            yield slot.replace("__", "."), getattr(self, slot)


def is_gauge(name: str) -> bool:
    return name.endswith("_active") or name in GAUGES


class HttpConnectionManagerStats(Counters):
    """``http.<stat_prefix>.``"""

    __slots__ = (
        "downstream_cx_active",
        "downstream_cx_destroy",
        "downstream_cx_drain_close",
        "downstream_cx_idle_timeout",
        "downstream_cx_protocol_error",
        "downstream_cx_rx_bytes_total",
        "downstream_cx_total",
        "downstream_cx_tx_bytes_total",
        "downstream_cx_upgrades_active",
        "downstream_cx_upgrades_total",
        "downstream_rq_1xx",
        "downstream_rq_2xx",
        "downstream_rq_3xx",
        "downstream_rq_4xx",
        "downstream_rq_5xx",
        "downstream_rq_active",
        "downstream_rq_completed",
        "downstream_rq_header_timeout",
        "downstream_rq_idle_timeout",
        "downstream_rq_rx_reset",
        "downstream_rq_time",
        "downstream_rq_timeout",
        "downstream_rq_too_large",
        "downstream_rq_total",
        "no_cluster",
        "no_route",
        "rq_direct_response",
        "rq_redirect",
    )
    HISTOGRAMS = frozenset({"downstream_rq_time"})
    downstream_cx_active: int
    downstream_cx_destroy: int
    downstream_cx_drain_close: int
    downstream_cx_idle_timeout: int
    downstream_cx_protocol_error: int
    downstream_cx_rx_bytes_total: int
    downstream_cx_total: int
    downstream_cx_tx_bytes_total: int
    downstream_cx_upgrades_active: int
    downstream_cx_upgrades_total: int
    downstream_rq_1xx: int
    downstream_rq_2xx: int
    downstream_rq_3xx: int
    downstream_rq_4xx: int
    downstream_rq_5xx: int
    downstream_rq_active: int
    downstream_rq_completed: int
    downstream_rq_header_timeout: int
    downstream_rq_idle_timeout: int
    downstream_rq_rx_reset: int
    downstream_rq_time: Histogram
    downstream_rq_timeout: int
    downstream_rq_too_large: int
    downstream_rq_total: int
    no_cluster: int
    no_route: int
    rq_direct_response: int
    rq_redirect: int


class ClusterStats(Counters):
    """``cluster.<name>.``"""

    __slots__ = (
        "lb_healthy_panic",
        "membership_change",
        "membership_healthy",
        "membership_total",
        "outlier_detection__ejections_active",
        "outlier_detection__ejections_consecutive_5xx",
        "outlier_detection__ejections_detected_consecutive_5xx",
        "outlier_detection__ejections_detected_consecutive_gateway_failure",
        "outlier_detection__ejections_detected_consecutive_local_origin_failure",
        "outlier_detection__ejections_enforced_consecutive_5xx",
        "outlier_detection__ejections_enforced_consecutive_gateway_failure",
        "outlier_detection__ejections_enforced_consecutive_local_origin_failure",
        "outlier_detection__ejections_enforced_total",
        "outlier_detection__ejections_overflow",
        "retry_or_shadow_abandoned",
        "ssl__connection_error",
        "ssl__fail_verify_error",
        "ssl__handshake",
        "update_attempt",
        "update_empty",
        "update_failure",
        "update_success",
        "upstream_cx_active",
        "upstream_cx_connect_fail",
        "upstream_cx_connect_timeout",
        "upstream_cx_destroy",
        "upstream_cx_destroy_remote_with_active_rq",
        "upstream_cx_idle_timeout",
        "upstream_cx_max_requests",
        "upstream_cx_none_healthy",
        "upstream_cx_overflow",
        "upstream_cx_pool_overflow",
        "upstream_cx_rx_bytes_total",
        "upstream_cx_total",
        "upstream_cx_tx_bytes_total",
        "upstream_rq_1xx",
        "upstream_rq_2xx",
        "upstream_rq_3xx",
        "upstream_rq_4xx",
        "upstream_rq_5xx",
        "upstream_rq_active",
        "upstream_rq_cancelled",
        "upstream_rq_completed",
        "upstream_rq_pending_active",
        "upstream_rq_pending_failure_eject",
        "upstream_rq_pending_overflow",
        "upstream_rq_pending_total",
        "upstream_rq_per_try_timeout",
        "upstream_rq_retry",
        "upstream_rq_retry_limit_exceeded",
        "upstream_rq_retry_overflow",
        "upstream_rq_retry_success",
        "upstream_rq_rx_reset",
        "upstream_rq_time",
        "upstream_rq_timeout",
        "upstream_rq_total",
        "upstream_rq_tx_reset",
    )
    HISTOGRAMS = frozenset({"upstream_rq_time"})
    lb_healthy_panic: int
    membership_change: int
    membership_healthy: int
    membership_total: int
    outlier_detection__ejections_active: int
    outlier_detection__ejections_consecutive_5xx: int
    outlier_detection__ejections_detected_consecutive_5xx: int
    outlier_detection__ejections_detected_consecutive_gateway_failure: int
    outlier_detection__ejections_detected_consecutive_local_origin_failure: int
    outlier_detection__ejections_enforced_consecutive_5xx: int
    outlier_detection__ejections_enforced_consecutive_gateway_failure: int
    outlier_detection__ejections_enforced_consecutive_local_origin_failure: int
    outlier_detection__ejections_enforced_total: int
    outlier_detection__ejections_overflow: int
    retry_or_shadow_abandoned: int
    ssl__connection_error: int
    ssl__fail_verify_error: int
    ssl__handshake: int
    update_attempt: int
    update_empty: int
    update_failure: int
    update_success: int
    upstream_cx_active: int
    upstream_cx_connect_fail: int
    upstream_cx_connect_timeout: int
    upstream_cx_destroy: int
    upstream_cx_destroy_remote_with_active_rq: int
    upstream_cx_idle_timeout: int
    upstream_cx_max_requests: int
    upstream_cx_none_healthy: int
    upstream_cx_overflow: int
    upstream_cx_pool_overflow: int
    upstream_cx_rx_bytes_total: int
    upstream_cx_total: int
    upstream_cx_tx_bytes_total: int
    upstream_rq_1xx: int
    upstream_rq_2xx: int
    upstream_rq_3xx: int
    upstream_rq_4xx: int
    upstream_rq_5xx: int
    upstream_rq_active: int
    upstream_rq_cancelled: int
    upstream_rq_completed: int
    upstream_rq_pending_active: int
    upstream_rq_pending_failure_eject: int
    upstream_rq_pending_overflow: int
    upstream_rq_pending_total: int
    upstream_rq_per_try_timeout: int
    upstream_rq_retry: int
    upstream_rq_retry_limit_exceeded: int
    upstream_rq_retry_overflow: int
    upstream_rq_retry_success: int
    upstream_rq_rx_reset: int
    upstream_rq_time: Histogram
    upstream_rq_timeout: int
    upstream_rq_total: int
    upstream_rq_tx_reset: int


class HostStats(Counters):
    """One host of a cluster, as ``/clusters`` shows it."""

    __slots__ = ("cx_active", "cx_connect_fail", "cx_total", "rq_active", "rq_error", "rq_success", "rq_timeout",
                 "rq_total")  # fmt: skip
    cx_active: int
    cx_connect_fail: int
    cx_total: int
    rq_active: int
    rq_error: int
    rq_success: int
    rq_timeout: int
    rq_total: int


class ListenerStats(Counters):
    """``listener.<address>.``"""

    __slots__ = (
        "downstream_cx_active",
        "downstream_cx_destroy",
        "downstream_cx_overflow",
        "downstream_cx_total",
        "downstream_pre_cx_active",
        "downstream_pre_cx_timeout",
        "no_filter_chain_match",
        "ssl__connection_error",
        "ssl__fail_verify_error",
        "ssl__fail_verify_no_cert",
        "ssl__fail_verify_san",
        "ssl__handshake",
    )
    downstream_cx_active: int
    downstream_cx_destroy: int
    downstream_cx_overflow: int
    downstream_cx_total: int
    downstream_pre_cx_active: int
    downstream_pre_cx_timeout: int
    no_filter_chain_match: int
    ssl__connection_error: int
    ssl__fail_verify_error: int
    ssl__fail_verify_no_cert: int
    ssl__fail_verify_san: int
    ssl__handshake: int


class TcpProxyStats(Counters):
    """``tcp.<stat_prefix>.``"""

    __slots__ = (
        "downstream_cx_active",
        "downstream_cx_no_route",
        "downstream_cx_rx_bytes_total",
        "downstream_cx_total",
        "downstream_cx_tx_bytes_total",
        "idle_timeout",
    )
    downstream_cx_active: int
    downstream_cx_no_route: int
    downstream_cx_rx_bytes_total: int
    downstream_cx_total: int
    downstream_cx_tx_bytes_total: int
    idle_timeout: int


CountersT = TypeVar("CountersT", bound=Counters)


class Stats:
    """All counters of the process. The same prefix always gives the same object, so that a listener or a
    cluster that was replaced goes on counting."""

    def __init__(self) -> None:
        self._sets: dict[tuple[str, type[Counters]], Counters] = {}

    def http(self, stat_prefix: str) -> HttpConnectionManagerStats:
        return self._get(f"http.{stat_prefix}", HttpConnectionManagerStats)

    def cluster(self, name: str) -> ClusterStats:
        return self._get(f"cluster.{name}", ClusterStats)

    def listener(self, address: str) -> ListenerStats:
        return self._get(f"listener.{address}", ListenerStats)

    def tcp(self, stat_prefix: str) -> TcpProxyStats:
        return self._get(f"tcp.{stat_prefix}", TcpProxyStats)

    def forget_cluster(self, name: str) -> None:
        """A removed cluster's counters go with it: memory is bounded by what is configured."""
        self._sets.pop((f"cluster.{name}", ClusterStats), None)

    def sets(self) -> Iterator[tuple[str, Counters]]:
        """Each set of counters with its prefix."""
        for (prefix, _), counters in self._sets.items():
            yield prefix, counters

    def _get(self, prefix: str, kind: type[CountersT]) -> CountersT:
        counters = self._sets.get((prefix, kind))
        if counters is None:
            counters = self._sets[prefix, kind] = kind()
        assert isinstance(counters, kind)
        return counters
