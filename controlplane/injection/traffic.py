"""The traffic that the rules of a pod intercept: ports and address ranges, separated by commas. "*" means
all, and "" means none.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator

from controlplane.resources.base import Str, invalid

# IFNAMSIZ of Linux without its final NUL, and the "+" of iptables for every name with this beginning.
_INTERFACE = re.compile(r"[0-9A-Za-z_@.][0-9A-Za-z_@.+-]{0,14}")


def ip_ranges(text: str) -> str:
    """Checks CIDRs, or "*". Raises a validation error."""
    return "*" if text.strip() == "*" else ",".join(_cidr(part) for part in _parts(text))


def cidrs(text: str) -> str:
    """Checks CIDRs. Raises a validation error."""
    return ",".join(_cidr(part) for part in _parts(text))


def ports(text: str) -> str:
    """Checks port numbers, or "*". Raises a validation error."""
    return "*" if text.strip() == "*" else port_numbers(text)


def port_numbers(text: str) -> str:
    """Checks port numbers. Raises a validation error."""
    return ",".join(_port(part) for part in _parts(text))


def interfaces(text: str) -> str:
    """Checks names of network interfaces. Raises a validation error."""
    return ",".join(_interface(part) for part in _parts(text))


IpRanges = Annotated[Str, AfterValidator(ip_ranges)]
Ports = Annotated[Str, AfterValidator(ports)]


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")] if text.strip() else []


def _cidr(part: str) -> str:
    try:
        if "/" in part:
            return str(ipaddress.ip_network(part, strict=False))
    except ValueError:
        pass
    raise invalid(f"{part!r:.80} is not a CIDR such as 10.0.0.0/8")


def _port(part: str) -> str:
    if part.isascii() and part.isdecimal() and len(part) <= 5 and 0 < int(part) < 65536:
        return str(int(part))
    raise invalid(f"{part!r:.80} is not a port number")


def _interface(part: str) -> str:
    if not _INTERFACE.fullmatch(part):
        raise invalid(f"{part!r:.80} is not the name of a network interface")
    return part
