from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sidecar.config.cluster import CircuitBreakers, ClusterConfig, Discovery
from sidecar.config.codec_type import CodecType
from sidecar.config.endpoint import SocketAddress, UpstreamSource
from sidecar.config.tls import UpstreamTls
from sidecar.errors import UpstreamConnectError, UpstreamOverflowError
from sidecar.http.codec import client_codec
from sidecar.observability.stats import ClusterStats, HostStats
from sidecar.timers import Timers
from sidecar.upstream.circuit_breaker import CircuitBreaker
from sidecar.upstream.connection import ConnectionFactory
from sidecar.upstream.connector import Dialed
from sidecar.upstream.pool.host_pool import HostPool, PoolEnvironment
from sidecar.upstream.pool.pooled_connection import Lease
from tests.support.fake_network import FakeNetwork
from tests.support.http1 import settle
from tests.support.upstreams import FakeConnection

ADDRESS = SocketAddress("10.0.0.1", 9080)


class FakeDialer:
    """A `Dialer` whose connections open when the test decides. `alpn` is the choice of every host."""

    def __init__(self, alpn: str = "") -> None:
        self.alpn = alpn
        self.context: ssl.SSLContext | None = None
        self.pending: list[asyncio.Future[None]] = []
        self.sources: list[UpstreamSource | None] = []

    async def dial(
        self,
        address: SocketAddress,
        tls: UpstreamTls | None,
        factory: Callable[[str], Any],
        source: UpstreamSource | None,
    ) -> tuple[Any, Dialed]:
        context = self.context
        self.sources.append(source)
        opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.pending.append(opened)
        try:
            await opened
        finally:
            self.pending.remove(opened)
        dialed = Dialed(
            transport=asyncio.Transport(), context=context, peer_id="spiffe://a", local_address=ADDRESS
        )
        return factory(self.alpn), dialed


class Fixture:
    """A pool, and the objects that it works with."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        factory: ConnectionFactory,
        alpn: str = "",
        **config: Any,
    ) -> None:
        self.breaker = CircuitBreaker(config.pop("circuit_breakers", CircuitBreakers()))
        self.stats, self.host_stats = ClusterStats(), HostStats()
        self.dialer = FakeDialer(alpn)
        self.timers = Timers(loop.clock if isinstance(loop, FakeNetwork) else loop)
        config.setdefault("idle_timeout_s", 0)
        env = PoolEnvironment(
            config=ClusterConfig(name="up", discovery=Discovery.STATIC, **config),
            breaker=self.breaker,
            stats=self.stats,
            dialer=self.dialer,
            connection_factory=factory,
            timers=self.timers,
            loop=loop,
        )
        self.pool = HostPool(ADDRESS, None, env, self.host_stats)


async def test_connections_for_one_client_come_from_its_address() -> None:
    fixture = Fixture(
        asyncio.get_running_loop(), lambda codec_type: lambda alpn: FakeConnection(), idle_timeout_s=0
    )
    source = UpstreamSource(SocketAddress("10.1.0.1", 0), 1337)
    acquiring = [
        asyncio.create_task(pool.acquire()) for pool in (fixture.pool, fixture.pool.for_source(source))
    ]
    await settle()
    assert fixture.dialer.sources == [None, source]
    for task in acquiring:
        task.cancel()
    await settle()
    fixture.pool.drain()
    later = asyncio.create_task(fixture.pool.for_source(source).acquire())
    await settle()
    fixture.dialer.pending[-1].set_result(None)
    assert (await later).connection.retiring


@pytest.mark.parametrize(("configured_s", "expected_s"), [(3600.0, 60.0), (0.0, 60.0), (5.0, 5.0)])
async def test_idle_connections_for_one_client_are_closed_soon(
    configured_s: float, expected_s: float
) -> None:
    network = FakeNetwork()
    fixture = Fixture(network, lambda codec_type: lambda alpn: FakeConnection(), idle_timeout_s=configured_s)
    pool = fixture.pool.for_source(UpstreamSource(SocketAddress("10.1.0.1", 0), 1337))
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


async def test_the_codec_is_made_for_the_protocol_that_was_negotiated() -> None:
    negotiated: list[str] = []

    def codec(alpn: str) -> FakeConnection:
        negotiated.append(alpn)
        return FakeConnection(capacity=100 if alpn == "h2" else 1)

    fixture = Fixture(asyncio.get_running_loop(), lambda codec_type: codec, alpn="h2")
    acquiring = asyncio.create_task(fixture.pool.acquire())
    await settle()
    assert negotiated == []
    fixture.dialer.pending[0].set_result(None)
    lease = await acquiring
    assert negotiated == ["h2"]
    assert (lease.connection.capacity, lease.connection.peer_id) == (100, "spiffe://a")


async def test_bytes_and_exchanges_that_were_cut_short_are_counted() -> None:
    fixture = Fixture(asyncio.get_running_loop(), lambda codec_type: lambda alpn: FakeConnection(capacity=2))
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
    connection.close()
    stats = fixture.stats
    assert (stats.upstream_cx_tx_bytes_total, stats.upstream_cx_rx_bytes_total) == (20, 10)
    assert stats.upstream_cx_destroy_local_with_active_rq == stats.upstream_rq_tx_reset == 1
    assert stats.upstream_cx_active == fixture.host_stats.cx_active == 0


@pytest.mark.parametrize("busy", [False, True])
async def test_no_timer_keeps_a_drained_pool_in_memory(busy: bool) -> None:
    fixture = Fixture(
        asyncio.get_running_loop(), lambda codec_type: lambda alpn: FakeConnection(), idle_timeout_s=3600.0
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


async def test_hosts_whose_http_version_is_not_supported_are_not_dialed() -> None:
    fixture = Fixture(asyncio.get_running_loop(), client_codec, codec_type=CodecType.HTTP2)
    with pytest.raises(UpstreamConnectError, match="HTTP/2"):
        await fixture.pool.acquire()
    assert fixture.dialer.pending == []
    assert fixture.stats.upstream_rq_pending_failure_eject == 1
    assert fixture.breaker.connections == 0


class HostPoolMachine(RuleBasedStateMachine):
    """Events of multiplexing connections in any order: no lease is lost, no limit exceeded, and no dial is
    needless."""

    MAX_CONNECTIONS = 3
    MAX_PENDING = 5

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.next_capacity = 1
        self.expected_streams = self.expected_before = 1
        self.dials_before = self.waiting_before = 0
        self.fixture = Fixture(
            self.loop,
            lambda codec_type: self.open_connection,
            circuit_breakers=CircuitBreakers(
                max_connections=self.MAX_CONNECTIONS, max_pending_requests=self.MAX_PENDING
            ),
        )
        self.pool, self.dialer = self.fixture.pool, self.fixture.dialer
        self.connections: list[FakeConnection] = []
        self.waiting: list[asyncio.Task[Lease]] = []
        self.lent: list[Lease] = []

    # Events of the connections.

    def open_connection(self, alpn: str) -> FakeConnection:
        connection = FakeConnection(self.next_capacity)
        self.connections.append(connection)
        self.expect(connection)
        return connection

    def expect(self, connection: FakeConnection) -> None:
        self.expected_streams = max(1, connection.capacity)

    def open(self) -> list[FakeConnection]:
        return [connection for connection in self.connections if not connection.closed]

    def leases_of(self, connection: FakeConnection) -> list[Lease]:
        return [lease for lease in self.lent if lease.connection.codec is connection]

    def take(self, lease: Lease) -> None:
        connection = lease.connection.codec
        assert isinstance(connection, FakeConnection)
        assert not connection.goaway
        if connection.closed:  # it closed as it opened: the request that gets it fails
            return
        assert len(self.leases_of(connection)) < connection.capacity
        self.lent.append(lease)

    def settle(self) -> None:
        """Lets the loop run until nothing moves, and takes the leases that were granted, in order."""
        waiting, expected = max(self.waiting_before, len(self.waiting)), self.expected_before
        for _ in range(8):
            self.loop.run_until_complete(asyncio.sleep(0))
        self.lent = [lease for lease in self.lent if not lease.connection.codec.closed]
        served = [task.done() for task in self.waiting]
        assert served == sorted(served, reverse=True), "first come, first served"
        done = [task for task in self.waiting if task.done()]
        self.waiting = [task for task in self.waiting if not task.done()]
        for task in done:
            if task.exception() is None:
                self.take(task.result())
            else:
                assert isinstance(task.exception(), UpstreamConnectError)
        if len(self.dialer.pending) > self.dials_before:
            needed = -(-waiting // min(expected, self.expected_streams))
            assert len(self.dialer.pending) <= needed, "a needless dial"
        self.dials_before, self.waiting_before = len(self.dialer.pending), len(self.waiting)
        self.expected_before = self.expected_streams

    # The steps.

    @rule()
    def request(self) -> None:
        lease = self.pool.checkout()
        if lease is not None:
            assert not self.waiting, "it overtook those that wait"
            self.take(lease)
            return
        task = self.loop.create_task(self.pool.acquire())
        self.waiting.append(task)
        self.loop.run_until_complete(asyncio.sleep(0))
        if task.done():
            assert isinstance(task.exception(), UpstreamOverflowError)
            self.waiting.remove(task)
            assert len(self.waiting) == self.MAX_PENDING
        self.settle()

    @precondition(lambda self: self.dialer.pending)
    @rule(capacity=st.integers(0, 4))
    def dial_succeeds(self, capacity: int) -> None:
        self.next_capacity = capacity
        self.dialer.pending[0].set_result(None)
        self.settle()

    @precondition(lambda self: self.dialer.pending)
    @rule()
    def dial_is_refused(self) -> None:
        self.dialer.pending[0].set_exception(UpstreamConnectError("refused"))
        self.settle()
        assert not self.waiting

    @precondition(lambda self: self.lent)
    @rule(data=st.data())
    def exchange_ends(self, data: st.DataObject) -> None:
        self.end(data.draw(st.sampled_from(self.lent)))
        self.settle()

    def end(self, lease: Lease) -> None:
        self.lent.remove(lease)
        connection = lease.connection.codec
        assert isinstance(connection, FakeConnection)
        self.loop.run_until_complete(_sent(lease))
        connection.end_exchange()

    @precondition(lambda self: self.lent)
    @rule(data=st.data())
    def lease_is_given_back(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(self.lent))
        self.lent.remove(lease)
        lease.give_back()
        self.settle()

    @precondition(lambda self: self.open())
    @rule(data=st.data(), capacity=st.integers(0, 4))
    def capacity_changes(self, data: st.DataObject, capacity: int) -> None:
        connection = data.draw(st.sampled_from(self.open()))
        connection.limit(capacity)
        self.expect(connection)
        self.settle()

    @precondition(lambda self: self.open())
    @rule(data=st.data())
    def connection_goes_away(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.open())).go_away()
        self.settle()

    @precondition(lambda self: self.open())
    @rule(data=st.data())
    def peer_closes(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.open())).lose()
        self.settle()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def request_is_cancelled(self, data: st.DataObject) -> None:
        self.cancel(data.draw(st.sampled_from(self.waiting)))
        self.settle()

    @precondition(lambda self: self.waiting and self.lent)
    @rule(data=st.data())
    def request_is_cancelled_just_as_it_gets_its_lease(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(self.lent))
        self.end(lease)
        self.cancel(self.waiting[0])
        self.settle()

    def cancel(self, task: asyncio.Task[Lease]) -> None:
        self.waiting.remove(task)
        task.cancel()
        self.loop.run_until_complete(asyncio.wait((task,)))
        assert task.cancelled()

    @rule()
    def certificate_rotates(self) -> None:
        self.dialer.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.pool.use_tls(None, self.dialer.context)
        self.settle()

    # Invariants.

    @invariant()
    def accounts_balance(self) -> None:
        stats, breaker = self.fixture.stats, self.fixture.breaker
        open_connections = len(self.open()) + len(self.dialer.pending)
        assert breaker.connections == open_connections <= self.MAX_CONNECTIONS
        assert stats.upstream_cx_active == self.fixture.host_stats.cx_active == open_connections
        assert breaker.pending_requests == stats.upstream_rq_pending_active == len(self.waiting)
        leases = Counter(id(lease.connection) for lease in self.lent)
        for lease in self.lent:
            assert lease.connection.lent == leases[id(lease.connection)]

    @invariant()
    def a_connection_that_went_away_is_closed_after_its_last_exchange(self) -> None:
        for connection in self.open():
            assert self.leases_of(connection) or not connection.goaway

    @invariant()
    def requests_that_wait_have_something_to_wait_for(self) -> None:
        if self.waiting:
            assert self.dialer.pending or self.open()
            enough = len(self.dialer.pending) * self.expected_streams >= len(self.waiting)
            at_limit = self.fixture.breaker.connections == self.MAX_CONNECTIONS
            # RFC 9113 6.5.2: a host announces a capacity of zero for a short time only.
            assert enough or at_limit or any(connection.capacity == 0 for connection in self.open())
            for lease in self.lent:
                connection = lease.connection
                assert connection.retiring or connection.lent >= connection.capacity

    def teardown(self) -> None:
        for task in tuple(self.waiting):
            self.cancel(task)
        self.loop.run_until_complete(self.pool.close())
        self.settle()
        self.accounts_balance()
        assert self.fixture.breaker.connections == 0
        assert self.pool.drained
        self.loop.close()


async def _sent(lease: Lease) -> None:
    await lease.connection.codec.send("a request")


HostPoolMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestHostPoolMachine = HostPoolMachine.TestCase
