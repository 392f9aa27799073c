from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from sidecar.config.endpoint import SocketAddress
from sidecar.config.listener import TcpProxy
from sidecar.config.route import WeightedCluster
from sidecar.listener.tcp_proxy import TcpProxyHandler, TcpProxyServices
from sidecar.observability.stats import TcpProxyStats
from sidecar.observability.stream_info import Connection, StreamInfo
from tests.support.listening import eventually

HERE = SocketAddress("127.0.0.1", 1)


class FakeTransport:
    """What a relay asks of a transport. ``half_closes`` False: as TLS is."""

    def __init__(self, *, half_closes: bool = True) -> None:
        self.half_closes = half_closes
        self.written = b""
        self.wrote_eof = self.closed = self.aborted = False
        self.reading = True
        self.unsent_bytes = 0

    def write(self, data: bytes) -> None:
        self.written += data

    def can_write_eof(self) -> bool:
        return self.half_closes

    def write_eof(self) -> None:
        self.wrote_eof = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return self.unsent_bytes


class FakeTimers:
    """Collects what is due; a test fires it."""

    def __init__(self) -> None:
        self.due: list[FakeTimer] = []

    def after(self, delay_s: float, callback: Callable[[], None]) -> FakeTimer:
        self.due.append(FakeTimer(self, delay_s, callback))
        return self.due[-1]


class FakeTimer:
    def __init__(self, timers: FakeTimers, delay_s: float, callback: Callable[[], None]) -> None:
        self._timers = timers
        self.delay_s = delay_s
        self.callback = callback

    def cancel(self) -> None:
        if self in self._timers.due:
            self._timers.due.remove(self)


class Fixture:
    """A session whose host is reached at once."""

    def __init__(self, *, host_half_closes: bool) -> None:
        self.now = 100.0
        self.client = FakeTransport()
        self.host = FakeTransport(half_closes=host_half_closes)
        self.timers = FakeTimers()
        self.released = 0
        services = TcpProxyServices(
            find_cluster=lambda name: self,
            timers=self.timers,
            observer=self,
            clock=lambda: self.now,
            rng=random.Random(1),
        )
        config = TcpProxy(stat_prefix="tcp", clusters=(WeightedCluster(name="db"),))
        self.handler = TcpProxyHandler(config, TcpProxyStats(), services)

    async def connect_tcp(
        self, protocol_factory: Callable[[], asyncio.Protocol], info: StreamInfo
    ) -> Fixture:
        self.upstream = protocol_factory()
        self.upstream.connection_made(self.host)
        return self

    def release(self) -> None:
        self.released += 1

    def opened(self, info: StreamInfo) -> None:
        self.is_open = True

    def progressed(self, info: StreamInfo) -> None:
        self.reported.append((info.bytes_received, info.bytes_sent))

    def closed(self, info: StreamInfo) -> None:
        self.is_open = False

    async def start(self) -> None:
        self.is_open = False
        self.reported: list[tuple[int, int]] = []
        self.downstream = self.handler.protocol(Connection(id=1, remote_address=HERE, local_address=HERE))
        self.downstream.connection_made(self.client)
        (self.report,) = self.timers.due
        self.timers.due.clear()
        await eventually(lambda: self.is_open)


async def test_a_host_that_cannot_be_half_closed_may_finish_its_answer() -> None:
    """TLS: the client's end cannot be passed on, the answer under way still comes."""
    session = Fixture(host_half_closes=False)
    await session.start()
    assert session.downstream.eof_received() is True
    assert not session.host.closed
    (linger,) = session.timers.due
    assert linger.delay_s <= 5
    session.now += 4
    session.upstream.data_received(b"answer")
    assert session.client.written == b"answer"
    session.now += 4
    session.timers.due.pop().callback()
    assert session.is_open, "it was not silent for long enough"
    session.now += 5
    session.timers.due.pop().callback()
    assert not session.is_open
    assert session.host.closed
    assert session.client.closed
    assert session.released == 1


async def test_an_end_is_passed_on_to_a_host_that_can_be_half_closed() -> None:
    session = Fixture(host_half_closes=True)
    await session.start()
    assert session.downstream.eof_received() is True
    assert session.host.wrote_eof
    assert session.is_open
    session.upstream.eof_received()
    assert not session.is_open


async def test_a_slow_side_pauses_the_other_one_until_it_has_caught_up() -> None:
    session = Fixture(host_half_closes=True)
    await session.start()
    session.downstream.pause_writing()
    assert (session.host.reading, session.client.reading) == (False, True)
    session.downstream.resume_writing()
    assert session.host.reading


async def test_a_side_that_does_not_take_its_last_bytes_is_aborted_in_the_end() -> None:
    session = Fixture(host_half_closes=True)
    await session.start()
    session.client.unsent_bytes = 10
    session.handler.close()
    assert session.client.closed
    assert not session.client.aborted
    (flush,) = session.timers.due
    flush.callback()
    assert session.client.aborted
    assert not session.host.aborted
    session.downstream.connection_lost(None)
    session.upstream.connection_lost(None)
    assert session.released == 1
    assert session.handler.active_connections == 0


async def test_bytes_are_reported_while_the_connection_is_open() -> None:
    session = Fixture(host_half_closes=True)
    await session.start()
    stats = session.handler.stats
    session.downstream.data_received(b"question")
    session.upstream.data_received(b"answer")
    session.report.callback()
    assert session.reported == [(8, 6)]
    assert (stats.downstream_cx_rx_bytes_total, stats.downstream_cx_tx_bytes_total) == (8, 6)
    session.upstream.data_received(b", continued")
    report = session.timers.due.pop()
    session.handler.close()
    assert (stats.downstream_cx_rx_bytes_total, stats.downstream_cx_tx_bytes_total) == (8, 17)
    session.timers.due.clear()
    report.callback()
    assert session.timers.due == [], "nothing is left to report"
