"""Istio's network filter ``istio.metadata_exchange``, of listeners and clusters.

On a connection of the ALPN protocol ``istio-peer-exchange``, it sends the workload's name before the first
byte. The sidecar never agrees to this protocol (`without_exchange`), and Envoy's filter passes on all other
connections unchanged. The source of a connection is known by its certificate, its host by the control plane.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sidecar.xds.decode.support import SupportTable, support

METADATA_EXCHANGE: Final = "envoy.tcp.metadataexchange.config.MetadataExchange"
_PROTOCOL: Final = "istio-peer-exchange"
_NO_EXCHANGE: Final = "no connection has the protocol of the exchange"

TABLE: Final[SupportTable] = {
    METADATA_EXCHANGE: support(
        protocol=_NO_EXCHANGE, enable_discovery=_NO_EXCHANGE, additional_labels=_NO_EXCHANGE
    )
}


def without_exchange(alpn_protocols: Iterable[str]) -> tuple[str, ...]:
    """The ALPN protocols that the sidecar may agree to."""
    return tuple(protocol for protocol in alpn_protocols if protocol != _PROTOCOL)
