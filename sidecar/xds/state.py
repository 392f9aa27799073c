"""The state of the stream for the admin server, and its counters under Envoy's names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from protos import type_urls

# Envoy has a counter for each connection manager (RDS) and each cluster (EDS); here one counts all.
_PREFIXES = {
    type_urls.CLUSTER: "cluster_manager.cds",
    type_urls.LISTENER: "listener_manager.lds",
    type_urls.ROUTE: "xds.rds",
    type_urls.ENDPOINT: "xds.eds",
    type_urls.NAME_TABLE: "xds.nds",
}


@dataclass(slots=True)
class TypeState:
    """``nack`` is the reason why the last response was refused; empty after one was accepted. Times are
    seconds since the epoch."""

    update_attempt: int = 0
    update_success: int = 0
    update_failure: int = 0
    update_rejected: int = 0
    version_text: str = ""
    updated_s: float = 0.0
    nack: str = ""
    nacked_s: float = 0.0


@dataclass(slots=True)
class XdsState:
    """``synced``: since the process started, there was a moment when all requested resources had arrived and
    none was warming."""

    connected: bool = False
    synced: bool = False
    last_error: str = ""
    types: Mapping[str, TypeState] = field(
        default_factory=lambda: {type_url: TypeState() for type_url in type_urls.PUSH_ORDER}
    )

    @property
    def last_nack(self) -> str:
        """The latest refusal that is still valid, with its type; or empty."""
        refused = [(state.nacked_s, type_url) for type_url, state in self.types.items() if state.nack]
        if not refused:
            return ""
        type_url = max(refused)[1]
        return f"{type_urls.SHORT_NAMES[type_url]}: {self.types[type_url].nack}"

    def stats(self) -> dict[str, int | str]:
        """The statistics by Envoy's names. ``version_text`` is text."""
        stats: dict[str, int | str] = {"control_plane.connected_state": int(self.connected)}
        for type_url, state in self.types.items():
            prefix = _PREFIXES[type_url]
            stats[f"{prefix}.update_attempt"] = state.update_attempt
            stats[f"{prefix}.update_success"] = state.update_success
            stats[f"{prefix}.update_failure"] = state.update_failure
            stats[f"{prefix}.update_rejected"] = state.update_rejected
            stats[f"{prefix}.update_time"] = int(state.updated_s * 1000)
            stats[f"{prefix}.version_text"] = state.version_text
        return stats
