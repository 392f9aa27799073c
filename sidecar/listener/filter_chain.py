"""Selects the filter chain of a connection. Compiled when configuration arrives.

The order is ``FilterChainMatch``'s: destination port, destination address (longest prefix), server name
(exact, then the longest wildcard), transport protocol, application protocols. Each step selects the most
specific group with the value. When a later step finds nothing, the search does not go back: the default
filter chain is used. https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/listener/v3/listener_components.proto
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Generic, TypeVar

from sidecar.config.endpoint import SocketAddress
from sidecar.config.listener import FilterChainMatch
from sidecar.listener.detect import HTTP_PROTOCOLS, Detection

T = TypeVar("T")

_Network = IPv4Network | IPv6Network
_ANY = ""  # the key of chains that match any value


class Candidates(Generic[T]):
    """The filter chains that match a destination. ``needs_tls`` and ``needs_http`` tell what must be detected
    to choose among them. Nothing is detected if no match depends on it: a client may wait for the server's
    first bytes."""

    __slots__ = ("_by_server_name", "_default", "needs_http", "needs_tls")

    def __init__(self, default: T | None) -> None:
        self._by_server_name: dict[str, dict[str, dict[str, T]]] = {}
        self._default = default
        self.needs_tls = False
        self.needs_http = False

    def add(self, match: FilterChainMatch, chain: T) -> None:
        for name in match.server_names or (_ANY,):
            # `*.example.com` is stored as `.example.com`, which is not a valid server name.
            transports = self._by_server_name.setdefault(name.removeprefix("*"), {})
            protocols = transports.setdefault(match.transport_protocol, {})
            for protocol in match.application_protocols or (_ANY,):
                protocols[protocol] = chain
        protocols_matched = frozenset(match.application_protocols)
        self.needs_http |= bool(protocols_matched & HTTP_PROTOCOLS)
        self.needs_tls |= bool(
            match.server_names or match.transport_protocol or protocols_matched - HTTP_PROTOCOLS
        )

    def choose(self, detection: Detection) -> T | None:
        transports = self._transports_of(detection.server_name)
        if transports is None:
            return self._default
        protocols = transports.get(detection.transport_protocol) or transports.get(_ANY)
        if protocols is None:
            return self._default
        for protocol in detection.application_protocols:
            if protocol in protocols:
                return protocols[protocol]
        return protocols.get(_ANY, self._default)

    def _transports_of(self, server_name: str) -> dict[str, dict[str, T]] | None:
        by_name = self._by_server_name
        if server_name and len(by_name) > (_ANY in by_name):
            if server_name in by_name:
                return by_name[server_name]
            dot = server_name.find(".")
            while dot >= 0:
                wildcard = by_name.get(server_name[dot:])
                if wildcard is not None:
                    return wildcard
                dot = server_name.find(".", dot + 1)
        return by_name.get(_ANY)


class FilterChainMatcher(Generic[T]):
    """Maps a connection to one of ``chains``, or to ``default``."""

    def __init__(self, chains: Iterable[tuple[FilterChainMatch, T]], default: T | None) -> None:
        """The decoder refuses invalid and duplicate matches."""
        self._no_candidates: Candidates[T] = Candidates(default)
        groups: dict[int | None, dict[_Network | None, Candidates[T]]] = {}
        for match, chain in chains:
            by_network = groups.setdefault(match.destination_port, {})
            for network in _networks(match):
                by_network.setdefault(network, Candidates(default)).add(match, chain)
        self._by_port = {port: _longest_prefix_first(networks) for port, networks in groups.items()}

    def for_destination(self, destination: SocketAddress) -> Candidates[T]:
        by_network = self._by_port.get(destination.port) or self._by_port.get(None)
        if by_network is None:
            return self._no_candidates
        address: IPv4Address | IPv6Address | None = None
        for network, candidates in by_network:
            if network is None:
                return candidates
            address = address or ip_address(destination.host)
            if address in network:
                return candidates
        return self._no_candidates


def _longest_prefix_first(
    networks: dict[_Network | None, Candidates[T]],
) -> list[tuple[_Network | None, Candidates[T]]]:
    return sorted(
        networks.items(), key=lambda item: -1 if item[0] is None else item[0].prefixlen, reverse=True
    )


def _networks(match: FilterChainMatch) -> list[_Network | None]:
    return [ip_network(cidr) for cidr in match.prefix_ranges] or [None]
