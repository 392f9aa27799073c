from __future__ import annotations

import ssl

import pytest

from sidecar.config.cluster import CircuitBreakers
from sidecar.errors import UpstreamConnectError, UpstreamOverflowError
from sidecar.observability.stats import ClusterStats
from sidecar.upstream.circuit_breaker import CircuitBreaker
from sidecar.upstream.pool.pool import Pool
from sidecar.upstream.pool.pooled_connection import Lease, PooledConnection
from tests.support.upstreams import FakeConnection


class FakeWaiter:
    def __init__(self) -> None:
        self.result: Lease | None = None
        self.error: BaseException | type | None = None

    @property
    def connection(self) -> PooledConnection | None:
        return self.result.connection if self.result is not None else None

    def done(self) -> bool:
        return self.result is not None or self.error is not None

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


def connection_of(capacity: int = 1, secured_by: ssl.SSLContext | None = None) -> PooledConnection:
    return PooledConnection(FakeConnection(capacity), secured_by=secured_by)


def add(
    pool: Pool, capacity: int = 1, now_s: float = 0.0, secured_by: ssl.SSLContext | None = None
) -> PooledConnection:
    pool.dial_begun()
    connection = connection_of(capacity, secured_by)
    pool.opened(connection, now_s)
    return connection


def lent(pool: Pool) -> PooledConnection | None:
    """The connection of the next lease."""
    lease = pool.checkout()
    return lease.connection if lease is not None else None


def waiting(pool: Pool, requests: int = 1) -> list[FakeWaiter]:
    waiters = [FakeWaiter() for _ in range(requests)]
    for waiter in waiters:
        pool.wait(waiter)
    return waiters


def test_the_connection_used_last_is_lent_first() -> None:
    pool = make_pool()
    first, second = add(pool), add(pool)
    assert [lent(pool), lent(pool), lent(pool)] == [second, first, None]
    pool.exchange_ended(first, 1.0)
    pool.exchange_ended(second, 2.0)
    assert lent(pool) is second


def test_a_closed_connection_is_never_lent() -> None:
    pool = make_pool()
    fresh, stale = add(pool), add(pool)
    pool.closed(stale)
    assert [lent(pool), lent(pool)] == [fresh, None]


def test_a_connection_with_room_is_lent_up_to_its_capacity() -> None:
    pool = make_pool()
    connection = add(pool, capacity=2)
    assert [lent(pool), lent(pool), lent(pool)] == [connection, connection, None]
    pool.exchange_ended(connection, 1.0)
    assert lent(pool) is connection


def test_a_lease_knows_whether_the_connection_has_carried_other_exchanges() -> None:
    pool = make_pool()
    connection = add(pool, capacity=2)
    first, second = pool.checkout(), pool.checkout()
    assert first is not None
    assert second is not None
    assert (first.reused, second.reused) == (False, True)
    pool.exchange_ended(connection, 1.0)
    assert not first.reused


def test_more_capacity_serves_those_that_wait_and_then_others() -> None:
    pool = make_pool()
    connection = add(pool, capacity=1)
    lent(pool)
    (waiter,) = waiting(pool)
    connection.codec.capacity = 3
    pool.capacity_changed(connection)
    assert waiter.connection is connection
    assert [lent(pool), lent(pool)] == [connection, None]


def test_less_capacity_gives_no_lease_until_enough_exchanges_have_ended() -> None:
    pool = make_pool()
    connection = add(pool, capacity=3)
    lent(pool)
    lent(pool)
    connection.codec.capacity = 1
    pool.capacity_changed(connection)
    assert lent(pool) is None
    pool.exchange_ended(connection, 1.0)
    assert lent(pool) is None
    pool.exchange_ended(connection, 2.0)
    assert [lent(pool), lent(pool)] == [connection, None]


def test_waiters_are_served_in_order() -> None:
    pool = make_pool()
    connection = add(pool)
    lent(pool)
    first, second = waiting(pool, 2)
    pool.exchange_ended(connection, 1.0)
    assert (first.connection, second.connection) == (connection, None)
    pool.exchange_ended(connection, 1.0)
    assert second.connection is connection
    assert lent(pool) is None


def test_too_many_waiters_overflow() -> None:
    pool = make_pool(max_pending_requests=1)
    waiting(pool)
    with pytest.raises(UpstreamOverflowError):
        pool.wait(FakeWaiter())


def test_one_connection_is_wanted_for_each_waiter_within_the_limit() -> None:
    pool = make_pool(max_connections=2)
    waiting(pool, 3)
    assert pool.dials_wanted() == 2
    pool.dial_begun()
    pool.dial_begun()
    assert pool.dials_wanted() == 0


def test_a_connection_is_wanted_for_as_many_waiters_as_the_last_one_carried() -> None:
    pool = make_pool()
    add(pool, capacity=3)
    while lent(pool) is not None:
        pass
    wanted = []
    for _ in range(7):
        waiting(pool)
        wanted.append(pool.dials_wanted())
    assert wanted == [1, 1, 1, 2, 2, 2, 3]


def test_a_connection_is_not_expected_to_carry_more_requests_than_it_may() -> None:
    pool = make_pool(max_requests_per_connection=2)
    add(pool, capacity=100)
    while lent(pool) is not None:
        pass
    waiting(pool, 4)
    assert pool.dials_wanted() == 2


def test_connections_that_carry_fewer_streams_than_expected_are_not_enough() -> None:
    pool = make_pool()
    add(pool, capacity=4)
    while lent(pool) is not None:
        pass
    waiters = waiting(pool, 4)
    assert pool.dials_wanted() == 1
    add(pool, capacity=1)
    assert [waiter.done() for waiter in waiters] == [True, False, False, False]
    assert pool.dials_wanted() == 3


def test_a_pool_without_any_connection_may_open_one_over_the_limit() -> None:
    breaker = CircuitBreaker(CircuitBreakers(max_connections=1))
    breaker.connections.force()  # another host's
    pool = Pool(breaker, ClusterStats())
    waiting(pool)
    assert pool.dials_wanted() == 1
    pool.dial_begun()
    waiting(pool)
    assert pool.dials_wanted() == 0


def test_a_failed_dial_fails_all_that_wait() -> None:
    stats = ClusterStats()
    pool = make_pool(stats=stats, max_connections=1)
    waiters = waiting(pool, 6)
    pool.dial_begun()
    pool.dial_failed("refused")
    errors = [waiter.error for waiter in waiters]
    assert [(type(error), str(error)) for error in errors] == [(UpstreamConnectError, "refused")] * 6
    assert len({id(error) for error in errors}) == 6, "the router changes the error of its request"
    assert pool.dials_wanted() == 0
    assert stats.upstream_rq_pending_failure_eject == 6
    assert stats.upstream_rq_pending_active == 0


def test_a_failed_dial_also_fails_those_that_wait_for_other_dials_or_for_busy_connections() -> None:
    pool = make_pool(max_connections=3)
    busy = add(pool)
    lent(pool)
    first, second = waiting(pool, 2)
    pool.dial_begun()
    pool.dial_begun()
    pool.dial_failed("refused")
    assert (first.done(), second.done()) == (True, True)
    (later,) = waiting(pool)
    assert pool.dials_wanted() == 0, "one dial is still under way"
    pool.opened(opened := connection_of(), 1.0)
    assert later.connection is opened
    pool.exchange_ended(busy, 2.0)
    assert lent(pool) is busy


def test_a_request_that_comes_after_the_failure_begins_a_dial_of_its_own() -> None:
    pool = make_pool(max_connections=1)
    waiting(pool)
    pool.dial_begun()
    pool.dial_failed("refused")
    (again,) = waiting(pool)
    assert pool.dials_wanted() == 1
    assert not again.done()


def test_a_dial_that_is_cancelled_fails_no_request() -> None:
    pool = make_pool(max_connections=1)
    (waiter,) = waiting(pool)
    pool.dial_begun()
    pool.dial_cancelled()
    assert not waiter.done()
    assert pool.dials_wanted() == 1


def test_requests_that_fail_leave_room_in_the_queue() -> None:
    stats = ClusterStats()
    pool = make_pool(stats=stats, max_connections=1, max_pending_requests=2)
    waiting(pool, 2)
    pool.dial_begun()
    with pytest.raises(UpstreamOverflowError):
        pool.wait(FakeWaiter())
    pool.dial_failed("refused")
    waiting(pool, 2)
    with pytest.raises(UpstreamOverflowError):
        pool.wait(FakeWaiter())
    assert stats.upstream_rq_pending_overflow == 2


def test_a_waiter_that_gave_up_leaves_room_in_the_queue() -> None:
    pool = make_pool(max_pending_requests=1)
    (waiter,) = waiting(pool)
    pool.stop_waiting(waiter)
    waiting(pool)


def test_a_connection_retires_after_its_last_request() -> None:
    pool = make_pool(max_requests_per_connection=2)
    connection = add(pool)
    lent(pool)
    assert not pool.exchange_ended(connection, 1.0)
    lent(pool)
    assert pool.exchange_ended(connection, 2.0), "it is to be closed"
    assert lent(pool) is None


def test_idle_connections_expire_oldest_first() -> None:
    pool = make_pool()
    old, new = add(pool, now_s=1.0), add(pool, now_s=5.0)
    assert pool.oldest_idle_s() == 1.0
    assert pool.expire(idle_before_s=1.0) == [old]
    assert pool.oldest_idle_s() == 5.0
    assert lent(pool) is new


def test_a_connection_with_room_that_carries_an_exchange_is_not_idle() -> None:
    pool = make_pool()
    add(pool, capacity=2, now_s=1.0)
    lent(pool)
    assert pool.oldest_idle_s() is None
    assert pool.expire(idle_before_s=9.0) == []


def test_connections_with_an_old_tls_context_are_closed_when_they_are_idle() -> None:
    pool = make_pool()
    old, new = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    idle, busy = add(pool, secured_by=old), add(pool, secured_by=old)
    assert lent(pool) is busy
    current = add(pool, secured_by=new)
    assert pool.retire_outdated(new) == [idle]
    assert pool.exchange_ended(busy, 1.0), "it is to be closed: its request has ended"
    assert lent(pool) is current


def test_a_connection_whose_tls_context_changed_during_the_dial_serves_those_that_wait_only() -> None:
    pool = make_pool()
    (waiter,) = waiting(pool)
    pool.dial_begun()
    connection = connection_of(capacity=2)
    assert not pool.opened(connection, 1.0, outdated=True)
    assert waiter.connection is connection
    assert lent(pool) is None
    pool.dial_begun()
    assert pool.opened(connection_of(), 1.0, outdated=True), "no request waits: it is to be closed"


def test_a_retired_connection_is_closed_after_its_last_exchange_of_several() -> None:
    pool = make_pool()
    connection = add(pool, capacity=2)
    lent(pool)
    lent(pool)
    assert pool.retire([connection]) == []
    assert not pool.exchange_ended(connection, 1.0)
    assert lent(pool) is None
    assert pool.exchange_ended(connection, 2.0)


def test_a_drained_pool_keeps_no_connection() -> None:
    pool = make_pool()
    idle, busy = add(pool), add(pool)
    assert lent(pool) is busy
    assert pool.drain() == [idle]
    assert pool.exchange_ended(busy, 1.0)
