"""What the world gives to all clusters: injected, so that tests can give another one."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from sidecar.config.endpoint import SocketAddress
from sidecar.timers import Timers
from sidecar.upstream.connection import Connection
from sidecar.upstream.connector import ClientTls

Resolver = Callable[[str], Awaitable[Sequence[str]]]
"""The IP addresses of a name. Raises OSError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamEnvironment:
    """`is_own_listener` says which addresses would lead back into this very process."""

    loop: asyncio.AbstractEventLoop
    timers: Timers
    tls: ClientTls
    connection_factory: Callable[[], Connection]
    resolve: Resolver
    rng: random.Random = field(default_factory=random.Random)
    is_own_listener: Callable[[SocketAddress], bool] = lambda address: False

    def now_s(self) -> float:
        return self.loop.time()
