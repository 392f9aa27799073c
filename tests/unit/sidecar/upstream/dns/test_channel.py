from __future__ import annotations

import pytest

from sidecar.config.dns import DnsResolver
from sidecar.config.endpoint import SocketAddress
from sidecar.upstream.dns.channel import NO_SERVERS, servers

OWN = (SocketAddress("10.0.0.53", 53), SocketAddress("::1", 5353))


@pytest.mark.parametrize(
    ("config", "of_system", "expected"),
    [
        (DnsResolver(), ["10.9.9.9:53"], ["10.9.9.9:53"]),
        (DnsResolver(), NO_SERVERS, NO_SERVERS),
        (DnsResolver(servers=OWN), ["10.9.9.9:53"], ["10.0.0.53:53", "[::1]:5353"]),
        (DnsResolver(servers=OWN, servers_are_fallback=True), ["10.9.9.9:53"], ["10.9.9.9:53"]),
        (DnsResolver(servers=OWN, servers_are_fallback=True), NO_SERVERS, ["10.0.0.53:53", "[::1]:5353"]),
    ],
)
def test_configured_servers_come_before_the_systems_or_after_them(
    config: DnsResolver, of_system: list[str], expected: list[str]
) -> None:
    assert servers(config, of_system) == expected
