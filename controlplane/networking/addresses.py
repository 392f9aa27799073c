"""IP addresses, networks and authorities, as text and as xDS messages."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any, Final

from controlplane.model.proxy import Proxy
from controlplane.networking.names import parse_port


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalAddresses:
    """The addresses of a proxy's own family that all workloads have. ``inbound_source``: the proxy calls its
    application from it, and the redirection rules exempt it; other connections to the workload would be
    redirected back to the proxy."""

    wildcard: str
    loopback: str
    inbound_source: str


_IPV4: Final = LocalAddresses(wildcard="0.0.0.0", loopback="127.0.0.1", inbound_source="127.0.0.6")
_IPV6: Final = LocalAddresses(wildcard="::", loopback="::1", inbound_source="::6")


def local_addresses(proxy: Proxy) -> LocalAddresses:
    return _IPV6 if ":" in proxy.ip else _IPV4


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
