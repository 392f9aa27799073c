"""The workers as the supervisor sees them: one `Worker` in its own process, or `RemoteWorkers`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Set
from typing import Protocol

from sidecar.admin.state import WorkerReports
from sidecar.config.cluster import ClusterConfig
from sidecar.config.listener import TrafficDirection
from sidecar.config.snapshot import Snapshot
from sidecar.errors import ConfigError
from sidecar.identity.svid_pem import SvidPem

OnWarm = Callable[[], None]
"""Called when the answer of `resolve_first` may have changed."""


class Workers(WorkerReports, Protocol):
    """Each method reaches every worker, and returns when all have answered. Their reports are merged."""

    @property
    def warming_listeners(self) -> frozenset[str]:
        """The names of listeners that wait for a certificate or for their routes, in any worker."""

    async def resolve_first(self, clusters: Mapping[str, ClusterConfig]) -> Set[str]:
        """As `ClusterManager.resolve_first`: the clusters that have to wait in any worker."""

    async def apply(self, snapshot: Snapshot) -> Mapping[str, ConfigError]:
        """Puts a snapshot in force, or raises `ConfigError`: then no worker has changed. Returns the error of
        each listener that a worker cannot serve."""

    async def use_svid(self, svid: SvidPem) -> Mapping[str, ConfigError]:
        """New connections use this certificate. Returns errors as `apply` does."""

    async def active_connections(self) -> int: ...

    async def drain(self, directions: Collection[TrafficDirection] = ...) -> None:
        """Asks all clients to disconnect; listeners still accept."""

    async def stop_accepting(self, directions: Collection[TrafficDirection] = ...) -> None:
        """Drains, and closes the listening sockets; open connections continue."""

    async def reopen_logs(self) -> None: ...

    async def set_log_levels(self, levels: Mapping[str, int]) -> None:
        """As the function of this name in `sidecar.observability.log_levels`."""

    async def close(self) -> None:
        """Ends everything at once, requests in progress included."""
