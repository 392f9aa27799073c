"""What is asked of a resolver, and what it answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sidecar.config.dns import SYSTEM_RESOLVER, DnsLookupFamily, DnsResolver


@dataclass(frozen=True, slots=True)
class Question:
    """``by_reachability``: the address to try first comes first (RFC 6724), whatever its family; otherwise
    addresses are in the order of the answer."""

    name: str
    family: DnsLookupFamily = DnsLookupFamily.ALL
    resolver: DnsResolver = SYSTEM_RESOLVER
    by_reachability: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """IP addresses, none twice; none at all where the name does not exist or has no address. ``ttl_s`` is the
    least of all records, 0 where it is unknown, as in ``/etc/hosts``."""

    addresses: tuple[str, ...]
    ttl_s: int = 0


Resolve = Callable[[Question], Awaitable[Answer]]
"""Raises `NameResolutionError` where it cannot be told which addresses a name has."""
