"""A slow reader stops a fast writer, from end to end, and memory is bounded."""

from __future__ import annotations

import asyncio

import pytest
from h2.settings import SettingCodes

from sidecar.config.codec_type import CodecType
from sidecar.config.http2 import Http2Options
from tests.support.flaky_upstream import Exchange, flaky_upstream
from tests.support.http2_peer import Http2Peer, answer_with_ok, http2_client
from tests.support.http2_proxy import http2_hop, proxy_to
from tests.support.listening import eventually

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])

SIZE = 2_000_000
# The windows of both sides: what a stream may hold back, besides the sockets' buffers.
SMALL = Http2Options(initial_stream_window_size=65_535, initial_connection_window_size=2**20)


class Counted:
    """An upstream that sends a large body, and counts the bytes that it could send."""

    def __init__(self) -> None:
        self.sent = 0

    async def serve(self, peer: Http2Peer, stream_id: int) -> None:
        peer.h2.send_headers(stream_id, [(":status", "200")])
        for _ in range(SIZE // 10_000):
            await peer.send_body(stream_id, bytes(10_000), end=False)
            self.sent += 10_000
        peer.h2.end_stream(stream_id)
        peer.flush()


async def stopped(count: Counted) -> int:
    """Returns how much was sent when the upstream makes no progress any more."""
    while True:
        before = count.sent
        await asyncio.sleep(0.2)
        if before == count.sent > 0:
            return before


async def test_a_client_that_takes_nothing_stops_its_upstream_and_nobody_else() -> None:
    async with http2_hop(cluster={"http2": SMALL}) as hop:
        counted = Counted()
        hop.upstream.serve = counted.serve
        hop.client.taking = False
        stream_id = hop.client.request()
        sent = await stopped(counted)
        assert sent < 1_000_000
        hop.upstream.serve = answer_with_ok
        async with await http2_client(hop.stack.port) as other:
            assert (await other.ask()).body == b"ok"
        hop.client.take()
        answer = await hop.client.answer(stream_id)
        assert len(answer.body) == counted.sent == SIZE


async def test_an_upstream_that_takes_nothing_stops_its_client() -> None:
    taken = asyncio.Event()

    async def wait(peer: Http2Peer, stream_id: int) -> None:
        peer.taking = False
        await taken.wait()
        peer.take()
        message = peer.messages[stream_id]
        await peer.until(lambda: message.ended)
        await answer_with_ok(peer, stream_id)

    async with http2_hop(http2=SMALL) as hop:
        hop.upstream.serve = wait
        stream_id = hop.client.request("POST", "/", end=False)
        sending = asyncio.create_task(hop.client.send_body(stream_id, bytes(SIZE)), name="upstream sending")
        await asyncio.sleep(0.3)
        assert not sending.done()
        taken.set()
        await sending
        assert (await hop.client.answer(stream_id)).body == b"ok"
        assert len(hop.upstream.peers[0].messages[1].body) == SIZE


async def test_a_slow_client_of_http2_stops_an_upstream_of_http1() -> None:
    async with flaky_upstream("a") as upstream, proxy_to(upstream.endpoint, CodecType.HTTP1) as stack:
        passed = 0

        async def flood(exchange: Exchange) -> None:
            nonlocal passed
            exchange.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10000000\r\n\r\n")
            for _ in range(100):
                exchange.writer.write(bytes(100_000))
                await exchange.writer.drain()
                passed += 100_000

        upstream.behave = flood
        async with await http2_client(stack.port) as client:
            client.taking = False
            stream_id = client.request()
            await eventually(lambda: passed > 0)
            await asyncio.sleep(0.3)
            assert passed < 9_000_000, "what the sockets' buffers hold"
            client.take()
            assert len((await client.answer(stream_id)).body) == 10_000_000


async def test_many_stalled_streams_hold_back_no_more_than_their_windows() -> None:
    """All together the window of the connection, and each a piece that is being sent and one that is next."""
    async with http2_hop(
        cluster={"http2": SMALL}, client={SettingCodes.INITIAL_WINDOW_SIZE: 1000}, http2=SMALL
    ) as hop:
        counted = [Counted() for _ in range(50)]
        waiting = iter(counted)

        async def serve(peer: Http2Peer, stream_id: int) -> None:
            await next(waiting).serve(peer, stream_id)

        hop.upstream.serve = serve
        hop.client.taking = False
        streams = [hop.client.request() for _ in range(50)]
        await eventually(lambda: sum(each.sent for each in counted) > 0)
        await asyncio.sleep(0.3)
        assert sum(each.sent for each in counted) < 2**20 + 50 * 2 * 26_000
        await hop.client.close()
        assert len(streams) == 50
