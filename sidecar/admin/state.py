"""What the admin endpoints may see and do: filled in by the runtime, the only one that knows all parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from sidecar.listener.manager import ListenerManager
from sidecar.observability.exposition import ExtraStats
from sidecar.observability.request_metrics import RequestMetrics
from sidecar.observability.stats import Stats
from sidecar.upstream.cluster_manager import ClusterManager


class ServerState(Enum):
    """``envoy.admin.v3.ServerInfo.State``."""

    LIVE = "LIVE"
    DRAINING = "DRAINING"
    PRE_INITIALIZING = "PRE_INITIALIZING"
    INITIALIZING = "INITIALIZING"


class DumpConfig(Protocol):
    def __call__(self, *, include_eds: bool, resource: str | None, name_regex: str | None) -> dict[str, Any]:
        """Envoy's ``/config_dump``. Raises `ConfigError` for a mask or a regex that is none."""


class DrainListeners(Protocol):
    def __call__(self, *, inbound_only: bool, graceful: bool) -> None:
        """Listeners accept no more; `graceful`: for the drain time they do, and clients are told to leave."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminView:
    """`extra_stats` are those that live outside `stats`, `refresh_stats` brings gauges up to date;
    `server_info` is in Envoy's JSON shape. `is_dynamic`: whether a cluster came by xDS, rather than from the
    bootstrap file."""

    stats: Stats
    extra_stats: Callable[[], ExtraStats]
    refresh_stats: Callable[[], None]
    reporters: tuple[RequestMetrics, ...]
    clusters: ClusterManager
    listeners: ListenerManager
    config_dump: DumpConfig
    certificates: Callable[[], Mapping[str, Any]]
    server_info: Callable[[], Mapping[str, Any]]
    server_state: Callable[[], ServerState]
    is_dynamic: Callable[[str], bool]
    drain: DrainListeners
    quit: Callable[[], None]
    reopen_logs: Callable[[], None]
