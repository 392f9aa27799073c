"""Streams and connections of HTTP/2 that end early."""

from __future__ import annotations

import asyncio

import pytest
from h2.errors import ErrorCodes

from sidecar.config.http2 import Http2Options
from sidecar.config.route import RetryPolicy
from tests.support.http2_peer import Http2Peer, answer_with_ok
from tests.support.http2_proxy import http2_hop
from tests.support.listening import eventually
from tests.support.routes import configuration, prefix, route, to, virtual_host

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])


async def never(peer: Http2Peer, stream_id: int) -> None:
    """Leaves the request without an answer."""


# The client.


async def test_a_reset_by_the_client_ends_the_exchange_with_the_host() -> None:
    async with http2_hop() as hop:
        hop.upstream.serve = never
        stream_id = hop.client.request()
        await eventually(lambda: bool(hop.upstream.peers))
        peer = hop.upstream.peers[0]
        await peer.until(lambda: bool(peer.messages.get(1) and peer.messages[1].headers))
        hop.client.h2.reset_stream(stream_id, ErrorCodes.CANCEL)
        hop.client.flush()
        await peer.until(lambda: peer.messages[1].reset == ErrorCodes.CANCEL)
        hop.upstream.serve = answer_with_ok
        assert (await hop.client.ask()).body == b"ok"
        stats = hop.stack.stats
        assert stats.http("test").downstream_rq_rx_reset == stats.http2().rx_reset == 1
        assert stats.http2("up").tx_reset == 1


async def test_a_client_that_disconnects_ends_all_its_exchanges() -> None:
    async with http2_hop() as hop:
        hop.upstream.serve = never
        for _ in range(3):
            hop.client.request()
        await eventually(lambda: bool(hop.upstream.peers))
        peer = hop.upstream.peers[0]
        await peer.until(lambda: len([each for each in peer.messages.values() if each.headers]) == 3)
        await hop.client.close()
        await peer.until(lambda: all(peer.messages[stream].reset is not None for stream in (1, 3, 5)))


async def test_a_client_that_resets_most_of_its_streams_at_once_is_disconnected() -> None:
    """CVE-2023-44487. Other clients are served."""
    async with http2_hop() as hop:
        hop.upstream.serve = never
        for _ in range(600):
            if hop.client.lost or hop.client.writer.is_closing():
                break
            stream_id = hop.client.request()
            hop.client.h2.reset_stream(stream_id, ErrorCodes.CANCEL)
            hop.client.flush()
            await asyncio.sleep(0)
        await hop.client.until(lambda: hop.client.lost)
        assert hop.stack.stats.http("test").downstream_rq_too_many_premature_resets == 1
        assert hop.stack.stats.http("test").downstream_rq_total <= 600


# The host.


RESET = b"upstream connect error or disconnect/reset before headers. reset reason: "


@pytest.mark.parametrize(
    ("code", "status", "reason"),
    [
        (ErrorCodes.INTERNAL_ERROR, 503, b"remote reset"),
        (ErrorCodes.CANCEL, 503, b"remote reset"),
        (ErrorCodes.PROTOCOL_ERROR, 502, b"protocol error"),
    ],
)
async def test_a_reset_by_the_host_before_its_response_is_answered_and_not_repeated(
    code: ErrorCodes, status: int, reason: bytes
) -> None:
    async def reset(peer: Http2Peer, stream_id: int) -> None:
        peer.h2.reset_stream(stream_id, code)
        peer.flush()

    async with http2_hop() as hop:
        assert (await hop.client.ask()).body == b"ok"
        hop.upstream.serve = reset
        answer = await hop.client.ask()
        assert answer.status == status
        assert answer.body.startswith(RESET + reason)
        assert hop.stack.stats.http2("up").rx_reset == 1
        hop.upstream.serve = answer_with_ok
        assert (await hop.client.ask()).body == b"ok"
        assert len(hop.upstream.peers) == 1, "the connection lives on"


async def test_a_head_of_a_response_beyond_the_limits_is_answered_as_a_reset() -> None:
    async def answer_with_a_large_head(peer: Http2Peer, stream_id: int) -> None:
        fields = [("x-a", "1" * 1000)] * 70
        peer.h2.send_headers(stream_id, [(":status", "200"), *fields], end_stream=True)
        peer.flush()

    async with http2_hop() as hop:
        hop.upstream.serve = answer_with_a_large_head
        answer = await hop.client.ask()
        assert answer.status == 503
        assert answer.body.startswith(RESET + b"remote reset; UR: the headers are too large")
        hop.upstream.serve = answer_with_ok
        assert (await hop.client.ask()).body == b"ok"
        assert len(hop.upstream.peers) == 1, "the connection lives on"


async def test_a_response_that_ends_before_its_request_cancels_the_rest_of_the_request() -> None:
    async with http2_hop() as hop:
        answer = await hop.client.ask("POST", "/", body=b"x", end=False)
        assert answer.body == b"ok"
        peer = hop.upstream.peers[0]
        await peer.until(lambda: peer.messages[1].reset == ErrorCodes.CANCEL)


async def test_a_reset_by_the_host_after_its_response_has_begun_resets_the_client_s_stream() -> None:
    async def break_off(peer: Http2Peer, stream_id: int) -> None:
        peer.h2.send_headers(stream_id, [(":status", "200")])
        peer.h2.send_data(stream_id, b"half")
        peer.h2.reset_stream(stream_id, ErrorCodes.INTERNAL_ERROR)
        peer.flush()

    async with http2_hop() as hop:
        hop.upstream.serve = break_off
        answer = await hop.client.ask()
        assert (answer.body, answer.ended) == (b"half", False)
        assert answer.reset == ErrorCodes.INTERNAL_ERROR


async def test_a_host_that_disconnects_after_the_first_piece_of_its_response_resets_the_client_s_stream() -> (
    None
):
    async def break_off(peer: Http2Peer, stream_id: int) -> None:
        peer.h2.send_headers(stream_id, [(":status", "200")])
        peer.h2.send_data(stream_id, b"half")
        peer.flush()
        peer.writer.close()

    async with http2_hop() as hop:
        hop.upstream.serve = break_off
        answer = await hop.client.ask()
        assert (answer.status, answer.body, answer.ended) == (200, b"half", False)
        assert answer.reset == ErrorCodes.INTERNAL_ERROR


async def test_a_stream_that_the_host_refuses_is_sent_again() -> None:
    """It was certainly not processed (RFC 9113 8.7), also if its method is not idempotent."""
    refused: list[int] = []

    async def refuse_once(peer: Http2Peer, stream_id: int) -> None:
        if refused:
            await answer_with_ok(peer, stream_id)
            return
        refused.append(stream_id)
        peer.h2.reset_stream(stream_id, ErrorCodes.REFUSED_STREAM)
        peer.flush()

    async with http2_hop() as hop:
        hop.upstream.serve = refuse_once
        assert (await hop.client.ask("POST", "/", body=b"x")).body == b"ok"
        assert hop.stack.stats.cluster("up").upstream_rq_retry == 1


async def test_streams_above_the_last_one_of_a_goaway_are_sent_again_on_another_connection() -> None:
    async def leave(peer: Http2Peer, stream_id: int) -> None:
        if peer is not hop.upstream.peers[0]:
            await answer_with_ok(peer, stream_id)
        elif stream_id == 5:
            peer.h2.close_connection(last_stream_id=1)
            peer.flush()
            # The `h2` library sends nothing after GOAWAY, but streams up to the last one may be answered.
            peer.writer.write(bytes.fromhex("000001 01 05 00000001 88"))  # HEADERS, END_STREAM: status 200

    async with http2_hop() as hop:
        hop.upstream.serve = leave
        streams = [hop.client.request("POST", "/", body=b"x") for _ in range(3)]
        answers = [await hop.client.answer(stream_id) for stream_id in streams]
        assert [answer.status for answer in answers] == [200, 200, 200]
        assert [answer.body for answer in answers] == [b"", b"ok", b"ok"]
        assert len(hop.upstream.peers) == 2
        peer = hop.upstream.peers[0]
        await peer.until(lambda: peer.lost)


async def test_a_host_that_breaks_the_protocol_loses_the_connection_and_nothing_else() -> None:
    async def lie(peer: Http2Peer, stream_id: int) -> None:
        peer.writer.write(bytes.fromhex("000001 00 00 00000000 00"))  # DATA on stream 0

    async with http2_hop() as hop:
        hop.upstream.serve = lie
        answer = await hop.client.ask("POST", "/", body=b"x")
        assert answer.status == 502
        hop.upstream.serve = answer_with_ok
        assert (await hop.client.ask()).body == b"ok"


async def test_a_reset_is_retried_as_the_route_says() -> None:
    policy = RetryPolicy(retry_on=frozenset(("reset",)), num_retries=2)
    routes = configuration(virtual_host(route(prefix(), to("up", retry_policy=policy))))
    seen: list[int] = []

    async def fail_twice(peer: Http2Peer, stream_id: int) -> None:
        seen.append(stream_id)
        if len(seen) == 3:
            await answer_with_ok(peer, stream_id)
        else:
            peer.h2.reset_stream(stream_id, ErrorCodes.INTERNAL_ERROR)
            peer.flush()

    async with http2_hop(route_config=routes) as hop:
        hop.upstream.serve = fail_twice
        assert (await hop.client.ask("POST", "/", body=b"x")).body == b"ok"
        assert seen == [1, 3, 5]


# Invalid requests.


@pytest.mark.parametrize("one_stream", [False, True])
async def test_an_invalid_request_ends_the_connection_or_its_stream(
    one_stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    options = Http2Options(stream_error_on_invalid_message=one_stream)
    async with http2_hop(http2=options) as hop:
        hop.client.h2.config.validate_outbound_headers = False
        hop.client.h2.config.normalize_outbound_headers = False
        bad = hop.client.request("GET", "/", ("Upper-Case", "1"))
        answer = await hop.client.answer(bad)
        assert answer.status == 0
        stats = hop.stack.stats.http("test")
        assert (stats.downstream_rq_total, stats.downstream_rq_rx_reset) == (1, 1)
        assert "caused an error: 'Upper-Case' is an invalid header, or out of place" in caplog.text
        if one_stream:
            assert answer.reset == ErrorCodes.PROTOCOL_ERROR
            assert (await hop.client.ask()).body == b"ok"
        else:
            await hop.client.until(lambda: hop.client.lost)
            assert [code for _, code in hop.client.goaways] == [ErrorCodes.PROTOCOL_ERROR]
            assert hop.stack.stats.http("test").downstream_cx_protocol_error == 1
        assert hop.stack.stats.http2().rx_messaging_error == 1
