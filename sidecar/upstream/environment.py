"""What the world gives to all clusters: injected, so that tests can give another one."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from sidecar.config.dns import SYSTEM_RESOLVER, DnsResolver
from sidecar.config.endpoint import SocketAddress
from sidecar.timers import Timers
from sidecar.upstream.connection import ClientConnection
from sidecar.upstream.connector import ClientTls
from sidecar.upstream.dns.question import Resolve


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamEnvironment:
    """`resolve` is for names that requests bring, and remembers for a moment; `default_resolver` is the
    bootstrap file's. `is_own_listener` says which addresses would lead back into this very process."""

    loop: asyncio.AbstractEventLoop
    timers: Timers
    tls: ClientTls
    connection_factory: Callable[[str], ClientConnection]
    resolve: Resolve
    default_resolver: DnsResolver = SYSTEM_RESOLVER
    rng: random.Random = field(default_factory=random.Random)
    is_own_listener: Callable[[SocketAddress], bool] = lambda address: False

    def now_s(self) -> float:
        return self.loop.time()
