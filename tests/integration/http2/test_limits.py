"""Limits, timeouts and drain of HTTP/2 connections."""

from __future__ import annotations

import asyncio

import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from sidecar.config.http2 import Http2Keepalive, Http2Options
from tests.support.http2_peer import Http2Peer, answer_with_ok
from tests.support.http2_proxy import http2_hop
from tests.support.listening import eventually

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])


class Held:
    """Answers when the test says so. `most` is the highest number of requests that were held at once."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.now = self.most = 0

    async def serve(self, peer: Http2Peer, stream_id: int) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        await self.release.wait()
        self.now -= 1
        await answer_with_ok(peer, stream_id)


async def test_a_connection_carries_as_many_streams_as_the_host_allows() -> None:
    held = Held()
    async with http2_hop(upstream={SettingCodes.MAX_CONCURRENT_STREAMS: 4}) as hop:
        assert (await hop.client.ask()).body == b"ok"
        hop.upstream.serve = held.serve
        streams = [hop.client.request() for _ in range(11)]
        await eventually(lambda: held.now == 11)
        assert len(hop.upstream.peers) == 3
        held.release.set()
        answers = [await hop.client.answer(stream_id) for stream_id in streams]
        assert {answer.body for answer in answers} == {b"ok"}


async def test_no_stream_is_refused_before_the_settings_of_the_host_have_arrived() -> None:
    """RFC 9113 6.5.2: a host allows at least 100 streams. Other requests wait for its SETTINGS."""
    async with http2_hop(upstream={SettingCodes.MAX_CONCURRENT_STREAMS: 100}) as hop:
        streams = [hop.client.request() for _ in range(300)]
        answers = [await hop.client.answer(stream_id) for stream_id in streams]
        assert {answer.body for answer in answers} == {b"ok"}
        stats = hop.stack.stats.cluster("up")
        assert stats.upstream_rq_retry == hop.stack.stats.http2("up").rx_reset == 0


async def test_a_cluster_limits_the_streams_of_a_connection() -> None:
    held = Held()
    async with http2_hop(cluster={"http2": Http2Options(max_concurrent_streams=2)}) as hop:
        hop.upstream.serve = held.serve
        streams = [hop.client.request() for _ in range(6)]
        await eventually(lambda: held.now == 6)
        held.release.set()
        for stream_id in streams:
            assert (await hop.client.answer(stream_id)).body == b"ok"
        assert len(hop.upstream.peers) == 3


async def test_a_connection_ends_after_its_last_request() -> None:
    async with http2_hop(cluster={"max_requests_per_connection": 2}) as hop:
        for _ in range(5):
            assert (await hop.client.ask()).body == b"ok"
        assert len(hop.upstream.peers) == 3
        assert hop.stack.stats.cluster("up").upstream_cx_max_requests == 2


async def test_more_streams_than_a_client_may_open_are_refused() -> None:
    held = Held()
    async with http2_hop(http2=Http2Options(max_concurrent_streams=3)) as hop:
        hop.upstream.serve = held.serve
        first = [hop.client.request() for _ in range(3)]
        await eventually(lambda: held.now == 3)
        hop.client.h2.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = 100
        hop.client.h2.remote_settings.acknowledge()
        refused = await hop.client.answer(hop.client.request())
        assert (refused.status, refused.reset) == (0, ErrorCodes.REFUSED_STREAM)
        held.release.set()
        for stream_id in first:
            assert (await hop.client.answer(stream_id)).body == b"ok"


# Timeouts.


async def test_a_request_whose_body_does_not_arrive_in_time_gets_a_408() -> None:
    async with http2_hop(request_timeout_s=0.1) as hop:
        hop.upstream.serve = Held().serve
        stream_id = hop.client.request("POST", "/", end=False)
        answer = await hop.client.answer(stream_id)
        assert (answer.status, answer.ended) == (408, True)
        assert hop.stack.stats.http("test").downstream_rq_timeout == 1
        assert not hop.client.lost


async def test_a_stream_without_data_is_ended() -> None:
    async with http2_hop(stream_idle_timeout_s=0.1) as hop:
        hop.upstream.serve = Held().serve
        answers = await asyncio.gather(hop.client.ask(), hop.client.ask())
        assert [answer.status for answer in answers] == [504, 504]
        assert hop.stack.stats.http("test").downstream_rq_idle_timeout == 2
        assert not hop.client.lost


async def test_a_connection_without_streams_is_drained_and_closed() -> None:
    async with http2_hop(idle_timeout_s=0.1, drain_timeout_s=0.05) as hop:
        assert (await hop.client.ask()).body == b"ok"
        await hop.client.until(lambda: hop.client.lost)
        assert [code for _, code in hop.client.goaways] == [0, 0]
        assert hop.stack.stats.http("test").downstream_cx_idle_timeout == 1


async def test_a_client_that_takes_no_data_is_ended() -> None:
    async def flood(peer: Http2Peer, stream_id: int) -> None:
        peer.h2.send_headers(stream_id, [(":status", "200")])
        await peer.send_body(stream_id, bytes(300_000))

    async with http2_hop(stream_idle_timeout_s=0.2) as hop:
        hop.upstream.serve = flood
        hop.client.taking = False
        answer = await hop.client.ask()
        assert len(answer.body) == 65_535
        assert answer.reset is not None
        assert hop.stack.stats.http2().tx_flush_timeout == 1
        assert hop.stack.stats.http2().pending_send_bytes == 0


# Keepalive.


async def test_a_client_that_answers_no_ping_is_disconnected() -> None:
    keepalive = Http2Keepalive(interval_s=0.05, timeout_s=0.1)
    async with http2_hop(http2=Http2Options(connection_keepalive=keepalive)) as hop:
        assert (await hop.client.ask()).body == b"ok"
        await asyncio.sleep(0.3)
        assert not hop.client.lost, "it answers"
        hop.client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await eventually(lambda: hop.stack.stats.http2().keepalive_timeout == 1)


async def test_a_host_that_answers_no_ping_is_replaced() -> None:
    keepalive = Http2Keepalive(interval_s=0.05, timeout_s=0.1)
    async with http2_hop(cluster={"http2": Http2Options(connection_keepalive=keepalive)}) as hop:
        assert (await hop.client.ask()).body == b"ok"
        hop.upstream.peers[0].writer.transport.pause_reading()  # type: ignore[attr-defined]
        await eventually(lambda: hop.stack.stats.http2("up").keepalive_timeout == 1)
        assert (await hop.client.ask()).body == b"ok"
        assert len(hop.upstream.peers) == 2


# Drain.


async def test_a_listener_that_drains_lets_the_streams_end_and_refuses_later_ones() -> None:
    held = Held()
    async with http2_hop(drain_timeout_s=0.1) as hop:
        hop.upstream.serve = held.serve
        before = hop.client.request()
        await eventually(lambda: held.now == 1)
        hop.stack.stack.listeners.drain()
        await hop.client.until(lambda: len(hop.client.goaways) == 1)
        assert hop.client.goaways == [(2**31 - 1, 0)]
        await hop.client.until(lambda: len(hop.client.goaways) == 2)
        assert hop.client.goaways[1] == (before, 0)
        assert not hop.client.lost
        held.release.set()
        assert (await hop.client.answer(before)).body == b"ok"
        await hop.client.until(lambda: hop.client.lost)
