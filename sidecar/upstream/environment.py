"""The objects that all clusters share. They are injected, so that tests can use others."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sidecar.config.dns import SYSTEM_RESOLVER, DnsResolver
from sidecar.config.endpoint import SocketAddress
from sidecar.timers import Timers
from sidecar.upstream.connection import ConnectionFactory
from sidecar.upstream.connector import ClientTls
from sidecar.upstream.dns.question import Resolve
from sidecar.upstream.outlier_detection import HostEjection
from sidecar.upstream.shared_counters import WorkerCounters

if TYPE_CHECKING:
    from sidecar.upstream.cluster import Cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamEnvironment:
    """`resolve` is for the names in requests, and caches its answers; `default_resolver` is the bootstrap
    file's. `is_own_listener` tells whether an address leads back into this process. `draining` are the
    clusters that were removed, and may still have connections. `counters` are those that worker processes
    share, if there are several; `on_ejection` tells them of a host that is ejected or back."""

    loop: asyncio.AbstractEventLoop
    timers: Timers
    tls: ClientTls
    connection_factory: ConnectionFactory
    resolve: Resolve
    default_resolver: DnsResolver = SYSTEM_RESOLVER
    rng: random.Random = field(default_factory=random.Random)
    is_own_listener: Callable[[SocketAddress], bool] = lambda address: False
    draining: set[Cluster] = field(default_factory=set)
    counters: WorkerCounters | None = None
    on_ejection: Callable[[HostEjection], None] = lambda ejection: None

    def now_s(self) -> float:
        return self.loop.time()
