"""The rules of table ``mangle``.

TPROXY delivers inbound connections to the proxy without changing an address, so that the application sees its
client's address. Outbound connections are redirected as without it.

Packets with the mark 1337 belong to connections between the proxy and a client, or between the proxy and the
application in the client's name: a policy route delivers them to this pod. The mark 1338 is on connections of
the proxy to this pod, that is of an application that calls its own Service.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sidecar.intercept.rules import (
    DIVERT,
    INBOUND,
    INBOUND_MARK,
    MARKED,
    OUTPUT,
    PREROUTING,
    RETURN,
    TPROXY,
    Family,
    Rule,
    owners,
)
from sidecar.intercept.settings import EVERYTHING, Interception, Mode

ROUTE_TABLE: Final = 133
_OUTBOUND_MARK: Final = 1338
_ALL_BITS: Final = "--nfmask 0xffffffff --ctmask 0xffffffff"


def mangle_rules(settings: Interception, family: Family) -> Iterator[Rule]:
    intercepts = settings.mode is Mode.TPROXY and bool(settings.inbound_ports)
    for text in _prerouting(settings, intercepts=intercepts):
        yield Rule("mangle", PREROUTING, text)
    if not intercepts:
        return
    for text in _inbound(settings, family):
        yield Rule("mangle", INBOUND, text)
    yield Rule("mangle", DIVERT, f"-j MARK --set-xmark {INBOUND_MARK:#x}/0xffffffff")
    yield Rule("mangle", DIVERT, "-j ACCEPT")
    target = (
        f"-j TPROXY --on-port {settings.inbound_port} --on-ip {family.unspecified} "
        f"--tproxy-mark {INBOUND_MARK:#x}/0xffffffff"
    )
    yield Rule("mangle", TPROXY, f"! -d {family.loopback} -p tcp {target}")
    for text in _output(settings, family):
        yield Rule("mangle", OUTPUT, text)


def _prerouting(settings: Interception, *, intercepts: bool) -> Iterator[str]:
    if intercepts:
        for interface in settings.excluded_interfaces:
            yield f"-i {interface} {RETURN}"
    if settings.drop_invalid:
        # REDIRECT does not translate a packet outside of the window, and the pod would answer with a reset.
        yield "-m conntrack --ctstate INVALID -j DROP"
    if intercepts:
        yield f"-p tcp -j {INBOUND}"
        yield f"-p tcp {MARKED} -j CONNMARK --save-mark {_ALL_BITS}"


def _inbound(settings: Interception, family: Family) -> Iterator[str]:
    yield f"-p tcp {MARKED} {RETURN}"
    yield f"-s {family.inbound_source} -i lo -p tcp {RETURN}"
    # The application's own connections inside the pod stay direct.
    yield f"-i lo -p tcp -m mark ! --mark {_OUTBOUND_MARK:#x} {RETURN}"
    if settings.inbound_ports == EVERYTHING:
        for port in settings.excluded_inbound_ports:
            yield f"-p tcp -m tcp --dport {port} {RETURN}"
        ports = [""]
    else:
        ports = [f"-m tcp --dport {port} " for port in settings.inbound_ports]
    for port_match in ports:
        yield f"-p tcp {port_match}-m conntrack --ctstate RELATED,ESTABLISHED -j {DIVERT}"
        yield f"-p tcp {port_match}-j {TPROXY}"


def _output(settings: Interception, family: Family) -> Iterator[str]:
    for interface in settings.excluded_interfaces:
        yield f"-o {interface} {RETURN}"
    yield f"-o lo -p tcp {MARKED} {RETURN}"
    for owner in owners(settings.proxy_uids, settings.proxy_gids):
        mark = f"-j MARK --set-xmark {_OUTBOUND_MARK:#x}/0xffffffff"
        yield f"! -d {family.loopback} -o lo -p tcp -m owner {owner} {mark}"
    # The application's answers to a client's address must come back to the proxy.
    restore = f"-j CONNMARK --restore-mark {_ALL_BITS}"
    yield f"-p tcp -m connmark --mark {INBOUND_MARK:#x} {restore}"
