from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sidecar.config.cluster import CircuitBreakers
from sidecar.errors import UpstreamConnectError, UpstreamOverflowError
from sidecar.observability.stats import ClusterStats
from sidecar.upstream.circuit_breaker import CircuitBreaker
from sidecar.upstream.pool.pool import Lease, Pool
from tests.support.upstreams import FakeConnection


class FakeWaiter:
    def __init__(self) -> None:
        self.result: Lease | None = None
        self.error: BaseException | type | None = None
        self.cancelled = False

    def done(self) -> bool:
        return self.cancelled or self.result is not None or self.error is not None

    def set_result(self, result: Lease) -> None:
        assert not self.done()
        self.result = result

    def set_exception(self, exception: type | BaseException) -> None:
        assert not self.done()
        self.error = exception


def make_pool(
    *, max_requests_per_connection: int = 0, stats: ClusterStats | None = None, **limits: int
) -> Pool:
    breaker = CircuitBreaker(CircuitBreakers(**limits))  # type: ignore[arg-type]
    return Pool(breaker, stats or ClusterStats(), max_requests_per_connection=max_requests_per_connection)


def add(pool: Pool, capacity: int = 1, now_s: float = 0.0, secured_by: object = None) -> Lease:
    pool.opening()
    lease = Lease(FakeConnection(capacity), secured_by=secured_by)
    pool.opened(lease, now_s)
    return lease


def test_the_connection_used_last_is_lent_first() -> None:
    pool = make_pool()
    first, second = add(pool), add(pool)
    assert pool.checkout() is second
    assert pool.checkout() is first
    assert pool.checkout() is None
    pool.returned(first, 1.0)
    pool.returned(second, 2.0)
    assert pool.checkout() is second


def test_a_connection_that_saw_eof_is_never_lent() -> None:
    pool = make_pool()
    fresh, stale = add(pool), add(pool)
    stale.connection.closed = True
    assert pool.checkout() is fresh


def test_a_connection_with_room_is_lent_up_to_its_capacity() -> None:
    pool = make_pool()
    lease = add(pool, capacity=2)
    assert [pool.checkout(), pool.checkout(), pool.checkout()] == [lease, lease, None]
    pool.returned(lease, 1.0)
    assert pool.checkout() is lease


def test_waiters_are_served_in_order() -> None:
    pool = make_pool()
    lease = add(pool)
    pool.checkout()
    first, second = FakeWaiter(), FakeWaiter()
    pool.wait(first)
    pool.wait(second)
    pool.returned(lease, 1.0)
    assert (first.result, second.result) == (lease, None)
    pool.returned(lease, 1.0)
    assert second.result is lease
    assert pool.checkout() is None


def test_too_many_waiters_overflow() -> None:
    pool = make_pool(max_pending_requests=1)
    pool.wait(FakeWaiter())
    with pytest.raises(UpstreamOverflowError):
        pool.wait(FakeWaiter())


def test_one_connection_is_wanted_for_each_waiter_within_the_limit() -> None:
    pool = make_pool(max_connections=2)
    for _ in range(3):
        pool.wait(FakeWaiter())
    assert pool.connections_wanted() == 2
    pool.opening()
    pool.opening()
    assert pool.connections_wanted() == 0


def test_a_pool_without_any_connection_may_open_one_over_the_limit() -> None:
    breaker = CircuitBreaker(CircuitBreakers(max_connections=1))
    breaker.connections = 1  # another host's
    pool = Pool(breaker, ClusterStats())
    pool.wait(FakeWaiter())
    assert pool.connections_wanted() == 1
    pool.opening()
    pool.wait(FakeWaiter())
    assert pool.connections_wanted() == 0


def test_a_failed_attempt_fails_all_that_wait() -> None:
    stats = ClusterStats()
    pool = make_pool(stats=stats, max_connections=1)
    waiters = [FakeWaiter() for _ in range(6)]
    for waiter in waiters:
        pool.wait(waiter)
    pool.opening()
    pool.open_failed("refused")
    errors = [waiter.error for waiter in waiters]
    assert [(type(error), str(error)) for error in errors] == [(UpstreamConnectError, "refused")] * 6
    assert len({id(error) for error in errors}) == 6, "the router notes things on its request's error"
    assert pool.connections_wanted() == 0
    assert stats.upstream_rq_pending_failure_eject == 6
    assert stats.upstream_rq_pending_active == 0


def test_a_failed_attempt_fails_those_too_that_wait_for_other_attempts_or_for_busy_connections() -> None:
    pool = make_pool(max_connections=3)
    busy = add(pool)
    pool.checkout()
    first, second = FakeWaiter(), FakeWaiter()
    pool.wait(first)
    pool.wait(second)
    pool.opening()
    pool.opening()
    pool.open_failed("refused")
    assert (first.done(), second.done()) == (True, True)
    later = FakeWaiter()
    pool.wait(later)
    assert pool.connections_wanted() == 0, "one is being opened still"
    pool.opened(lease := Lease(FakeConnection()), 1.0)
    assert later.result is lease
    pool.returned(busy, 2.0)
    assert pool.checkout() is busy


def test_a_request_that_comes_after_the_failure_begins_an_attempt_of_its_own() -> None:
    pool = make_pool(max_connections=1)
    pool.wait(FakeWaiter())
    pool.opening()
    pool.open_failed("refused")
    again = FakeWaiter()
    pool.wait(again)
    assert pool.connections_wanted() == 1
    assert not again.done()


def test_an_attempt_that_is_called_off_fails_nobody() -> None:
    pool = make_pool(max_connections=1)
    waiter = FakeWaiter()
    pool.wait(waiter)
    pool.opening()
    pool.opening_ended()
    assert not waiter.done()
    assert pool.connections_wanted() == 1


def test_those_that_wait_leave_room_in_the_queue_when_they_fail() -> None:
    stats = ClusterStats()
    pool = make_pool(stats=stats, max_connections=1, max_pending_requests=2)
    for _ in range(2):
        pool.wait(FakeWaiter())
    pool.opening()
    with pytest.raises(UpstreamOverflowError):
        pool.wait(FakeWaiter())
    pool.open_failed("refused")
    pool.wait(FakeWaiter())
    pool.wait(FakeWaiter())
    with pytest.raises(UpstreamOverflowError):
        pool.wait(FakeWaiter())
    assert stats.upstream_rq_pending_overflow == 2


def test_a_waiter_that_gave_up_leaves_no_slot_behind() -> None:
    pool = make_pool(max_pending_requests=1)
    waiter = FakeWaiter()
    pool.wait(waiter)
    pool.stop_waiting(waiter)
    pool.wait(FakeWaiter())


def test_a_connection_retires_after_its_last_request() -> None:
    pool = make_pool(max_requests_per_connection=2)
    lease = add(pool)
    pool.checkout()
    assert not pool.returned(lease, 1.0)
    pool.checkout()
    assert pool.returned(lease, 2.0), "it is to be closed"
    assert pool.checkout() is None


def test_idle_connections_expire_oldest_first() -> None:
    pool = make_pool()
    old, new = add(pool, now_s=1.0), add(pool, now_s=5.0)
    assert pool.oldest_idle_s() == 1.0
    assert pool.expire(idle_before_s=1.0) == [old]
    assert pool.oldest_idle_s() == 5.0
    assert pool.checkout() is new


def test_connections_under_an_old_identity_go_when_they_are_idle() -> None:
    pool, old, new = make_pool(), object(), object()
    busy, idle = add(pool, secured_by=old), add(pool, secured_by=old)
    assert pool.checkout() is idle
    busy, idle = idle, busy
    current = add(pool, secured_by=new)
    assert pool.retire(except_secured_by=new) == [idle]
    assert pool.returned(busy, 1.0), "it is to be closed, now that its request has ended"
    assert pool.checkout() is current


def test_a_drained_pool_keeps_nothing() -> None:
    pool = make_pool()
    busy, idle = add(pool), add(pool)
    assert pool.checkout() is idle
    assert pool.drain() == [busy]
    assert pool.returned(idle, 1.0)


class PoolMachine(RuleBasedStateMachine):
    """Whatever happens in whatever order, the books balance and no limit is exceeded."""

    MAX_CONNECTIONS = 3
    MAX_PENDING = 4

    def __init__(self) -> None:
        super().__init__()
        limits = CircuitBreakers(max_connections=self.MAX_CONNECTIONS, max_pending_requests=self.MAX_PENDING)
        self.breaker = CircuitBreaker(limits)
        self.stats = ClusterStats()
        self.pool = Pool(self.breaker, self.stats, max_requests_per_connection=5)
        self.waiters: list[FakeWaiter] = []
        self.lent: list[Lease] = []
        self.opened: list[Lease] = []  # a set has no order to draw from twice alike

    def collect(self) -> None:
        for waiter in [waiter for waiter in self.waiters if waiter.done()]:
            self.waiters.remove(waiter)
            if waiter.result is not None:
                self.lent.append(waiter.result)

    @rule()
    def request(self) -> None:
        lease = self.pool.checkout()
        if lease is not None:
            assert not lease.connection.closed
            self.lent.append(lease)
            return
        waiter = FakeWaiter()
        try:
            self.pool.wait(waiter)
        except UpstreamOverflowError:
            assert len(self.waiters) == self.MAX_PENDING
            return
        self.waiters.append(waiter)
        for _ in range(self.pool.connections_wanted()):
            self.pool.opening()

    @precondition(lambda self: self.pool.connecting)
    @rule(capacity=st.integers(1, 2))
    def connected(self, capacity: int) -> None:
        self.opened.append(Lease(FakeConnection(capacity)))
        self.pool.opened(self.opened[-1], 0.0)
        self.collect()

    @precondition(lambda self: self.pool.connecting)
    @rule()
    def refused(self) -> None:
        self.pool.open_failed("refused")
        assert all(waiter.done() for waiter in self.waiters)
        self.collect()

    @precondition(lambda self: self.lent)
    @rule(data=st.data())
    def response(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(self.lent))
        self.lent.remove(lease)
        if self.pool.returned(lease, 0.0):
            lease.connection.closed = True
            self.pool.lost(lease)
        self.collect()

    @precondition(lambda self: self.pool.leases)
    @rule(data=st.data())
    def reset(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from([lease for lease in self.opened if lease in self.pool.leases]))
        lease.connection.closed = True
        self.pool.lost(lease)
        self.lent = [other for other in self.lent if other is not lease]

    @precondition(lambda self: self.waiters)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        waiter = data.draw(st.sampled_from(self.waiters))
        waiter.cancelled = True
        self.waiters.remove(waiter)
        self.pool.stop_waiting(waiter)

    @rule()
    def expire(self) -> None:
        for lease in self.pool.expire(idle_before_s=0.0):
            assert lease not in self.lent
            lease.connection.closed = True
            self.pool.lost(lease)

    @invariant()
    def books_balance(self) -> None:
        assert self.breaker.connections == self.pool.connecting + len(self.pool.leases)
        assert self.breaker.connections <= self.MAX_CONNECTIONS
        assert self.breaker.pending_requests == len(self.waiters) == self.stats.upstream_rq_pending_active
        for lease in self.pool.leases:
            assert lease.lent == sum(other is lease for other in self.lent) <= lease.connection.capacity


PoolMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestPoolMachine = PoolMachine.TestCase
