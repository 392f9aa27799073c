"""Hosts by DNS: names are resolved again and again, and become endpoints.

Source: ``STRICT_DNS`` (every address is a host) and ``LOGICAL_DNS`` (the first address is the one host) of
``envoy.config.cluster.v3.Cluster.DiscoveryType``.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from sidecar.config.cluster import Cluster as ClusterConfig
from sidecar.config.cluster import Discovery, DnsLookupFamily
from sidecar.config.endpoint import Endpoint, LoadAssignment, SocketAddress
from sidecar.observability.stats import ClusterStats
from sidecar.upstream.environment import Resolver
from sidecar.upstream.original_dst import is_ip_address


def system_resolver(loop: asyncio.AbstractEventLoop) -> Resolver:
    """The operating system's, in the loop's thread pool."""

    async def resolve(name: str) -> Sequence[str]:
        try:
            found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except ValueError as error:  # a name that cannot be encoded: too long a label, a NUL
            raise OSError(f"{name!r} is no host name") from error
        return [str(sockaddr[0]) for *_, sockaddr in found]

    return resolve


def of_family(addresses: Sequence[str], family: DnsLookupFamily) -> Sequence[str]:
    """Those that ``dns_lookup_family`` asks for."""
    v4 = [address for address in addresses if ":" not in address]
    v6 = [address for address in addresses if ":" in address]
    if family is DnsLookupFamily.ALL:
        return addresses
    if family in {DnsLookupFamily.V4_ONLY, DnsLookupFamily.V4_PREFERRED}:
        return v4 or (v6 if family is DnsLookupFamily.V4_PREFERRED else [])
    return v6 or (v4 if family is DnsLookupFamily.AUTO else [])


class DnsDiscovery:
    """Follows the names of one cluster's load assignment, and reports what they stand for."""

    def __init__(
        self,
        config: ClusterConfig,
        stats: ClusterStats,
        resolve: Resolver,
        report: Callable[[LoadAssignment], None],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._config = config
        self._stats = stats
        self._resolve = resolve
        self._report = report
        self._sleep = sleep

    async def run(self) -> None:
        """Until it is cancelled. A name that cannot be resolved keeps the addresses that it had."""
        assignment = self._config.load_assignment
        if assignment is None:
            return
        known: dict[SocketAddress, tuple[Endpoint, ...]] = {}
        reported: tuple[Endpoint, ...] | None = None
        while True:
            for endpoint in assignment.endpoints:
                found = await self._look_up(endpoint)
                if found is not None:
                    known[endpoint.address] = found
            endpoints = tuple(found for group in known.values() for found in group)
            if endpoints != reported:
                reported = endpoints
                self._report(replace(assignment, endpoints=endpoints))
            await self._sleep(self._config.dns_refresh_rate_s)

    async def _look_up(self, endpoint: Endpoint) -> tuple[Endpoint, ...] | None:
        """The endpoints that a name stands for; None when that cannot be told."""
        name, port = endpoint.address.host, endpoint.address.port
        if is_ip_address(name):
            return (endpoint,)
        self._stats.update_attempt += 1
        try:
            addresses = await self._resolve(name)
        except OSError:
            self._stats.update_failure += 1
            return None
        addresses = of_family(addresses, self._config.dns_lookup_family)
        unique = sorted(set(addresses)) if self._config.discovery is Discovery.STRICT_DNS else addresses[:1]
        return tuple(
            replace(endpoint, address=SocketAddress(address, port), hostname=endpoint.hostname or name)
            for address in unique
        )
