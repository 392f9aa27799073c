"""The questions to a resolver, and its answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sidecar.config.dns import SYSTEM_RESOLVER, DnsLookupFamily, DnsResolver


@dataclass(frozen=True, slots=True)
class Question:
    """``by_reachability``: addresses are in the order in which to try them (RFC 6724), of either family;
    otherwise in the order of the answer."""

    name: str
    family: DnsLookupFamily = DnsLookupFamily.ALL
    resolver: DnsResolver = SYSTEM_RESOLVER
    by_reachability: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """IP addresses without duplicates, empty if the name does not exist or has no address. ``ttl_s`` is the
    least of all records, 0 if it is unknown, as for ``/etc/hosts``."""

    addresses: tuple[str, ...]
    ttl_s: int = 0


Resolve = Callable[[Question], Awaitable[Answer]]
"""Raises `NameResolutionError` if the addresses of a name cannot be found out."""
