"""What the admin endpoints may see and do: filled in by the runtime, the only one that knows all parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from sidecar.listener.manager import ListenerManager
from sidecar.observability.request_metrics import RequestMetrics
from sidecar.observability.stats import Stats
from sidecar.upstream.cluster_manager import ClusterManager


class ServerState(Enum):
    """``envoy.admin.v3.ServerInfo.State``."""

    LIVE = "LIVE"
    DRAINING = "DRAINING"
    PRE_INITIALIZING = "PRE_INITIALIZING"
    INITIALIZING = "INITIALIZING"


class ConfigDump(Protocol):
    def __call__(self, *, include_eds: bool, resource: str | None, name_regex: str | None) -> dict[str, Any]:
        """Envoy's ``/config_dump``. Raises `ConfigError` for a mask or a regex that is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminView:
    """`extra_stats` are those that live outside `stats`, `refresh_stats` brings gauges up to date;
    `server_info` is in Envoy's JSON shape. `is_dynamic`: whether a cluster came by xDS, rather than from the
    bootstrap file. `drain` takes whether inbound listeners alone are meant."""

    stats: Stats
    extra_stats: Callable[[], Iterable[tuple[str, int]]]
    refresh_stats: Callable[[], None]
    reporters: tuple[RequestMetrics, ...]
    clusters: ClusterManager
    listeners: ListenerManager
    config_dump: ConfigDump
    certificates: Callable[[], Mapping[str, Any]]
    server_info: Callable[[], Mapping[str, Any]]
    server_state: Callable[[], ServerState]
    is_dynamic: Callable[[str], bool]
    drain: Callable[[bool], None]
    quit: Callable[[], None]
