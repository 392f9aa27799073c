"""The capture of DNS queries.

UDP queries of the application, and those of the proxy for the same names, are in two zones of the connection
tracking: with the same addresses and ports they would be one connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sidecar.intercept.rules import OUTPUT, PREROUTING, Family, Rule, addresses_of_family, owners
from sidecar.intercept.settings import EVERYTHING, Interception

_PORT: Final = 53
_PROXY_TO_RESOLVER: Final = "-j CT --zone 1"
_APPLICATION_TO_PROXY: Final = "-j CT --zone 2"


def captured_queries(settings: Interception, family: Family) -> Iterator[str]:
    """The texts of the rules of table ``nat``."""
    if settings.dns is None:
        return
    for protocol in ("tcp", "udp"):
        for resolver in _resolvers(settings, family):
            target = f"-d {resolver} " if resolver else ""
            yield (
                f"{target}-p {protocol} -m {protocol} --dport {_PORT} "
                f"-j REDIRECT --to-ports {settings.dns.port}"
            )


def queries_are_captured(settings: Interception, family: Family) -> bool:
    return bool(_resolvers(settings, family))


def zone_rules(settings: Interception, family: Family) -> Iterator[Rule]:
    """The rules of table ``raw``."""
    resolvers = _resolvers(settings, family)
    if settings.dns is None or not resolvers:
        return
    query, answer = f"-p udp -m udp --dport {_PORT}", f"-p udp -m udp --sport {_PORT}"
    captured_answer = f"-p udp -m udp --sport {settings.dns.port}"
    for owner in owners(settings.proxy_uids, settings.proxy_gids):
        yield Rule("raw", OUTPUT, f"{query} -m owner {owner} {_PROXY_TO_RESOLVER}")
        yield Rule("raw", OUTPUT, f"{captured_answer} -m owner {owner} {_APPLICATION_TO_PROXY}")
    for resolver in resolvers:
        target, source = (f"-d {resolver} ", f"-s {resolver} ") if resolver else ("", "")
        yield Rule("raw", OUTPUT, f"{target}{query} {_APPLICATION_TO_PROXY}")
        yield Rule("raw", PREROUTING, f"{source}{answer} {_PROXY_TO_RESOLVER}")


def _resolvers(settings: Interception, family: Family) -> list[str]:
    """The addresses in the form of a range; an empty text stands for any address."""
    if settings.dns is None:
        return []
    if settings.dns.resolvers == EVERYTHING:
        return [""]
    resolvers = addresses_of_family(settings.dns.resolvers, family)
    return [f"{resolver}/{resolver.max_prefixlen}" for resolver in resolvers]
