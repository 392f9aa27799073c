"""Passive health checking: a host that keeps failing is ejected for a while. Pure; the time is passed in.

Source: ``envoy.config.cluster.v3.OutlierDetection`` and Envoy's "Outlier detection" architecture page.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from random import Random

from sidecar.config.cluster import OutlierDetection
from sidecar.config.endpoint import SocketAddress
from sidecar.observability.stats import ClusterStats

_GATEWAY_ERRORS = frozenset({502, 503, 504})


@dataclass(frozen=True, slots=True, kw_only=True)
class HostEjection:
    """A host is ejected, or is back (`since_s` None). For the other workers: `since_s` is the time of the
    monotonic clock, which all processes share; `multiplier` is that of `HostMonitor`."""

    cluster: str
    address: SocketAddress
    since_s: float | None = None
    multiplier: int = 0


class HostMonitor:
    """The record of one host."""

    __slots__ = (
        "consecutive_5xx",
        "consecutive_gateway_failure",
        "consecutive_local_origin_failure",
        "departed",
        "ejected",
        "ejected_at_s",
        "ejection_count",
        "ejection_multiplier",
    )

    def __init__(self) -> None:
        self.consecutive_5xx = 0
        self.consecutive_gateway_failure = 0
        self.consecutive_local_origin_failure = 0
        self.departed = False
        """Has left the cluster: its last requests may still fail, but it is not ejected any more."""
        self.ejected = False
        self.ejected_at_s = 0.0
        self.ejection_count = 0
        self.ejection_multiplier = 0
        """Ejections last this many times the base time. It grows with each, and shrinks between them."""


class _Cause(Enum):
    """Why a host is ejected. The values are parts of stat names."""

    CONSECUTIVE_5XX = "consecutive_5xx"
    GATEWAY_FAILURE = "consecutive_gateway_failure"
    LOCAL_ORIGIN_FAILURE = "consecutive_local_origin_failure"


class OutlierDetector:
    """Decides for the hosts of one cluster. Methods return whether the host's ejection has changed, so
    that the caller can update the balancer."""

    def __init__(self, config: OutlierDetection, stats: ClusterStats, rng: Random) -> None:
        self.config = config
        self._stats = stats
        self._rng = rng
        self.host_count = 0
        """Set by the cluster: the maximum ejection percentage is of all its hosts."""
        self._set_ejected_count(0)  # the statistics may be those of a cluster that this one replaces
        self._enforcing = {
            _Cause.CONSECUTIVE_5XX: config.enforcing_consecutive_5xx,
            _Cause.GATEWAY_FAILURE: config.enforcing_consecutive_gateway_failure,
            _Cause.LOCAL_ORIGIN_FAILURE: config.enforcing_consecutive_local_origin_failure,
        }

    def success(self, monitor: HostMonitor) -> None:
        """The host answered, and not with a 5xx; or, for protocols other than HTTP, accepted a connection."""
        monitor.consecutive_5xx = 0
        monitor.consecutive_gateway_failure = 0
        monitor.consecutive_local_origin_failure = 0

    def server_error(self, monitor: HostMonitor, status: int, now_s: float) -> bool:
        """The host answered with a `status` of 500 or more."""
        if self.config.split_external_local_origin_errors:
            monitor.consecutive_local_origin_failure = 0
        return self._external_failure(monitor, status, now_s)

    def local_origin_failure(self, monitor: HostMonitor, status: int, now_s: float) -> bool:
        """The host did not answer: not connected, reset, or timed out. Unless these errors are split from the
        host's own, they count as the `status` that the client gets."""
        if not self.config.split_external_local_origin_errors:
            return self._external_failure(monitor, status, now_s)
        monitor.consecutive_local_origin_failure += 1
        if monitor.consecutive_local_origin_failure != self.config.consecutive_local_origin_failure:
            return False
        monitor.consecutive_local_origin_failure = 0
        return self._detected(monitor, _Cause.LOCAL_ORIGIN_FAILURE, now_s)

    def _external_failure(self, monitor: HostMonitor, status: int, now_s: float) -> bool:
        ejected = False
        if status in _GATEWAY_ERRORS:
            monitor.consecutive_gateway_failure += 1
            if monitor.consecutive_gateway_failure == self.config.consecutive_gateway_failure:
                monitor.consecutive_gateway_failure = 0
                ejected = self._detected(monitor, _Cause.GATEWAY_FAILURE, now_s)
        else:
            monitor.consecutive_gateway_failure = 0
        monitor.consecutive_5xx += 1
        if monitor.consecutive_5xx == self.config.consecutive_5xx:
            monitor.consecutive_5xx = 0
            ejected = self._detected(monitor, _Cause.CONSECUTIVE_5XX, now_s) or ejected
        return ejected

    def _detected(self, monitor: HostMonitor, cause: _Cause, now_s: float) -> bool:
        if monitor.ejected or monitor.departed:
            return False
        stats = self._stats
        self._count(f"outlier_detection__ejections_detected_{cause.value}")
        if cause is _Cause.CONSECUTIVE_5XX:
            stats.outlier_detection__ejections_consecutive_5xx += 1
        if not self._may_eject_another():
            stats.outlier_detection__ejections_overflow += 1
            return False
        if cause is _Cause.CONSECUTIVE_5XX:
            stats.outlier_detection__ejections_total += 1
        if self._rng.random() * 100 >= self._enforcing[cause]:
            return False
        self._count(f"outlier_detection__ejections_enforced_{cause.value}")
        stats.outlier_detection__ejections_enforced_total += 1
        self._eject(monitor, now_s)
        return True

    def _count(self, stat: str) -> None:
        setattr(self._stats, stat, getattr(self._stats, stat) + 1)

    def _may_eject_another(self) -> bool:
        """Whether one more ejection is within ``max_ejection_percent``: at the default of 10 a cluster of
        fewer than ten hosts loses none, unless ``always_eject_one_host`` is set."""
        if self.config.always_eject_one_host and self.ejected_count == 0:
            return True
        return (self.ejected_count + 1) * 100 <= self.config.max_ejection_percent * self.host_count

    def _eject(self, monitor: HostMonitor, now_s: float) -> None:
        config = self.config
        monitor.ejected = True
        monitor.ejected_at_s = now_s
        monitor.ejection_count += 1
        base_s = config.base_ejection_time_s
        if base_s * monitor.ejection_multiplier < config.max_ejection_time_s + base_s:
            monitor.ejection_multiplier += 1
        self._set_ejected_count(self.ejected_count + 1)

    def _ejection_time_s(self, monitor: HostMonitor) -> float:
        config = self.config
        return min(config.base_ejection_time_s * monitor.ejection_multiplier, config.max_ejection_time_s)

    def tick(self, monitor: HostMonitor, now_s: float) -> bool:
        """Called for each host every ``interval_s``. Ends an ejection that has lasted; the next one of
        a host that is not ejected is shorter."""
        if not monitor.ejected:
            monitor.ejection_multiplier = max(monitor.ejection_multiplier - 1, 0)
            return False
        if now_s - monitor.ejected_at_s < self._ejection_time_s(monitor):
            return False
        self._uneject(monitor)
        return True

    def follow(self, monitor: HostMonitor, ejection: HostEjection) -> bool:
        """Another worker has decided. Its ejection ends here when it ends there."""
        if monitor.departed or monitor.ejected == (ejection.since_s is not None):
            return False
        if ejection.since_s is None:
            self._uneject(monitor)
        else:
            self._eject(monitor, ejection.since_s)
            monitor.ejection_multiplier = ejection.multiplier
        return True

    def _uneject(self, monitor: HostMonitor) -> None:
        monitor.ejected = False
        self.success(monitor)
        self._set_ejected_count(self.ejected_count - 1)

    def forget(self, monitor: HostMonitor) -> None:
        """The host has left the cluster, or the cluster is no longer in service."""
        monitor.departed = True
        if monitor.ejected:
            self._set_ejected_count(self.ejected_count - 1)

    def _set_ejected_count(self, count: int) -> None:
        self.ejected_count = count
        self._stats.outlier_detection__ejections_active = count
