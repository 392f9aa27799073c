"""The command line. A list is separated by commas; ``*`` means all, and an empty value none."""

from __future__ import annotations

import argparse
import grp
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import TypeVar

from sidecar.intercept.pod_network import resolvers
from sidecar.intercept.settings import (
    EVERYTHING,
    DnsCapture,
    Everything,
    Interception,
    IPv6,
    Mode,
    Network,
    Variant,
)

T = TypeVar("T")

_MAX_INTERFACE_LENGTH = 15  # IFNAMSIZ without the final zero


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """``action`` is ``apply``, ``dry-run``, ``clean`` or ``validate``."""

    action: str
    settings: Interception
    ipv6: IPv6
    variant: Variant


def parse(arguments: Sequence[str]) -> Command:
    """Exits with code 2 and a message that names the flag, if a value is invalid."""
    given = _parser().parse_args(arguments)
    dns = None
    if given.capture_dns:
        dns = DnsCapture(port=given.dns_port, resolvers=EVERYTHING if given.capture_all_dns else resolvers())
    settings = Interception(
        outbound_port=given.outbound_port,
        inbound_port=given.inbound_port,
        proxy_uids=given.proxy_uid,
        proxy_gids=given.proxy_gid,
        mode=given.mode,
        inbound_ports=given.inbound_ports,
        excluded_inbound_ports=given.exclude_inbound_ports,
        outbound_ranges=given.outbound_ranges,
        excluded_outbound_ranges=given.exclude_outbound_ranges,
        outbound_ports=given.outbound_ports,
        excluded_outbound_ports=given.exclude_outbound_ports,
        excluded_interfaces=given.exclude_interfaces,
        virtual_interfaces=given.reroute_virtual_interfaces,
        owner_groups=given.owner_groups_include,
        excluded_owner_groups=given.owner_groups_exclude,
        dns=dns,
        drop_invalid=given.drop_invalid,
    )
    return Command(action=given.action, settings=settings, ipv6=given.ipv6, variant=given.iptables)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="intercept",
        description="Sends the traffic of this network namespace to the sidecar, by rules of iptables.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--outbound-port", type=_port, default=15001, help="the proxy's port for outbound connections")
    add("--inbound-port", type=_port, default=15006, help="the proxy's port for inbound connections")
    add("--proxy-uid", type=_list(_id), default=(1337,), help="users whose connections are not captured")
    add("--proxy-gid", type=_list(_id), default=(1337,), help="groups whose connections are not captured")
    add("--mode", type=_enum(Mode), default=Mode.REDIRECT, help="REDIRECT, or TPROXY for inbound connections")
    add("--inbound-ports", type=_list_or_all(_port), default=EVERYTHING, help="captured inbound ports")
    add(
        "--exclude-inbound-ports",
        type=_list(_port),
        default=(15020, 15021, 15090),
        help="exceptions, if all inbound ports are captured",
    )
    add("--outbound-ranges", type=_list_or_all(_network), default=EVERYTHING, help="captured destinations")
    add("--exclude-outbound-ranges", type=_list(_network), default=(), help="exceptions from them")
    add("--outbound-ports", type=_list(_port), default=(), help="ports captured at every destination")
    add("--exclude-outbound-ports", type=_list(_port), default=(), help="outbound ports not captured")
    add("--exclude-interfaces", type=_list(_interface), default=(), help="interfaces not captured")
    add(
        "--reroute-virtual-interfaces",
        type=_list(_interface),
        default=(),
        help="interfaces of virtual machines and containers in the pod: their connections are outbound ones",
    )
    add("--owner-groups-include", type=_list_or_all(_group), default=EVERYTHING, help="captured groups")
    add("--owner-groups-exclude", type=_list(_group), default=(), help="groups not captured")
    add("--capture-dns", action="store_true", help="capture queries to the resolvers of /etc/resolv.conf")
    add("--capture-all-dns", action="store_true", help="with --capture-dns: queries to any address")
    add("--dns-port", type=_port, default=15053, help="the proxy's port for DNS")
    add("--drop-invalid", action="store_true", help="drop packets outside of their connection's window")
    add("--ipv6", type=_enum(IPv6), default=IPv6.AUTO, help="auto, on or off")
    add("--iptables", type=_enum(Variant), default=Variant.AUTO, help="auto, nft or legacy")
    actions = parser.add_mutually_exclusive_group()
    for action, meaning in (
        ("dry-run", "print the rules, change nothing"),
        ("clean", "remove the rules"),
        ("validate", "check that the rules are in force; exit code 126 if not"),
    ):
        actions.add_argument(
            f"--{action}", dest="action", action="store_const", const=action, default="apply", help=meaning
        )
    return parser


def _list(item: Callable[[str], T]) -> Callable[[str], tuple[T, ...]]:
    def parse_list(text: str) -> tuple[T, ...]:
        words = (word.strip() for word in text.split(","))
        return tuple(dict.fromkeys(item(word) for word in words if word))

    return parse_list


def _list_or_all(item: Callable[[str], T]) -> Callable[[str], tuple[T, ...] | Everything]:
    parse_list = _list(item)

    def parse_list_or_all(text: str) -> tuple[T, ...] | Everything:
        return EVERYTHING if text.strip() == EVERYTHING else parse_list(text)

    return parse_list_or_all


def _port(text: str) -> int:
    if text.isascii() and text.isdecimal() and 0 < int(text[:6]) < 2**16:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a port (1 to 65535)")


def _id(text: str) -> int:
    if text.isascii() and text.isdecimal() and int(text[:11]) < 2**32 - 1:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of a user or group")


def _group(text: str) -> int:
    if text.isdecimal():
        return _id(text)
    try:
        return grp.getgrnam(text).gr_gid
    except (KeyError, ValueError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a group of this image; use its number") from None


def _network(text: str) -> Network:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a CIDR range, such as 10.0.0.0/8") from None


def _interface(text: str) -> str:
    """A trailing ``+`` matches every name with this beginning."""
    if len(text) <= _MAX_INTERFACE_LENGTH and text.isprintable() and not set(text) & set(" /!\"'\\"):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is not the name of an interface")


def _enum(kind: Callable[[str], T]) -> Callable[[str], T]:
    def parse_enum(text: str) -> T:
        try:
            return kind(text)
        except ValueError:
            allowed = ", ".join(member.value for member in kind)  # type: ignore[attr-defined]
            raise argparse.ArgumentTypeError(f"{text!r} is not one of {allowed}") from None

    return parse_enum
