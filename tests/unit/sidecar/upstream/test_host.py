from __future__ import annotations

import asyncio

from sidecar.config.endpoint import SocketAddress, UpstreamSource
from sidecar.config.proxy_protocol import UpstreamProxyProtocol
from sidecar.config.tls import ServerNames
from sidecar.observability.stats import HostStats
from sidecar.observability.stream_info import DownstreamConnection
from sidecar.upstream.host import Host
from tests.support.host_pools import HostPoolFixture
from tests.support.http1 import settle
from tests.support.upstreams import FakeConnection, endpoint, make_host


def source(number: int) -> UpstreamSource:
    return UpstreamSource(SocketAddress(f"10.1.{number // 256}.{number % 256}", 0), 1337)


def test_each_client_s_address_has_connections_of_its_own() -> None:
    host = make_host()
    assert host.pool_for(source(1)) is host.pool_for(source(1))
    assert len({host.pool, host.pool_for(source(1)), host.pool_for(source(2))}) == 3


def test_each_offer_of_protocols_has_connections_of_its_own() -> None:
    host = make_host()
    chosen = host.pool_for(None, alpn=("istio-h2",))
    assert chosen is host.pool_for(None, alpn=("istio-h2",))
    assert len({host.pool, chosen, host.pool_for(None, alpn=("istio-http/1.1",))}) == 3


def test_each_name_of_the_host_has_connections_of_its_own() -> None:
    host = make_host()
    named = [ServerNames(sni="a", san="a"), ServerNames(sni="b", san="a"), ServerNames(sni="a")]
    assert host.pool_for(None, names=named[0]) is host.pool_for(None, names=ServerNames(sni="a", san="a"))
    assert len({host.pool, *(host.pool_for(None, names=names) for names in named)}) == 4


def test_clients_with_other_proxy_headers_do_not_share_connections() -> None:
    host = make_host()
    assert host.source_for(client("192.0.2.1", 1)) is None, "without a header, any client's connection serves"
    host.proxy_protocol = UpstreamProxyProtocol(version=2, tlv_types=frozenset({4}))
    first = host.source_for(client("192.0.2.1", 1))
    assert host.source_for(client("192.0.2.1", 1)) == first
    assert host.source_for(client("192.0.2.1", 1, (5, b"not passed on"))) == first
    others = [client("192.0.2.1", 2), client("192.0.2.2", 1), client("192.0.2.1", 1, (4, b"a"))]
    assert len({first, *map(host.source_for, others)}) == 4


def client(host: str, port: int, *tlvs: tuple[int, bytes]) -> DownstreamConnection:
    local = SocketAddress("10.0.0.1", 80)
    return DownstreamConnection(
        id=1, remote_address=SocketAddress(host, port), local_address=local, tlvs=tlvs
    )


def test_pools_without_connections_are_removed_as_clients_come_and_go() -> None:
    host = make_host()
    first = host.pool_for(source(0))
    for number in range(1, 70):
        host.pool_for(source(number))
    assert host.pool_for(source(0)) is not first


async def test_pools_of_a_host_that_drains_keep_no_connection() -> None:
    fixture = HostPoolFixture(
        asyncio.get_running_loop(), lambda codec_type, client: lambda alpn: FakeConnection()
    )
    host = Host(endpoint(1), HostStats(), None, fixture.env)
    host.drain()
    for pool in (host.pool, host.pool_for(source(1))):
        acquiring = asyncio.create_task(pool.acquire())
        await settle()
        fixture.dialer.pending[-1].set_result(None)
        assert (await acquiring).connection.retiring
