"""IP addresses, networks and authorities, as text and as xDS messages."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

from controlplane.networking.names import parse_port


def normal_range(network: str) -> str:
    """An address or a CIDR, without host bits: the same text for the same range."""
    return str(ip_network(network, strict=False))


def cidr_range(network: str) -> dict[str, Any]:
    """``CidrRange`` of an address or a CIDR."""
    parsed = ip_network(network, strict=False)
    return {"address_prefix": str(parsed.network_address), "prefix_len": {"value": parsed.prefixlen}}


def split_authority(text: str) -> tuple[str, int | None]:
    """Splits ``HOST:PORT`` or ``[IPV6]:PORT`` (RFC 3986 section 3.2). The port is None if it is not a
    number."""
    host, _, port = text.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), parse_port(port)


def socket_address(host: str, port: int) -> dict[str, Any]:
    """``Address`` of a TCP port. ``host`` is a name in clusters that resolve by DNS, else an IP address."""
    return {"socket_address": {"address": host, "port_value": port}}
