"""The data and the actions that the admin endpoints use. The supervisor provides them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from sidecar.config.cluster import ClusterConfig
from sidecar.identity.certs import CertificatesInUse
from sidecar.listener.manager import ListenerStatus
from sidecar.observability.exposition import ExtraStats
from sidecar.observability.report import DnsReport, StatsReport
from sidecar.upstream.status import ClusterStatus


class ServerState(Enum):
    """``envoy.admin.v3.ServerInfo.State``."""

    LIVE = "LIVE"
    DRAINING = "DRAINING"
    PRE_INITIALIZING = "PRE_INITIALIZING"
    INITIALIZING = "INITIALIZING"


class DumpConfig(Protocol):
    def __call__(self, *, include_eds: bool, resource: str | None, name_regex: str | None) -> dict[str, Any]:
        """Envoy's ``/config_dump``. Raises `ConfigError` for an invalid resource or regex."""


class DrainListeners(Protocol):
    async def __call__(self, *, inbound_only: bool, graceful: bool, skip_exit: bool) -> None:
        """Closes the listening sockets; if `graceful`, after a drain time in which clients are asked to
        disconnect; if also `skip_exit`, never: they accept until the process ends."""


class WorkerReports(Protocol):
    """The reports of a worker, or of several workers together, that the admin endpoints read. Every answer is
    a value that can be pickled. All methods raise `WorkerError`: a page without one of the workers would be
    wrong, and a counter on it could go backwards."""

    async def stats(self) -> StatsReport: ...

    async def clusters(self, names: Sequence[str]) -> Sequence[ClusterStatus]:
        """Those clusters of ``names`` that exist, in this order."""

    async def listeners(self) -> Sequence[ListenerStatus]: ...

    async def certificates(self) -> Sequence[CertificatesInUse]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminView:
    """`extra_stats` are those that no worker counts. `clusters`: the configuration in force, by name;
    `is_dynamic`: whether a cluster came by xDS rather than from the bootstrap file. `server_info` is in
    Envoy's JSON shape. `dns` None: DNS is not captured."""

    workers: WorkerReports
    extra_stats: Callable[[], Awaitable[ExtraStats]]
    clusters: Callable[[], Mapping[str, ClusterConfig]]
    config_dump: DumpConfig
    server_info: Callable[[], Mapping[str, Any]]
    server_state: Callable[[], ServerState]
    is_dynamic: Callable[[str], bool]
    drain: DrainListeners
    quit: Callable[[], None]
    reopen_logs: Callable[[], Awaitable[None]]
    set_log_levels: Callable[[Mapping[str, int]], Awaitable[None]]
    dns: Callable[[], DnsReport] | None = None
