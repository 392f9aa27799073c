from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sidecar.config.endpoint import SocketAddress
from sidecar.config.listener import TcpProxy
from sidecar.config.route import WeightedCluster
from sidecar.listener.tcp_proxy import TcpProxyHandler, TcpProxyServices
from sidecar.observability.stats import TcpProxyStats
from sidecar.observability.stream_info import DownstreamConnection, StreamInfo
from sidecar.timers import Timers
from sidecar.transport.forwarding import Forwarder
from tests.support.listening import eventually
from tests.support.virtual_time import VirtualTime

HERE = SocketAddress("127.0.0.1", 1)


class FakeTransport:
    """What a relay asks of a transport; `flush` is the peer that takes what was written."""

    def __init__(self) -> None:
        self.protocol: asyncio.Protocol
        self.written = b""
        self.wrote_eof = self.closed = self.was_reset = self.aborted = False
        self.reading = True
        self.unsent_bytes = 0

    def get_extra_info(self, name: str) -> FakeTransport:
        return self

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        self.was_reset = option == socket.SO_LINGER

    def fileno(self) -> int:
        return -1

    def write(self, data: bytes) -> None:
        self.written += data
        self.unsent_bytes += len(data)

    def flush(self, size: int | None = None) -> None:
        self.unsent_bytes -= self.unsent_bytes if size is None else size
        if self.closed and not self.unsent_bytes:
            self.protocol.connection_lost(None)

    def write_eof(self) -> None:
        self.wrote_eof = True

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            if not self.unsent_bytes:
                self.protocol.connection_lost(None)

    def abort(self) -> None:
        if not self.aborted:
            self.closed = self.aborted = True
            self.unsent_bytes = 0
            self.protocol.connection_lost(None)

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return self.unsent_bytes


class Fixture:
    """A session whose host is reached at once."""

    def __init__(self, *, idle_timeout_s: float = 3600, **config: Any) -> None:
        self.time = VirtualTime()
        self.timers = Timers(self.time)
        self.client = FakeTransport()
        self.host = FakeTransport()
        self.released = 0
        self.is_open = False
        self.reported: list[tuple[int, int]] = []
        self.flags = ""
        self.details = ""
        services = TcpProxyServices(
            find_cluster=lambda name: self,
            timers=self.timers,
            forwarder=Forwarder(1024),
            observer=self,
            clock=self.time.time,
            rng=random.Random(1),
        )
        config = TcpProxy(
            stat_prefix="tcp",
            clusters=(WeightedCluster(name="db"),),
            idle_timeout_s=idle_timeout_s,
            **config,
        )
        self.stats = TcpProxyStats()
        self.handler = TcpProxyHandler(config, self.stats, services)

    async def connect_tcp(
        self, protocol_factory: Callable[[], asyncio.Protocol], info: StreamInfo
    ) -> Fixture:
        self.upstream = self.host.protocol = protocol_factory()
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
        self.flags = info.flags
        self.details = info.details

    async def start(self) -> None:
        connection = DownstreamConnection(id=1, remote_address=HERE, local_address=HERE)
        self.downstream = self.client.protocol = self.handler.protocol(connection)
        self.downstream.connection_made(self.client)
        await eventually(lambda: self.is_open)

    def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            self.time.advance(1)


@pytest.fixture
async def session() -> Fixture:
    session = Fixture(idle_timeout_s=100)
    await session.start()
    return session


async def test_an_end_is_passed_on_and_the_other_direction_goes_on(session: Fixture) -> None:
    assert session.downstream.eof_received() is True
    assert session.host.wrote_eof
    assert session.is_open
    session.upstream.data_received(b"answer")
    assert session.client.written == b"answer"
    session.client.flush()
    session.upstream.eof_received()
    assert not session.is_open
    assert session.client.closed
    assert session.host.closed
    assert session.released == 1


async def test_a_slow_side_pauses_the_other_one_until_it_has_caught_up(session: Fixture) -> None:
    session.downstream.pause_writing()
    assert (session.host.reading, session.client.reading) == (False, True)
    session.downstream.resume_writing()
    assert session.host.reading


async def end_host_first(session: Fixture) -> None:
    session.upstream.data_received(b"0123456789")
    session.upstream.eof_received()


async def end_client_first(session: Fixture) -> None:
    session.downstream.eof_received()
    session.upstream.data_received(b"0123456789")
    session.upstream.eof_received()


async def end_both(session: Fixture) -> None:
    session.upstream.data_received(b"0123456789")
    session.upstream.eof_received()
    session.downstream.eof_received()


ENDS = pytest.mark.parametrize("end", [end_host_first, end_client_first, end_both])


@ENDS
async def test_the_tail_waits_for_a_client_that_pauses(
    session: Fixture, end: Callable[[Fixture], Awaitable[None]]
) -> None:
    await end(session)
    session.pass_time(99)
    assert not session.client.aborted
    session.client.flush(5)
    session.pass_time(99)
    assert not session.client.aborted, "it has taken some meanwhile"
    session.client.flush()
    session.downstream.eof_received()
    assert session.client.closed
    assert not session.client.aborted
    assert not session.is_open
    assert session.released == 1
    assert session.handler.active_connections == 0


@ENDS
async def test_a_tail_that_is_not_taken_within_the_idle_timeout_ends_in_a_reset(
    session: Fixture, end: Callable[[Fixture], Awaitable[None]]
) -> None:
    await end(session)
    session.pass_time(120)
    assert session.client.was_reset
    assert not session.is_open
    assert session.released == 1
    assert session.handler.stats.idle_timeout == 1
    assert (session.flags, session.details) == ("", "idle_timeout")


async def test_the_tail_waits_for_a_host_that_pauses(session: Fixture) -> None:
    session.downstream.data_received(b"0123456789")
    session.downstream.eof_received()
    session.upstream.eof_received()
    session.pass_time(99)
    assert session.host.closed
    assert not session.host.aborted
    assert session.released == 0, "the connection is still there"
    session.host.flush()
    assert session.released == 1


async def test_without_an_idle_timeout_a_tail_waits_for_ever() -> None:
    session = Fixture(idle_timeout_s=0)
    await session.start()
    await end_both(session)
    session.time.advance(1_000_000)
    assert not session.client.aborted


async def test_an_idle_connection_without_unsent_data_closes_cleanly(session: Fixture) -> None:
    session.pass_time(120)
    assert not session.is_open
    assert session.client.closed
    assert not session.client.aborted
    assert not session.host.aborted


async def test_a_connection_ends_at_its_greatest_age_however_busy_it_is() -> None:
    session = Fixture(max_duration_s=60.0)
    await session.start()
    session.time.advance(59)
    session.downstream.data_received(b"busy")
    assert session.is_open
    session.time.advance(1)
    assert not session.is_open
    assert session.client.closed
    assert session.host.closed
    assert session.flags == "DT"
    assert (session.stats.max_downstream_connection_duration, session.stats.idle_timeout) == (1, 0)
    assert session.released == 1


async def test_the_greatest_age_has_a_random_part() -> None:
    sessions = Fixture(max_duration_s=100.0, max_duration_jitter=0.5)
    ages = [sessions.handler.longest_duration_s() for _ in range(200)]
    assert 100 <= min(ages) < 110
    assert 140 < max(ages) <= 150


async def test_a_connection_that_has_ended_has_no_age() -> None:
    session = Fixture(max_duration_s=60.0)
    await session.start()
    session.downstream.eof_received()
    session.upstream.eof_received()
    session.time.advance(120)
    assert session.stats.max_downstream_connection_duration == 0


RESET = ConnectionResetError("reset by peer")


async def test_a_reset_by_the_host_is_a_reset_for_the_client(session: Fixture) -> None:
    session.upstream.data_received(b"half of an ans")
    session.upstream.connection_lost(RESET)
    assert session.client.was_reset
    assert not session.is_open
    assert (session.flags, session.details) == ("UR", "")


async def test_a_host_that_resets_as_soon_as_it_is_reached_is_a_reset_for_the_client() -> None:
    session = Fixture()

    async def connect_tcp(protocol_factory: Callable[[], asyncio.Protocol], info: StreamInfo) -> Fixture:
        await Fixture.connect_tcp(session, protocol_factory, info)
        session.upstream.data_received(b"greeting")
        session.upstream.connection_lost(ConnectionResetError())
        return session

    session.connect_tcp = connect_tcp  # type: ignore[method-assign]
    connection = DownstreamConnection(id=1, remote_address=HERE, local_address=HERE)
    session.client.protocol = session.handler.protocol(connection)
    session.client.protocol.connection_made(session.client)
    await eventually(lambda: session.client.closed)
    assert session.client.was_reset
    assert session.flags == "UR"
    assert session.details == "upstream_reset_before_response_started{connection_termination}"
    assert (session.released, session.handler.active_connections) == (1, 0)


async def test_a_reset_by_the_client_is_a_reset_for_the_host(session: Fixture) -> None:
    session.downstream.connection_lost(RESET)
    assert session.host.was_reset
    assert session.released == 1
    assert session.flags == ""


async def test_all_bytes_of_a_client_that_ended_and_disconnected_arrive(
    session: Fixture,
) -> None:
    session.downstream.data_received(b"upload")
    session.downstream.eof_received()
    session.downstream.connection_lost(RESET)
    assert session.host.closed
    assert not session.host.aborted
    session.host.flush()
    assert not session.is_open


async def test_all_bytes_of_a_host_that_ended_and_disconnected_arrive(session: Fixture) -> None:
    session.upstream.data_received(b"answer")
    session.upstream.eof_received()
    session.upstream.connection_lost(RESET)
    assert session.client.closed
    assert not session.client.aborted


async def test_closing_the_handler_resets_a_side_that_would_miss_bytes(session: Fixture) -> None:
    session.upstream.data_received(b"answer")
    session.handler.close()
    assert session.client.was_reset
    assert session.host.closed
    assert not session.host.aborted
    assert session.handler.active_connections == 0


async def test_bytes_are_reported_while_the_connection_is_open(session: Fixture) -> None:
    stats = session.handler.stats
    session.downstream.data_received(b"question")
    session.upstream.data_received(b"answer")
    session.pass_time(5)
    assert session.reported == [(8, 6)]
    assert (stats.downstream_cx_rx_bytes_total, stats.downstream_cx_tx_bytes_total) == (8, 6)
    session.upstream.data_received(b", continued")
    session.handler.close()
    assert (stats.downstream_cx_rx_bytes_total, stats.downstream_cx_tx_bytes_total) == (8, 17)
    session.pass_time(5)
    assert session.timers.pending == 0, "nothing is left to report"
