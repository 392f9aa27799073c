"""Counters that cost an integer addition, and are rendered only on request.

The fields of each class are Envoy's stat names under the prefix given in its docstring; `name__part` is
`name.part`. Those ending in ``_active``, and the few of `GAUGES` (some live elsewhere), are gauges.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Final, TypeVar

# Milliseconds; istio_request_duration_milliseconds and Envoy's default buckets. All are floats: to compare a
# float with an integer takes five times as long.
DURATION_BUCKETS_MS: Final[tuple[float, ...]] = (
    0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0, 30000.0, 60000.0,
    300000.0, 600000.0, 1800000.0, 3600000.0,
)  # fmt: skip
SIZE_BUCKETS_BYTES: Final[tuple[float, ...]] = DURATION_BUCKETS_MS

GAUGES = frozenset((
    "membership_healthy", "membership_total", "active_clusters", "active_faults", "warming_clusters",
    "total_listeners_warming", "total_listeners_draining", "connected_state", "update_time", "live", "state",
    "uptime", "concurrency", "workers_started", "days_until_first_cert_expiring",
    "seconds_until_first_cert_expiring", "pending_send_bytes",
))  # fmt: skip


class Histogram:
    """Counts by bucket. `buckets` are inclusive upper bounds; one more count is for larger values."""

    __slots__ = ("buckets", "counts", "total")

    def __init__(
        self,
        buckets: tuple[float, ...] = DURATION_BUCKETS_MS,
        counts: list[int] | None = None,
        total: float = 0.0,
    ) -> None:
        """Empty without `counts`."""
        self.buckets = buckets
        self.counts = [0] * (len(buckets) + 1) if counts is None else counts
        self.total = total

    def __reduce__(self) -> tuple[type[Histogram], tuple[tuple[float, ...], list[int], float]]:
        return Histogram, (self.buckets, self.counts, self.total)

    @property
    def count(self) -> int:
        return sum(self.counts)

    def record(self, value: float) -> None:
        index = 0
        for (
            bound
        ) in self.buckets:  # most values are small; a call of `bisect_left` costs more than ten bounds
            if value <= bound:
                break
            index += 1
        self.counts[index] += 1
        self.total += value

    def __add__(self, other: Histogram) -> Histogram:
        """The records of both. They have the same buckets."""
        counts = [count + more for count, more in zip(self.counts, other.counts, strict=True)]
        return Histogram(self.buckets, counts, self.total + other.total)

    def quantile(self, share: float) -> float:
        """The value below which `share` (0 to 1) of the records lie, interpolated within its bucket."""
        records = self.count
        if not records:
            return 0.0
        rank, seen, lower = share * records, 0, 0.0
        for upper, count in zip(self.buckets, self.counts, strict=False):
            if count and seen + count >= rank:
                return lower + (upper - lower) * max(rank - seen, 0) / count
            seen += count
            lower = upper
        return lower


@dataclass(slots=True, eq=False)
class Counters:
    """A set of counters and histograms, initially 0 and empty."""

    @classmethod
    @cache
    def names(cls) -> tuple[tuple[str, str], ...]:
        """Each stat's attribute, and its dotted name."""
        return tuple((stat.name, stat.name.replace("__", ".")) for stat in fields(cls))

    def __reduce__(self) -> tuple[type[Counters], tuple[int | Histogram, ...]]:
        """Half the bytes, and half the time, of a dictionary of names and values."""
        return type(self), tuple([getattr(self, attribute) for attribute, _ in self.names()])

    def items(self) -> Iterator[tuple[str, int | Histogram]]:
        """Each stat by its dotted name."""
        for attribute, name in self.names():
            yield name, getattr(self, attribute)


def is_gauge(name: str) -> bool:
    """By a stat's full or last name."""
    return name.endswith("_active") or name.rpartition(".")[2] in GAUGES


@dataclass(slots=True, eq=False)
class HttpConnectionManagerStats(Counters):
    """``http.<stat_prefix>.``"""

    downstream_cx_active: int = 0
    downstream_cx_destroy: int = 0
    downstream_cx_drain_close: int = 0
    downstream_cx_http1_active: int = 0
    downstream_cx_http1_total: int = 0
    downstream_cx_http2_active: int = 0
    downstream_cx_http2_total: int = 0
    downstream_cx_idle_timeout: int = 0
    downstream_cx_max_duration_reached: int = 0
    downstream_cx_protocol_error: int = 0
    downstream_cx_rx_bytes_total: int = 0
    downstream_cx_total: int = 0
    downstream_cx_tx_bytes_total: int = 0
    downstream_cx_upgrades_active: int = 0
    downstream_cx_upgrades_total: int = 0
    downstream_rq_1xx: int = 0
    downstream_rq_2xx: int = 0
    downstream_rq_3xx: int = 0
    downstream_rq_4xx: int = 0
    downstream_rq_5xx: int = 0
    downstream_rq_active: int = 0
    downstream_rq_completed: int = 0
    downstream_rq_failed_path_normalization: int = 0
    downstream_rq_header_timeout: int = 0
    downstream_rq_http1_total: int = 0
    downstream_rq_http2_total: int = 0
    downstream_rq_idle_timeout: int = 0
    downstream_rq_max_duration_reached: int = 0
    downstream_rq_response_before_rq_complete: int = 0
    downstream_rq_rx_reset: int = 0
    downstream_rq_time: Histogram = field(default_factory=Histogram)
    downstream_rq_timeout: int = 0
    downstream_rq_too_large: int = 0
    downstream_rq_too_many_premature_resets: int = 0
    downstream_rq_total: int = 0
    downstream_rq_tx_reset: int = 0
    no_cluster: int = 0
    no_route: int = 0
    rq_direct_response: int = 0


@dataclass(slots=True, eq=False)
class ClusterStats(Counters):
    """``cluster.<name>.``"""

    lb_healthy_panic: int = 0
    membership_change: int = 0
    membership_healthy: int = 0
    membership_total: int = 0
    outlier_detection__ejections_active: int = 0
    outlier_detection__ejections_consecutive_5xx: int = 0
    outlier_detection__ejections_detected_consecutive_5xx: int = 0
    outlier_detection__ejections_detected_consecutive_gateway_failure: int = 0
    outlier_detection__ejections_detected_consecutive_local_origin_failure: int = 0
    outlier_detection__ejections_enforced_consecutive_5xx: int = 0
    outlier_detection__ejections_enforced_consecutive_gateway_failure: int = 0
    outlier_detection__ejections_enforced_consecutive_local_origin_failure: int = 0
    outlier_detection__ejections_enforced_total: int = 0
    outlier_detection__ejections_overflow: int = 0
    outlier_detection__ejections_total: int = 0
    retry_or_shadow_abandoned: int = 0
    ssl__connection_error: int = 0
    ssl__fail_verify_error: int = 0
    ssl__fail_verify_san: int = 0
    ssl__handshake: int = 0
    update_attempt: int = 0
    update_failure: int = 0
    update_success: int = 0
    upstream_cx_active: int = 0
    upstream_cx_connect_fail: int = 0
    upstream_cx_connect_timeout: int = 0
    upstream_cx_destroy: int = 0
    upstream_cx_destroy_local_with_active_rq: int = 0
    upstream_cx_destroy_remote_with_active_rq: int = 0
    upstream_cx_destroy_with_active_rq: int = 0
    upstream_cx_http1_total: int = 0
    upstream_cx_http2_total: int = 0
    upstream_cx_idle_timeout: int = 0
    upstream_cx_max_duration_reached: int = 0
    upstream_cx_max_requests: int = 0
    upstream_cx_none_healthy: int = 0
    upstream_cx_overflow: int = 0
    upstream_cx_protocol_error: int = 0
    upstream_cx_rx_bytes_total: int = 0
    upstream_cx_total: int = 0
    upstream_cx_tx_bytes_total: int = 0
    upstream_rq_1xx: int = 0
    upstream_rq_2xx: int = 0
    upstream_rq_3xx: int = 0
    upstream_rq_4xx: int = 0
    upstream_rq_5xx: int = 0
    upstream_rq_active: int = 0
    upstream_rq_active_overflow: int = 0
    upstream_rq_cancelled: int = 0
    upstream_rq_completed: int = 0
    upstream_rq_pending_active: int = 0
    upstream_rq_pending_failure_eject: int = 0
    upstream_rq_pending_overflow: int = 0
    upstream_rq_pending_total: int = 0
    upstream_rq_per_try_timeout: int = 0
    upstream_rq_retry: int = 0
    upstream_rq_retry_limit_exceeded: int = 0
    upstream_rq_retry_overflow: int = 0
    upstream_rq_retry_success: int = 0
    upstream_rq_rx_reset: int = 0
    upstream_rq_time: Histogram = field(default_factory=Histogram)
    upstream_rq_timeout: int = 0
    upstream_rq_total: int = 0
    upstream_rq_tx_reset: int = 0


@dataclass(slots=True, eq=False)
class Http2Stats(Counters):
    """``http2.`` for all listeners, ``cluster.<name>.http2.`` for a cluster: the roots that Envoy has."""

    goaway_sent: int = 0
    header_list_size_too_large: int = 0
    header_overflow: int = 0
    inbound_empty_frames_flood: int = 0
    inbound_priority_frames_flood: int = 0
    inbound_window_update_frames_flood: int = 0
    keepalive_timeout: int = 0
    outbound_control_flood: int = 0
    outbound_flood: int = 0
    pending_send_bytes: int = 0
    rx_messaging_error: int = 0
    rx_reset: int = 0
    stream_refused_errors: int = 0
    streams_active: int = 0
    trailers: int = 0
    tx_flush_timeout: int = 0
    tx_reset: int = 0

    def count(self, name: str) -> None:
        """Counts what the codec names; an empty name counts nothing."""
        if name:
            setattr(self, name, getattr(self, name) + 1)


@dataclass(slots=True, eq=False)
class HostStats(Counters):
    """One host of a cluster, as ``/clusters`` shows it."""

    cx_active: int = 0
    cx_connect_fail: int = 0
    cx_total: int = 0
    rq_active: int = 0
    rq_error: int = 0
    rq_success: int = 0
    rq_timeout: int = 0
    rq_total: int = 0


@dataclass(slots=True, eq=False)
class ListenerStats(Counters):
    """``listener.<address>.``"""

    downstream_cx_active: int = 0
    downstream_cx_destroy: int = 0
    downstream_cx_overflow: int = 0
    downstream_cx_total: int = 0
    downstream_pre_cx_active: int = 0
    downstream_pre_cx_timeout: int = 0
    no_filter_chain_match: int = 0
    ssl__connection_error: int = 0
    ssl__fail_verify_error: int = 0
    ssl__fail_verify_no_cert: int = 0
    ssl__fail_verify_san: int = 0
    ssl__handshake: int = 0


@dataclass(slots=True, eq=False)
class TcpProxyStats(Counters):
    """``tcp.<stat_prefix>.``"""

    downstream_cx_active: int = 0
    downstream_cx_no_route: int = 0
    downstream_cx_rx_bytes_total: int = 0
    downstream_cx_total: int = 0
    downstream_cx_tx_bytes_total: int = 0
    idle_timeout: int = 0
    max_downstream_connection_duration: int = 0


@dataclass(slots=True, eq=False)
class GrpcStats(Counters):
    """``cluster.<name>.grpc.``, or ``cluster.<name>.grpc.<service>.<method>.``: the calls that a
    ``grpc_stats`` filter has seen; ``grpc-web`` for those of a ``grpc_web`` filter, which counts no messages.
    The names of the statuses are their numbers."""

    failure: int = 0
    request_message_count: int = 0
    response_message_count: int = 0
    success: int = 0
    total: int = 0
    status__0: int = 0
    status__1: int = 0
    status__2: int = 0
    status__3: int = 0
    status__4: int = 0
    status__5: int = 0
    status__6: int = 0
    status__7: int = 0
    status__8: int = 0
    status__9: int = 0
    status__10: int = 0
    status__11: int = 0
    status__12: int = 0
    status__13: int = 0
    status__14: int = 0
    status__15: int = 0
    status__16: int = 0

    @classmethod
    @cache
    def names(cls) -> tuple[tuple[str, str], ...]:
        return tuple((stat.name, stat.name.removeprefix("status__")) for stat in fields(cls))


# The names come from clients: calls of further methods are counted for the cluster only.
MOST_GRPC_METHODS: Final = 200


@dataclass(slots=True, eq=False)
class ProxyProtocolStats(Counters):
    """``proxy_proto.[<stat_prefix>.]``"""

    not_found_allowed: int = 0
    not_found_disallowed: int = 0
    versions__v1__disallowed: int = 0
    versions__v1__error: int = 0
    versions__v1__found: int = 0
    versions__v2__disallowed: int = 0
    versions__v2__error: int = 0
    versions__v2__found: int = 0


@dataclass(slots=True, eq=False)
class TracingStats(Counters):
    """``http.<stat_prefix>.``: requests by the reason for which Envoy would trace them."""

    tracing__client_enabled: int = 0
    tracing__not_traceable: int = 0
    tracing__random_sampling: int = 0
    tracing__service_forced: int = 0


CountersT = TypeVar("CountersT", bound=Counters)


def proxy_protocol_prefix(stat_prefix: str) -> str:
    return f"proxy_proto.{stat_prefix}" if stat_prefix else "proxy_proto"


class Stats:
    """All counters of a worker. The same prefix always returns the same object, so that a replaced listener
    or cluster continues to count."""

    def __init__(self) -> None:
        self._sets: dict[tuple[str, type[Counters]], Counters] = {}
        self._grpc: dict[str, dict[str, GrpcStats]] = {}  # by the cluster, and the rest of the prefix

    def counters(self, prefix: str, kind: type[CountersT]) -> CountersT:
        """The counters of this kind under a prefix. Several kinds can have one prefix."""
        counters = self._sets.get((prefix, kind))
        if counters is None:
            counters = self._sets[prefix, kind] = kind()
        assert isinstance(counters, kind)
        return counters

    def http(self, stat_prefix: str) -> HttpConnectionManagerStats:
        return self.counters(f"http.{stat_prefix}", HttpConnectionManagerStats)

    def tracing(self, stat_prefix: str) -> TracingStats:
        return self.counters(f"http.{stat_prefix}", TracingStats)

    def cluster(self, name: str) -> ClusterStats:
        return self.counters(f"cluster.{name}", ClusterStats)

    def http2(self, cluster: str = "") -> Http2Stats:
        """Those of a cluster, or of all listeners."""
        return self.counters(f"cluster.{cluster}.http2" if cluster else "http2", Http2Stats)

    def listener(self, address: str) -> ListenerStats:
        return self.counters(f"listener.{address}", ListenerStats)

    def tcp(self, stat_prefix: str) -> TcpProxyStats:
        return self.counters(f"tcp.{stat_prefix}", TcpProxyStats)

    def grpc(self, cluster: str, method: str = "", *, scope: str = "grpc") -> GrpcStats:
        """`method` is ``<service>.<method>``; empty for the calls of all methods."""
        methods = self._grpc.setdefault(cluster, {})
        prefix = f"{scope}.{method}" if method else scope
        if prefix not in methods and len(methods) >= MOST_GRPC_METHODS:
            prefix = scope
        return methods.setdefault(prefix, GrpcStats())

    def proxy_protocol(self, stat_prefix: str) -> ProxyProtocolStats:
        return self.counters(proxy_protocol_prefix(stat_prefix), ProxyProtocolStats)

    def forget_cluster(self, name: str) -> None:
        """Removes the counters of a removed cluster: the configuration bounds the memory."""
        self._grpc.pop(name, None)
        self._sets.pop((f"cluster.{name}", ClusterStats), None)
        self._sets.pop((f"cluster.{name}.http2", Http2Stats), None)

    def keep_listeners(self, prefixes: Collection[str]) -> None:
        """Removes the counters of listeners, HTTP connection managers and TCP proxies with other prefixes."""
        for prefix, kind in list(self._sets):
            if kind is not ClusterStats and kind is not Http2Stats and prefix not in prefixes:
                del self._sets[prefix, kind]

    def sets(self) -> Iterator[tuple[str, Counters]]:
        """Each set of counters with its prefix."""
        for cluster, methods in self._grpc.items():
            for rest, stats in methods.items():
                yield f"cluster.{cluster}.{rest}", stats
        for (prefix, _), counters in self._sets.items():
            yield prefix, counters
