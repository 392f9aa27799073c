from __future__ import annotations

from sidecar.config.endpoint import SocketAddress, UpstreamSource
from tests.support.upstreams import make_host


def source(number: int) -> UpstreamSource:
    return UpstreamSource(SocketAddress(f"10.1.{number // 256}.{number % 256}", 0), 1337)


def test_each_client_s_address_has_connections_of_its_own() -> None:
    host = make_host()
    assert host.pool_for(source(1)) is host.pool_for(source(1))
    assert len({host.pool, host.pool_for(source(1)), host.pool_for(source(2))}) == 3


def test_pools_without_connections_are_removed_as_clients_come_and_go() -> None:
    host = make_host()
    first = host.pool_for(source(0))
    for number in range(1, 70):
        host.pool_for(source(number))
    assert host.pool_for(source(0)) is not first
