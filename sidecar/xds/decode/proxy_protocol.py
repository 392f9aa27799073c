"""The PROXY protocol: the listener filter ``ProxyProtocol``, and the transport socket of a cluster around
another one."""

from __future__ import annotations

from collections.abc import Set
from typing import Final

from sidecar.config.proxy_protocol import EVERY_TLV, ProxyProtocolFilter, UpstreamProxyProtocol
from sidecar.config.tls import UpstreamTls
from sidecar.xds.decode.support import SupportTable, support
from sidecar.xds.decode.tls import decode_upstream_socket
from sidecar.xds.decode.view import View

PROXY_PROTOCOL: Final = "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"
_TRANSPORT: Final = "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport"
_VERSIONS: Final = {"V1": 1, "V2": 2}

TABLE: Final[SupportTable] = {
    PROXY_PROTOCOL: support(
        "allow_requests_without_proxy_protocol pass_through_tlvs disallowed_versions stat_prefix"
    ),
    _TRANSPORT: support(
        "config transport_socket",
        tlv_as_pool_key="a connection is shared only by clients whose headers are the same",
    ),
    "envoy.config.core.v3.ProxyProtocolConfig": support("version pass_through_tlvs added_tlvs"),
    "envoy.config.core.v3.ProxyProtocolPassThroughTLVs": support("match_type tlv_type"),
    "envoy.config.core.v3.TlvEntry": support("type value"),
}


def decode_proxy_protocol_filter(view: View) -> ProxyProtocolFilter:
    message = view.message
    versions = frozenset(_VERSIONS.values())
    disallowed = {number + 1 for number in message.disallowed_versions}
    if not disallowed <= versions:
        raise view.error("has a version that does not exist", "disallowed_versions")
    return ProxyProtocolFilter(
        versions=versions - disallowed,
        optional=message.allow_requests_without_proxy_protocol,
        tlv_types=_passed_types(view),
        stat_prefix=message.stat_prefix,
    )


def decode_cluster_socket(
    socket: View | None, secrets: Set[str]
) -> tuple[UpstreamTls | None, UpstreamProxyProtocol | None]:
    """A cluster's ``transport_socket``: TLS or plaintext, and the header before it."""
    if socket is None or socket.packed_type("typed_config") != _TRANSPORT:
        return decode_upstream_socket(socket, secrets), None
    transport = socket.unpack("typed_config", _TRANSPORT)
    config = transport.get("config")
    found = UpstreamProxyProtocol(
        version=_VERSIONS[config.enum_name("version")],
        tlv_types=_passed_types(config),
        added_tlvs=tuple((tlv.message.type, tlv.message.value) for tlv in config.each("added_tlvs")),
    )
    return decode_upstream_socket(transport.get("transport_socket"), secrets), found


def _passed_types(view: View) -> frozenset[int]:
    passed = view.find("pass_through_tlvs")
    if passed is None:
        return frozenset()
    if passed.enum_name("match_type") == "INCLUDE_ALL":
        return EVERY_TLV
    return frozenset(passed.message.tlv_type)
