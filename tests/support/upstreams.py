"""Upstream hosts and connections without sockets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sidecar.config.endpoint import Endpoint, HealthStatus, SocketAddress
from sidecar.observability.stats import HostStats
from sidecar.upstream.connection import ConnectionEvents
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
    """A `ClientConnection` that multiplexes exchanges: each ends when the test says so."""

    def __init__(self, capacity: int = 1) -> None:
        self.capacity = capacity
        self.closed = False
        self.closed_by_peer = False
        self.cut_short = 0
        self.received_bytes = 0
        self.sent_bytes = 0
        self.events: ConnectionEvents | None = None
        self.goaway = False
        self.under_way = 0

    async def send(self, request: object, /) -> object:
        self.under_way += 1
        self.sent_bytes += 10
        return request

    def end_exchange(self) -> None:
        self.under_way -= 1
        self.received_bytes += 10
        assert self.events is not None
        self.events.exchange_ended()

    def limit(self, capacity: int) -> None:
        """SETTINGS_MAX_CONCURRENT_STREAMS."""
        self.capacity = capacity
        assert self.events is not None
        self.events.capacity_changed()

    def go_away(self) -> None:
        self.goaway = True
        assert self.events is not None
        self.events.draining()

    def lose(self) -> None:
        """The peer closes it."""
        self.closed_by_peer = True
        self.close()

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self.cut_short = self.under_way
        self.under_way = 0
        if self.events is not None:
            self.events.closed()
