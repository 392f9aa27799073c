from __future__ import annotations

import asyncio

import pytest

from sidecar.config.codec_type import CodecType
from sidecar.config.endpoint import SocketAddress, UpstreamSource
from sidecar.config.tls import TlsParameters, UpstreamTls
from sidecar.upstream.pool.host_pool import offering_alpn
from sidecar.upstream.pool.pooled_connection import Lease
from tests.support.fake_network import FakeNetwork
from tests.support.host_pools import HostPoolFixture
from tests.support.http1 import settle
from tests.support.upstreams import FakeConnection


async def test_connections_for_one_client_come_from_its_address() -> None:
    fixture = HostPoolFixture(
        asyncio.get_running_loop(), lambda codec_type, client: lambda alpn: FakeConnection(), idle_timeout_s=0
    )
    source = UpstreamSource(SocketAddress("10.1.0.1", 0), 1337)
    acquiring = [asyncio.create_task(pool.acquire()) for pool in (fixture.pool, fixture.make_pool(source))]
    await settle()
    assert fixture.dialer.sources == [None, source]
    for task in acquiring:
        task.cancel()
    await settle()


@pytest.mark.parametrize(("configured_s", "expected_s"), [(3600.0, 60.0), (0.0, 60.0), (5.0, 5.0)])
async def test_idle_connections_for_one_client_are_closed_soon(
    configured_s: float, expected_s: float
) -> None:
    network = FakeNetwork()
    fixture = HostPoolFixture(
        network, lambda codec_type, client: lambda alpn: FakeConnection(), idle_timeout_s=configured_s
    )
    pool = fixture.make_pool(UpstreamSource(SocketAddress("10.1.0.1", 0), 1337))
    acquiring = asyncio.create_task(pool.acquire())
    await settle()
    fixture.dialer.pending[0].set_result(None)
    codec = (await acquiring).connection.codec
    assert isinstance(codec, FakeConnection)
    await codec.send("one")
    codec.end_exchange()
    network.clock.advance(expected_s - 1)
    assert not codec.closed
    network.clock.advance(2)
    assert codec.closed


async def old_connection(network: FakeNetwork) -> tuple[HostPoolFixture, Lease, FakeConnection]:
    """One that has a lease, in a pool whose connections live for a minute."""
    fixture = HostPoolFixture(
        network, lambda codec_type, client: lambda alpn: FakeConnection(), max_connection_duration_s=60.0
    )
    acquiring = asyncio.create_task(fixture.pool.acquire())
    await settle()
    fixture.dialer.pending[0].set_result(None)
    lease = await acquiring
    codec = lease.connection.codec
    assert isinstance(codec, FakeConnection)
    return fixture, lease, codec


async def test_a_connection_closes_at_its_greatest_age_after_its_last_exchange() -> None:
    network = FakeNetwork()
    fixture, _, codec = await old_connection(network)
    await codec.send("one")
    network.clock.advance(61)
    assert fixture.stats.upstream_cx_max_duration_reached == 1
    assert not codec.closed
    assert fixture.pool.checkout() is None
    codec.end_exchange()
    assert codec.closed


async def test_an_idle_connection_closes_at_its_greatest_age_at_once() -> None:
    network = FakeNetwork()
    fixture, lease, codec = await old_connection(network)
    lease.give_back()
    network.clock.advance(59)
    assert not codec.closed
    network.clock.advance(2)
    assert codec.closed
    assert fixture.stats.upstream_cx_max_duration_reached == 1


async def test_a_connection_that_has_closed_has_no_age() -> None:
    network = FakeNetwork()
    fixture, _, codec = await old_connection(network)
    codec.close()
    network.clock.advance(61)
    assert fixture.stats.upstream_cx_max_duration_reached == 0


async def test_the_codec_is_made_for_the_protocol_that_was_negotiated() -> None:
    negotiated: list[str] = []

    def codec(alpn: str) -> FakeConnection:
        negotiated.append(alpn)
        return FakeConnection(capacity=100 if alpn == "h2" else 1)

    fixture = HostPoolFixture(asyncio.get_running_loop(), lambda codec_type, client: codec, alpn="h2")
    acquiring = asyncio.create_task(fixture.pool.acquire())
    await settle()
    assert negotiated == []
    fixture.dialer.pending[0].set_result(None)
    lease = await acquiring
    assert negotiated == ["h2"]
    assert (lease.connection.capacity, lease.connection.peer_id) == (100, "spiffe://a")


async def test_bytes_and_exchanges_that_were_cut_short_are_counted() -> None:
    fixture = HostPoolFixture(
        asyncio.get_running_loop(), lambda codec_type, client: lambda alpn: FakeConnection(capacity=2)
    )
    acquiring = asyncio.create_task(fixture.pool.acquire())
    await settle()
    fixture.dialer.pending[0].set_result(None)
    first = await acquiring
    second = fixture.pool.checkout()
    assert second is not None
    await first.connection.codec.send("one")
    await second.connection.codec.send("two")
    connection = first.connection.codec
    assert isinstance(connection, FakeConnection)
    connection.end_exchange()
    connection.broke_protocol = True
    connection.close()
    stats = fixture.stats
    assert (stats.upstream_cx_tx_bytes_total, stats.upstream_cx_rx_bytes_total) == (20, 10)
    assert stats.upstream_cx_destroy_local_with_active_rq == stats.upstream_rq_tx_reset == 1
    assert stats.upstream_cx_protocol_error == 1
    assert stats.upstream_cx_active == fixture.host_stats.cx_active == 0


@pytest.mark.parametrize("busy", [False, True])
async def test_no_timer_keeps_a_drained_pool_in_memory(busy: bool) -> None:
    fixture = HostPoolFixture(
        asyncio.get_running_loop(),
        lambda codec_type, client: lambda alpn: FakeConnection(),
        idle_timeout_s=3600.0,
    )
    acquiring = asyncio.create_task(fixture.pool.acquire())
    await settle()
    fixture.dialer.pending[0].set_result(None)
    lease = await acquiring
    codec = lease.connection.codec
    assert isinstance(codec, FakeConnection)
    await codec.send("one")
    codec.end_exchange()
    assert fixture.timers.pending == 1
    if busy:
        assert fixture.pool.checkout() is not None
        await codec.send("two")
    fixture.pool.drain()
    if busy:
        codec.end_exchange()
    assert fixture.pool.drained
    assert fixture.timers.pending == 0


@pytest.mark.parametrize("codec_type", [CodecType.HTTP2, CodecType.AUTO])
async def test_requests_wait_for_the_first_connection_to_an_http2_host(codec_type: CodecType) -> None:
    fixture = HostPoolFixture(
        asyncio.get_running_loop(),
        lambda codec_type, client: lambda alpn: FakeConnection(capacity=4),
        codec_type=codec_type,
    )
    waiting = [asyncio.create_task(fixture.pool.acquire()) for _ in range(6)]
    await settle()
    assert len(fixture.dialer.pending) == 1
    fixture.dialer.pending[0].set_result(None)
    await settle()
    assert [task.done() for task in waiting] == [True] * 4 + [False] * 2
    assert len(fixture.dialer.pending) == 1, "for the two that the first connection cannot carry"
    fixture.dialer.pending[0].set_result(None)
    assert len({(await task).connection for task in waiting}) == 2


async def test_a_host_of_http1_is_dialed_for_each_request_that_waits() -> None:
    fixture = HostPoolFixture(
        asyncio.get_running_loop(), lambda codec_type, client: lambda alpn: FakeConnection()
    )
    waiting = [asyncio.create_task(fixture.pool.acquire()) for _ in range(3)]
    await settle()
    assert len(fixture.dialer.pending) == 3
    for task in waiting:
        task.cancel()
    await settle()
    await fixture.pool.close()


async def test_a_connection_that_drains_is_replaced_when_a_request_needs_it() -> None:
    fixture = HostPoolFixture(
        asyncio.get_running_loop(),
        lambda codec_type, client: lambda alpn: FakeConnection(capacity=4),
        codec_type=CodecType.HTTP2,
    )
    first = asyncio.create_task(fixture.pool.acquire())
    await settle()
    fixture.dialer.pending[0].set_result(None)
    codec = (await first).connection.codec
    assert isinstance(codec, FakeConnection)
    codec.go_away()
    assert fixture.pool.checkout() is None
    second = asyncio.create_task(fixture.pool.acquire())
    await settle()
    fixture.dialer.pending[0].set_result(None)
    assert (await second).connection.codec is not codec
    assert not codec.closed
    codec.end_exchange()
    assert codec.closed


@pytest.mark.parametrize(
    ("codec_type", "configured", "offered"),
    [
        (CodecType.HTTP1, (), ("http/1.1",)),
        (CodecType.HTTP2, (), ("h2",)),
        (CodecType.AUTO, (), ("h2", "http/1.1")),
        (CodecType.HTTP2, ("istio",), ("istio",)),
    ],
)
def test_tls_offers_the_protocols_of_the_cluster_unless_it_is_configured(
    codec_type: CodecType, configured: tuple[str, ...], offered: tuple[str, ...]
) -> None:
    tls = offering_alpn(UpstreamTls(parameters=TlsParameters(alpn_protocols=configured)), codec_type)
    assert tls is not None
    assert tls.parameters.alpn_protocols == offered
    assert offering_alpn(None, codec_type) is None


def test_the_protocols_that_a_filter_has_chosen_take_precedence() -> None:
    configured = UpstreamTls(parameters=TlsParameters(alpn_protocols=("istio",)), sni="a")
    tls = offering_alpn(configured, CodecType.HTTP1, ("istio-http/1.1", "istio"))
    assert tls == UpstreamTls(parameters=TlsParameters(alpn_protocols=("istio-http/1.1", "istio")), sni="a")
