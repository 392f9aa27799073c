"""``ConfigSource``. The only source of resources is the aggregated stream."""

from __future__ import annotations

from typing import Final

from sidecar.xds.decode.support import SupportTable, support
from sidecar.xds.decode.view import View

_INITIAL_FETCH_TIMEOUT_S = 15.0


TABLE: Final[SupportTable] = {
    "envoy.config.core.v3.ConfigSource": support(
        "ads api_config_source initial_fetch_timeout resource_api_version"
    ),
    "envoy.config.core.v3.AggregatedConfigSource": support(),
}


def check_aggregated(view: View) -> None:
    """Raises `ConfigError` for any source but ``ads`` in version 3 of the API."""
    specifier = view.which("config_source_specifier")
    if specifier != "ads":
        raise view.error("only the aggregated stream is supported here; use ads: {}", specifier)
    version = view.enum_name("resource_api_version")
    if version != "V3":
        raise view.error(f"is {version}, but only V3 is supported", "resource_api_version")


def initial_fetch_timeout_s(view: View) -> float:
    """Seconds to wait for the first version of the resource; 0 is no limit."""
    check_aggregated(view)
    return view.duration_s("initial_fetch_timeout", _INITIAL_FETCH_TIMEOUT_S)
