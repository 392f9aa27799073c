"""The definition of an IP address for every part of the control plane.

An address with an IPv6 zone (``fe80::1%eth0``) is not valid: it has a meaning on one machine only, and Envoy
rejects it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address, ip_network


@lru_cache(maxsize=65536)  # builders ask for each endpoint of a service, whenever one changes
def is_ip_address(text: str) -> bool:
    return _parses(ip_address, text)


def is_ip_range(text: str) -> bool:
    """Whether it is an address or a CIDR, whose host bits may be set."""
    return _parses(lambda network: ip_network(network, strict=False), text)


def _parses(parse: Callable[[str], object], text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return "%" not in text
