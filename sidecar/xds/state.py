"""What the stream has done so far, for the admin server: counters under Envoy's names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from protos import type_urls

# Envoy counts routes for each connection manager, and assignments for each cluster; here all are one.
_PREFIXES = {
    type_urls.CLUSTER: "cluster_manager.cds",
    type_urls.LISTENER: "listener_manager.lds",
    type_urls.ROUTE: "xds.rds",
    type_urls.ENDPOINT: "xds.eds",
}


@dataclass(slots=True)
class TypeState:
    """``nack`` is why the last response was refused, empty once one was accepted. Times: since the epoch."""

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
    """``synced``: once, in this process's life, all that was asked for was there and nothing was warming."""

    connected: bool = False
    synced: bool = False
    last_error: str = ""
    types: Mapping[str, TypeState] = field(
        default_factory=lambda: {type_url: TypeState() for type_url in type_urls.PUSH_ORDER}
    )

    @property
    def last_nack(self) -> str:
        """The youngest refusal that holds, with its type; empty for none."""
        refused = [(state.nacked_s, type_url) for type_url, state in self.types.items() if state.nack]
        if not refused:
            return ""
        type_url = max(refused)[1]
        return f"{type_urls.SHORT_NAMES[type_url]}: {self.types[type_url].nack}"

    def stats(self) -> dict[str, int | str]:
        """By Envoy's names; ``version_text`` is text, as it is there."""
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
