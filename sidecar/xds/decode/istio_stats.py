"""Istio's filter ``istio.stats``, of HTTP and of connections: ``stats.PluginConfig``.

The sidecar counts Istio's metrics without a filter; a configuration that asks for others is refused.
"""

from __future__ import annotations

from typing import Final

from sidecar.xds.decode.support import SupportTable, support
from sidecar.xds.decode.view import View

ISTIO_STATS: Final = "stats.PluginConfig"
_NAMES: Final = "shapes the names of Envoy's statistics, not those of metrics"
_OWN_EXPIRY: Final = "unused series expire by the sidecar's own rule"

TABLE: Final[SupportTable] = {
    # `metrics` and `definitions` change the metrics: they are refused.
    ISTIO_STATS: support(
        "reporter",
        debug="logs only",
        max_peer_cache_size="the sidecar's own limit applies",
        stat_prefix=_NAMES,
        field_separator=_NAMES,
        value_separator=_NAMES,
        disable_host_header_fallback="the Host of a request never becomes a label",
        tcp_reporting_duration="bytes are counted each time that metrics are read",
        rotation_interval=_OWN_EXPIRY,
        graceful_deletion_interval=_OWN_EXPIRY,
    )
}


def check_istio_stats(view: View) -> None:
    """Raises `ConfigError` for metrics that the sidecar does not have."""
    if view.enum_name("reporter") != "UNSPECIFIED":
        raise view.error("only the reporters of sidecars are supported", "reporter")
