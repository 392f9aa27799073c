"""The settings of interception: the traffic that the rules send to the proxy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, Literal, TypeAlias

Network: TypeAlias = IPv4Network | IPv6Network
Address: TypeAlias = IPv4Address | IPv6Address
Everything: TypeAlias = Literal["*"]

EVERYTHING: Final[Everything] = "*"


class Mode(Enum):
    """How inbound connections reach the proxy: TPROXY keeps the client's address."""

    REDIRECT = "REDIRECT"
    TPROXY = "TPROXY"


class IPv6(Enum):
    """AUTO: where the kernel has IPv6."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class Variant(Enum):
    """Which iptables programs write the rules. AUTO: those that already have rules in this namespace."""

    AUTO = "auto"
    NFT = "nft"
    LEGACY = "legacy"


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsCapture:
    """DNS queries to ``resolvers``, or to any address, go to the proxy's ``port`` on loopback."""

    port: int = 15053
    resolvers: tuple[Address, ...] | Everything = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Interception:
    """An empty tuple selects nothing, and `EVERYTHING` all."""

    outbound_port: int = 15001
    inbound_port: int = 15006
    proxy_uids: tuple[int, ...] = (1337,)
    proxy_gids: tuple[int, ...] = (1337,)
    mode: Mode = Mode.REDIRECT
    inbound_ports: tuple[int, ...] | Everything = EVERYTHING
    excluded_inbound_ports: tuple[int, ...] = (15020, 15021, 15090)
    outbound_ranges: tuple[Network, ...] | Everything = EVERYTHING
    excluded_outbound_ranges: tuple[Network, ...] = ()
    outbound_ports: tuple[int, ...] = ()
    excluded_outbound_ports: tuple[int, ...] = ()
    excluded_interfaces: tuple[str, ...] = ()
    virtual_interfaces: tuple[str, ...] = ()
    owner_groups: tuple[int, ...] | Everything = EVERYTHING
    excluded_owner_groups: tuple[int, ...] = ()
    dns: DnsCapture | None = None
    drop_invalid: bool = False
