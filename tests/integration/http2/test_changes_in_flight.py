"""Hosts that change their settings, or go away in steps, while requests are in flight."""

from __future__ import annotations

from random import Random

import pytest
from h2.settings import SettingCodes

from tests.support import http2_frames as frames
from tests.support.http2_peer import Http2Peer
from tests.support.http2_proxy import http2_hop

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])

BODY = Random(1).randbytes(200_000)


async def change(peer: Http2Peer, code: SettingCodes, value: int) -> None:
    """Returns when the proxy has acknowledged it."""
    peer.h2.update_settings({code: value})
    peer.flush()
    await peer.until(lambda: peer.h2.local_settings[code] == value)


def answer(peer: Http2Peer, stream_id: int, *fields: tuple[str, str]) -> None:
    peer.h2.send_headers(stream_id, [(":status", "200"), *fields], end_stream=True)
    peer.flush()


async def test_requests_wait_while_the_host_allows_no_stream() -> None:
    seen: list[int] = []

    async def serve(peer: Http2Peer, stream_id: int) -> None:
        seen.append(stream_id)
        if len(seen) == 1:
            await change(peer, SettingCodes.MAX_CONCURRENT_STREAMS, 0)
            answer(peer, stream_id)
            await hop.client.answer(requests[0])
            assert len(seen) == 1
            await change(peer, SettingCodes.MAX_CONCURRENT_STREAMS, 1)
        else:
            answer(peer, stream_id)

    async with http2_hop(upstream={SettingCodes.MAX_CONCURRENT_STREAMS: 1}) as hop:
        hop.upstream.serve = serve
        requests = [hop.client.request() for _ in range(5)]
        assert [(await hop.client.answer(each)).status for each in requests] == [200] * 5
        assert len(hop.upstream.peers) == 1


@pytest.mark.parametrize("window", [0, 10])
async def test_a_window_that_shrinks_below_zero_stops_the_body_until_it_is_open_again(window: int) -> None:
    async def serve(peer: Http2Peer, stream_id: int) -> None:
        message = peer.messages[stream_id]
        peer.taking = False
        await peer.until(lambda: len(message.received) > 30_000)
        await change(peer, SettingCodes.INITIAL_WINDOW_SIZE, window)
        await change(peer, SettingCodes.INITIAL_WINDOW_SIZE, 70_000)
        peer.take()
        await peer.until(lambda: message.ended)
        answer(peer, stream_id)
        bodies.append(message.body)

    bodies: list[bytes] = []
    async with http2_hop() as hop:
        hop.upstream.serve = serve
        upload = hop.client.request("POST", end=False)
        await hop.client.send_body(upload, BODY)
        assert (await hop.client.answer(upload)).status == 200
    assert bodies == [BODY]


async def test_the_table_of_headers_may_change_its_size_between_any_two_requests() -> None:
    async def serve(peer: Http2Peer, stream_id: int) -> None:
        sent = peer.messages[stream_id].headers
        await change(peer, SettingCodes.HEADER_TABLE_SIZE, sizes.choice([0, 50, 100, 4096, 65_536]))
        answer(peer, stream_id, ("x-a", sent[b"x-a"].decode()))

    sizes = Random(2)
    async with http2_hop() as hop:
        hop.upstream.serve = serve
        for index in range(60):
            value = str(index % 7) * (index % 5 + 1)
            assert (await hop.client.ask("GET", "/", ("x-a", value))).headers[b"x-a"] == value.encode()
        assert len(hop.upstream.peers) == 1


async def test_a_second_goaway_with_a_lower_stream_gives_up_those_between() -> None:
    async def serve(peer: Http2Peer, stream_id: int) -> None:
        if peer is not hop.upstream.peers[0]:
            answer(peer, stream_id, ("x-connection", "2"))
        elif stream_id == 7:
            for last in (7, 3, 5):
                peer.writer.write(frames.goaway(last))
            for served in (1, 3):
                answer(peer, served, ("x-connection", "1"))

    async with http2_hop() as hop:
        hop.upstream.serve = serve
        requests = [hop.client.request() for _ in range(4)]
        answers = [await hop.client.answer(each) for each in requests]
        assert [each.headers[b"x-connection"] for each in answers] == [b"1", b"1", b"2", b"2"]
