"""Addresses and routes of the pod that the rules need, set by iproute2."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from sidecar.intercept.errors import InterceptError
from sidecar.intercept.iptables import run
from sidecar.intercept.rules import INBOUND_MARK, IPV4, IPV6, Family
from sidecar.intercept.settings import Address, Interception, IPv6, Mode
from sidecar.intercept.tproxy import ROUTE_TABLE

_IPV6_ADDRESSES: Final = Path("/proc/net/if_inet6")
_IPV6_DISABLED: Final = Path("/proc/sys/net/ipv6/conf/all/disable_ipv6")
_EXISTS: Final = "File exists"


def families(ipv6: IPv6) -> tuple[Family, ...]:
    """The families to intercept. Raises `InterceptError` if IPv6 is required and absent."""
    if ipv6 is IPv6.OFF:
        return (IPV4,)
    if has_ipv6():
        return (IPV4, IPV6)
    if ipv6 is IPv6.ON:
        raise InterceptError("--ipv6 on: the kernel has no IPv6 here, or it is disabled")
    return (IPV4,)


def has_ipv6(addresses: Path = _IPV6_ADDRESSES, disabled: Path = _IPV6_DISABLED) -> bool:
    """Whether packets of IPv6 can arrive, now or later. A link-local address is enough: neighbours reach it.
    One interface may have IPv6 where it is disabled for all. What cannot be read counts as IPv6."""
    if not addresses.exists():
        return False
    try:
        interfaces = {line.split()[-1] for line in addresses.read_text().splitlines()}
        return bool(interfaces - {"lo"}) or disabled.read_text().strip() == "0"
    except OSError:
        return True


def preparation(settings: Interception, family: Family) -> list[str]:
    """The arguments of ``ip`` for one address family."""
    commands = []
    if family is IPV6:
        # Unlike 127.0.0.6, it is no address of this machine by default.
        commands.append(f"-6 address replace {family.inbound_source} dev lo")
    if settings.mode is Mode.TPROXY:
        commands += [
            f"-{family.version} rule add fwmark {INBOUND_MARK} lookup {ROUTE_TABLE}",
            f"-{family.version} route replace local default dev lo table {ROUTE_TABLE}",
        ]
    return commands


def prepare(settings: Interception, family: Family) -> None:
    """Has no effect where everything is set. Raises `InterceptError`."""
    for command in preparation(settings, family):
        try:
            run("ip", *command.split())
        except InterceptError as error:
            if _EXISTS not in str(error):
                raise


def restoration(family: Family) -> list[str]:
    """The arguments of ``ip`` that undo `prepare`."""
    commands = [
        f"-{family.version} rule delete fwmark {INBOUND_MARK} lookup {ROUTE_TABLE}",
        f"-{family.version} route flush table {ROUTE_TABLE}",
    ]
    if family is IPV6:
        commands.append(f"-6 address delete {family.inbound_source} dev lo")
    return commands


def restore(family: Family) -> None:
    """Undoes as much of `prepare` as there is."""
    for command in restoration(family):
        with suppress(InterceptError):  # it was not there
            run("ip", *command.split())


def resolvers(path: Path = Path("/etc/resolv.conf")) -> tuple[Address, ...]:
    """The addresses of the pod's resolvers. Raises `InterceptError` if the file cannot be read."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError as error:
        raise InterceptError(f"{path}: {error.strerror}") from error
    addresses: dict[Address, None] = {}
    for line in lines:
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            try:
                addresses[ip_address(words[1].partition("%")[0])] = None
            except ValueError as error:
                raise InterceptError(f"{path}: nameserver {error}") from error
    return tuple(addresses)
