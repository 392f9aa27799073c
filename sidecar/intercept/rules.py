"""Rules of iptables as data, in the form in which ``iptables-save`` prints them, so that the rules of a
namespace can be compared with them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sidecar.intercept.settings import Address, Network

OWN_PREFIX: Final = "OUTRIGGER_"
PREROUTING: Final = f"{OWN_PREFIX}PREROUTING"
INBOUND: Final = f"{OWN_PREFIX}INBOUND"
OUTPUT: Final = f"{OWN_PREFIX}OUTPUT"
TO_INBOUND: Final = f"{OWN_PREFIX}TO_INBOUND"
TO_OUTBOUND: Final = f"{OWN_PREFIX}TO_OUTBOUND"
DNS: Final = f"{OWN_PREFIX}DNS"
DIVERT: Final = f"{OWN_PREFIX}DIVERT"
TPROXY: Final = f"{OWN_PREFIX}TPROXY"
GUARD: Final = f"{OWN_PREFIX}GUARD"

RETURN: Final = "-j RETURN"

# TPROXY: packets between the proxy and a client, or the proxy and the application in the client's name.
INBOUND_MARK: Final = 1337
MARKED: Final = f"-m mark --mark {INBOUND_MARK:#x}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """``inbound_source`` is the address from which the proxy calls the application. The names of the programs
    begin with ``program``."""

    version: int
    loopback: str
    inbound_source: str
    unspecified: str
    program: str


IPV4: Final = Family(
    version=4,
    loopback="127.0.0.1/32",
    inbound_source="127.0.0.6/32",
    unspecified="0.0.0.0",
    program="iptables",
)
IPV6: Final = Family(
    version=6,
    loopback="::1/128",
    inbound_source="::6/128",
    unspecified="::",
    program="ip6tables",
)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: ``-A chain text``."""

    table: str
    chain: str
    text: str


def is_own(chain: str) -> bool:
    return chain.startswith(OWN_PREFIX)


def to_range(network: Network) -> str:
    """The match for a destination range; ``iptables-save`` omits the range of all addresses."""
    return f"-d {network} " if network.prefixlen else ""


def of_family(networks: Iterable[Network], family: Family) -> list[Network]:
    return [network for network in networks if network.version == family.version]


def addresses_of_family(addresses: Iterable[Address], family: Family) -> list[Address]:
    return [address for address in addresses if address.version == family.version]


def owners(uids: Iterable[int], gids: Iterable[int]) -> list[str]:
    """The arguments that match the proxy, for the ``owner`` match."""
    return [*(f"--uid-owner {uid}" for uid in uids), *(f"--gid-owner {gid}" for gid in gids)]
