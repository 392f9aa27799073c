from __future__ import annotations

import asyncio
import ssl
from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sidecar.config.cluster import CircuitBreakers
from sidecar.errors import UpstreamConnectError, UpstreamOverflowError
from sidecar.upstream.pool.pooled_connection import Lease
from tests.support.host_pools import HostPoolFixture
from tests.support.upstreams import FakeConnection


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
        self.fixture = HostPoolFixture(
            self.loop,
            lambda codec_type, client: self.open_connection,
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
        self.dialer.current = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.pool.use_tls(None)
        self.settle()

    # Invariants.

    @invariant()
    def accounts_balance(self) -> None:
        stats, breaker = self.fixture.stats, self.fixture.breaker
        open_connections = len(self.open()) + len(self.dialer.pending)
        assert breaker.connections.count == open_connections <= self.MAX_CONNECTIONS
        assert stats.upstream_cx_active == self.fixture.host_stats.cx_active == open_connections
        assert breaker.pending_requests.count == stats.upstream_rq_pending_active == len(self.waiting)
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
            at_limit = self.fixture.breaker.connections.count == self.MAX_CONNECTIONS
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
        assert self.fixture.breaker.connections.count == 0
        assert self.pool.drained
        self.loop.close()


async def _sent(lease: Lease) -> None:
    await lease.connection.codec.send("a request")


HostPoolMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestHostPoolMachine = HostPoolMachine.TestCase
