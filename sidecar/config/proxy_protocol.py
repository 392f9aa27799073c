"""The PROXY protocol on both sides. Source: ``envoy.config.core.v3.ProxyProtocolConfig``, and the messages of
the listener filter and the transport socket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

Tlv: TypeAlias = tuple[int, bytes]
"""The type of an extension, 0 to 255, and its value."""

EVERY_TLV = frozenset(range(256))


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyProtocolFilter:
    """``envoy.filters.listener.proxy_protocol``. ``versions`` are the allowed ones. ``optional``: a
    connection may begin without a header. Headers keep the TLVs of these types."""

    versions: frozenset[int] = frozenset((1, 2))
    optional: bool = False
    tlv_types: frozenset[int] = frozenset()
    stat_prefix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamProxyProtocol:
    """``envoy.transport_sockets.upstream_proxy_protocol``: each connection to a host begins with a header.
    Version 2 passes on the client's TLVs of these types, after ``added_tlvs``, which replace those of their
    types."""

    version: int
    tlv_types: frozenset[int] = frozenset()
    added_tlvs: tuple[Tlv, ...] = ()
