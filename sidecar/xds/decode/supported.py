"""All messages that are supported: the tables of all decoders, merged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sidecar.xds.decode import (
    access_log,
    ads,
    bootstrap_message,
    circuit_breakers,
    cluster,
    config_source,
    dns,
    endpoint,
    hash_policy,
    http2_options,
    http_connection_manager,
    http_options,
    istio_stats,
    listener,
    matchers,
    metadata_exchange,
    mongo_proxy,
    name_table,
    outlier_detection,
    port_match,
    proxy_protocol,
    retry_policy,
    route,
    route_action,
    tcp_proxy,
    tls,
    tracing,
    values,
)
from sidecar.xds.decode.http_filters import registry as http_filters
from sidecar.xds.decode.support import Support, SupportTable

_TABLES: Final = (
    bootstrap_message.TABLE,
    ads.TABLE,
    config_source.TABLE,
    listener.TABLE,
    port_match.TABLE,
    metadata_exchange.TABLE,
    istio_stats.TABLE,
    mongo_proxy.TABLE,
    tcp_proxy.TABLE,
    http_connection_manager.TABLE,
    http_filters.TABLE,
    access_log.TABLE,
    route.TABLE,
    route_action.TABLE,
    hash_policy.TABLE,
    retry_policy.TABLE,
    matchers.TABLE,
    cluster.TABLE,
    circuit_breakers.TABLE,
    outlier_detection.TABLE,
    dns.TABLE,
    http_options.TABLE,
    http2_options.TABLE,
    endpoint.TABLE,
    name_table.TABLE,
    tls.TABLE,
    tracing.TABLE,
    proxy_protocol.TABLE,
    values.TABLE,
)


def _merged(tables: Iterable[SupportTable]) -> dict[str, Support]:
    merged: dict[str, Support] = {}
    for table in tables:
        assert merged.keys().isdisjoint(table), "a message is declared by the decoder that reads it"
        merged |= table
    return merged


SUPPORTED: Final[SupportTable] = _merged(_TABLES)
"""The supported fields by the full name of the message."""
