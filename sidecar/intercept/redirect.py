"""The rules of table ``nat``: REDIRECT sends connections to a port of the proxy.

The order of the rules decides. RETURN leaves a connection alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sidecar.intercept.dns import captured_queries, queries_are_captured
from sidecar.intercept.rules import (
    DNS,
    INBOUND,
    MARKED,
    OUTPUT,
    PREROUTING,
    RETURN,
    TO_INBOUND,
    TO_OUTBOUND,
    Family,
    Rule,
    of_family,
    owners,
    to_range,
)
from sidecar.intercept.settings import EVERYTHING, Interception, Mode

# Istio's HBONE tunnel: its port accepts connections that were not redirected.
_TUNNEL_PORT: Final = 15008


def nat_rules(settings: Interception, family: Family) -> Iterator[Rule]:
    yield Rule("nat", TO_INBOUND, f"-p tcp -j REDIRECT --to-ports {settings.inbound_port}")
    yield Rule("nat", TO_OUTBOUND, f"-p tcp -j REDIRECT --to-ports {settings.outbound_port}")
    for text in _prerouting(settings, family):
        yield Rule("nat", PREROUTING, text)
    if settings.mode is Mode.REDIRECT:
        for text in _inbound(settings):
            yield Rule("nat", INBOUND, text)
    for text in _output(settings, family):
        yield Rule("nat", OUTPUT, text)
    for text in captured_queries(settings, family):
        yield Rule("nat", DNS, text)


def _prerouting(settings: Interception, family: Family) -> Iterator[str]:
    for interface in settings.excluded_interfaces:
        yield f"-i {interface} {RETURN}"
    # Connections of virtual machines and containers inside the pod come in here, but are outbound ones.
    for interface in settings.virtual_interfaces:
        for target in _included_ranges(settings, family):
            yield f"{target}-i {interface} -j {TO_OUTBOUND}"
        yield f"-i {interface} {RETURN}"
    if settings.inbound_ports and settings.mode is Mode.REDIRECT:
        yield f"-p tcp -j {INBOUND}"


def _inbound(settings: Interception) -> Iterator[str]:
    if not settings.inbound_ports:
        return
    yield f"-p tcp -m tcp --dport {_TUNNEL_PORT} {RETURN}"
    if settings.inbound_ports == EVERYTHING:
        for port in settings.excluded_inbound_ports:
            yield f"-p tcp -m tcp --dport {port} {RETURN}"
        yield f"-p tcp -j {TO_INBOUND}"
        return
    for port in settings.inbound_ports:
        yield f"-p tcp -m tcp --dport {port} -j {TO_INBOUND}"


def _output(settings: Interception, family: Family) -> Iterator[str]:
    for interface in settings.excluded_interfaces:
        yield f"-o {interface} {RETURN}"
    for port in settings.excluded_outbound_ports:
        yield f"-p tcp -m tcp --dport {port} {RETURN}"
        yield f"-p udp -m udp --dport {port} {RETURN}"
    # The proxy calls its application from this address.
    yield f"-s {family.inbound_source} -o lo {RETURN}"
    if settings.mode is Mode.TPROXY:  # or from the client's address
        yield f"-o lo -p tcp {MARKED} {RETURN}"
    for owner in owners(settings.proxy_uids, settings.proxy_gids):
        yield from _of_the_proxy(settings, family, owner)
    yield from _owner_groups(settings)
    if queries_are_captured(settings, family):
        yield f"-j {DNS}"
    yield f"-d {family.loopback} {RETURN}"
    for network in of_family(settings.excluded_outbound_ranges, family):
        yield f"{to_range(network)}{RETURN}"
    for port in settings.outbound_ports:
        yield f"-p tcp -m tcp --dport {port} -j {TO_OUTBOUND}"
    for target in _included_ranges(settings, family):
        yield f"{target}-j {TO_OUTBOUND}"


def _of_the_proxy(settings: Interception, family: Family, owner: str) -> Iterator[str]:
    """A connection of the proxy to this pod was opened for an application that calls its own Service: it
    passes the inbound side. The application's own connections inside the pod stay direct, and other
    connections of the proxy leave."""
    to_self = f"! -d {family.loopback} -o lo -p tcp"
    if settings.dns is not None:
        ports = f"-m multiport ! --dports 53,{_TUNNEL_PORT}"
        direct = "-o lo -p tcp -m tcp ! --dport 53"  # a resolver on loopback is captured too
    else:
        ports = f"-m tcp ! --dport {_TUNNEL_PORT}"
        direct = "-o lo"
    yield f"{to_self} {ports} -m owner {owner} -j {TO_INBOUND}"
    if not _loopback_is_included(settings):
        yield f"{direct} -m owner ! {owner} {RETURN}"
    yield f"-m owner {owner} {RETURN}"


def _owner_groups(settings: Interception) -> Iterator[str]:
    if settings.owner_groups == EVERYTHING:
        for group in settings.excluded_owner_groups:
            yield f"-m owner --gid-owner {group} {RETURN}"
        return
    in_none = [f"-m owner ! --gid-owner {group}" for group in settings.owner_groups]
    yield " ".join([*in_none, RETURN])


def _included_ranges(settings: Interception, family: Family) -> list[str]:
    if settings.outbound_ranges == EVERYTHING:
        return [""]
    return [to_range(network) for network in of_family(settings.outbound_ranges, family)]


def _loopback_is_included(settings: Interception) -> bool:
    ranges = settings.outbound_ranges
    return ranges != EVERYTHING and any(network.is_loopback for network in ranges)
