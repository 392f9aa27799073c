"""Upstream hosts and connections without sockets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sidecar.config.endpoint import Endpoint, HealthStatus, SocketAddress
from sidecar.observability.stats import HostStats
from sidecar.upstream.connection import ConnectionObserver
from sidecar.upstream.outlier_detection import HostMonitor


def endpoint(
    number: int = 1,
    *,
    weight: int = 1,
    priority: int = 0,
    health: HealthStatus = HealthStatus.UNKNOWN,
    labels: Mapping[str, str] | None = None,
) -> Endpoint:
    return Endpoint(
        address=SocketAddress(f"10.0.0.{number}", 9080),
        weight=weight,
        priority=priority,
        health=health,
        subset_labels=labels or {},
    )


@dataclass(eq=False)
class FakeHost:
    """What balancers and outlier detection see of a host."""

    endpoint: Endpoint
    stats: HostStats = field(default_factory=HostStats)
    monitor: HostMonitor = field(default_factory=HostMonitor)

    @property
    def weight(self) -> int:
        return self.endpoint.weight

    @property
    def healthy(self) -> bool:
        return not self.monitor.ejected and self.endpoint.health is HealthStatus.UNKNOWN

    @property
    def degraded(self) -> bool:
        return not self.monitor.ejected and self.endpoint.health is HealthStatus.DEGRADED


class FakeConnection:
    """A `Connection` that carries nothing."""

    def __init__(self, capacity: int = 1) -> None:
        self.closed = False
        self.closed_by_peer = False
        self.cut_short = 0
        self.active = 0
        self.capacity = capacity
        self.received_bytes = 0
        self.sent_bytes = 0
        self.observer: ConnectionObserver | None = None

    def close(self) -> None:
        self.closed = True
        if self.observer is not None:
            self.observer.connection_closed(self)

    async def send(self, request: object, /) -> object:
        return request
