"""Requests of HTTP/2, to hosts of both versions, and of HTTP/1.1 to hosts of HTTP/2."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from sidecar.config.codec_type import CodecType
from tests.support.flaky_upstream import Exchange, flaky_upstream
from tests.support.http2_peer import Http2Peer, http2_client
from tests.support.http2_proxy import http2_hop, proxy_to
from tests.support.listening import read_to_end

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])

LARGE = Random(1).randbytes(3_000_000)


async def echo(peer: Http2Peer, stream_id: int) -> None:
    """Answers with the request's body, its trailers, and its head in fields of the same names."""
    message = peer.messages[stream_id]
    await peer.until(lambda: message.ended)
    head = [(name.replace(b":", b"x-"), value) for name, value in message.headers.items()]
    peer.h2.send_headers(stream_id, [(":status", "200"), *head])
    await peer.send_body(stream_id, message.body, end=not message.trailers)
    if message.trailers:
        peer.h2.send_headers(stream_id, list(message.trailers.items()), end_stream=True)
        peer.flush()


async def test_the_head_of_a_request_arrives_as_it_was_sent() -> None:
    async with http2_hop() as hop:
        hop.upstream.serve = echo
        answer = await hop.client.ask(
            "GET", "/a?b=c", ("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers")
        )
        assert answer.status == 200
        expected = {
            b"x-method": b"GET",
            b"x-path": b"/a?b=c",
            b"x-authority": b"reviews",
            b"x-scheme": b"http",
            b"x-forwarded-proto": b"http",
        }
        assert expected.items() <= answer.headers.items()
        assert answer.headers[b"server"] == b"envoy"
        assert hop.upstream.peers[0].messages[1].headers[b"te"] == b"trailers"


@pytest.mark.parametrize("size", [1, 16_384, 3_000_000])
async def test_bodies_pass_unchanged_in_both_directions(size: int) -> None:
    async with http2_hop() as hop:
        hop.upstream.serve = echo
        stream_id = hop.client.request("POST", "/", end=False)
        await hop.client.send_body(stream_id, LARGE[:size])
        answer = await hop.client.answer(stream_id)
        assert answer.body == LARGE[:size]


async def test_a_small_body_is_sent_together_with_its_head() -> None:
    async with http2_hop() as hop:
        hop.upstream.serve = echo
        assert (await hop.client.ask("POST", "/", body=b"small")).body == b"small"


async def test_trailers_pass_in_both_directions() -> None:
    async with http2_hop() as hop:
        hop.upstream.serve = echo
        stream_id = hop.client.request("POST", "/", ("te", "trailers"), end=False)
        hop.client.h2.send_data(stream_id, b"hello")
        trailers = [("x-check", "1"), ("x-forwarded-for", "6.6.6.6")]
        hop.client.h2.send_headers(stream_id, trailers, end_stream=True)
        hop.client.flush()
        answer = await hop.client.answer(stream_id)
        assert (answer.body, answer.trailers) == (b"hello", {b"x-check": b"1"}), (
            "a trailer must not claim an address"
        )


async def test_a_response_of_trailers_only_passes() -> None:
    async with http2_hop() as hop:

        async def refuse(peer: Http2Peer, stream_id: int) -> None:
            head = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "12")]
            peer.h2.send_headers(stream_id, head, end_stream=True)
            peer.flush()

        hop.upstream.serve = refuse
        answer = await hop.client.ask(
            "POST", "/s/m", ("content-type", "application/grpc"), ("te", "trailers")
        )
        assert answer.headers[b"grpc-status"] == b"12"
        assert b"content-length" not in answer.headers
        assert answer.trailers == {}


async def test_interim_responses_pass() -> None:
    async with http2_hop() as hop:

        async def hint(peer: Http2Peer, stream_id: int) -> None:
            peer.h2.send_headers(stream_id, [(":status", "103"), ("link", "</a>")])
            peer.h2.send_headers(stream_id, [(":status", "204")], end_stream=True)
            peer.flush()

        hop.upstream.serve = hint
        answer = await hop.client.ask()
        assert [head[b":status"] for head in answer.interim] == [b"103"]
        assert answer.interim[0][b"link"] == b"</a>"
        assert answer.status == 204


async def test_a_response_may_end_before_its_request() -> None:
    """The rest of the request is refused without an error (RFC 9113 8.1)."""
    async with http2_hop() as hop:
        stream_id = hop.client.request("POST", "/", end=False)
        hop.client.h2.send_data(stream_id, b"the beginning")
        hop.client.flush()
        answer = await hop.client.answer(stream_id)
        assert (answer.status, answer.body, answer.ended) == (200, b"ok", True)
        await hop.client.until(lambda: answer.reset is not None)
        assert answer.reset == 0
        peer = hop.upstream.peers[0]
        await peer.until(lambda: peer.messages[1].reset is not None)
        assert (await hop.client.ask()).body == b"ok", "the connection lives on"


async def test_a_response_may_begin_before_its_request_has_ended() -> None:
    async with http2_hop() as hop:

        async def converse(peer: Http2Peer, stream_id: int) -> None:
            peer.h2.send_headers(stream_id, [(":status", "200")])
            peer.flush()
            message = peer.messages[stream_id]
            for count in (1, 2, 3):
                await peer.until(lambda count=count: len(message.body) == count)
                peer.h2.send_data(stream_id, message.body[-1:])
                peer.flush()
            await peer.until(lambda: message.ended)
            peer.h2.end_stream(stream_id)
            peer.flush()

        hop.upstream.serve = converse
        stream_id = hop.client.request("POST", "/", end=False)
        answer = hop.client.messages[stream_id]
        for count, piece in enumerate((b"a", b"b", b"c"), 1):
            hop.client.h2.send_data(stream_id, piece)
            hop.client.flush()
            await hop.client.until(lambda count=count: len(answer.body) == count)
        hop.client.h2.end_stream(stream_id)
        hop.client.flush()
        await hop.client.answer(stream_id)
        assert (answer.body, answer.reset) == (b"abc", None)


async def test_a_path_with_a_fragment_is_refused_and_other_streams_go_on() -> None:
    async with http2_hop() as hop:
        hop.upstream.serve = echo
        other = hop.client.request("POST", "/", end=False)
        refused = await hop.client.ask("GET", "/a#b")
        assert (refused.status, refused.body) == (400, b"Bad Request: a fragment in the path")
        hop.client.h2.send_data(other, b"hello", end_stream=True)
        hop.client.flush()
        assert (await hop.client.answer(other)).body == b"hello"
        (peer,) = hop.upstream.peers
        assert list(peer.messages) == [0, 1]


async def test_many_requests_share_one_connection_each_way() -> None:
    async with http2_hop() as hop:
        streams = [hop.client.request() for _ in range(90)]
        answers = [await hop.client.answer(stream_id) for stream_id in streams]
        assert {answer.body for answer in answers} == {b"ok"}
        assert len(hop.upstream.peers) == 1
        stats = hop.stack.stats
        assert (
            stats.cluster("up").upstream_cx_http2_total == stats.http("test").downstream_cx_http2_total == 1
        )


async def test_head_has_no_body() -> None:
    async with http2_hop() as hop:

        async def describe(peer: Http2Peer, stream_id: int) -> None:
            peer.h2.send_headers(stream_id, [(":status", "200"), ("content-length", "99")], end_stream=True)
            peer.flush()

        hop.upstream.serve = describe
        answer = await hop.client.ask("HEAD")
        assert (answer.headers[b"content-length"], answer.body) == (b"99", b"")


# HTTP/2 to HTTP/1.1.


async def test_a_host_of_http1_gets_a_request_of_http1() -> None:
    async with flaky_upstream("a") as upstream, proxy_to(upstream.endpoint, CodecType.HTTP1) as stack:
        async with await http2_client(stack.port) as client:
            answer = await client.ask(
                "POST", "/x", ("te", "trailers"), ("cookie", "a=1"), ("cookie", "b=2"), body=b"hi"
            )
        assert answer.body == b"a"
        (exchange,) = upstream.exchanges
        assert (exchange.method, exchange.path, exchange.body) == (b"POST", b"/x", b"hi")
        assert (b"host", b"reviews") in exchange.headers
        assert (b"cookie", b"a=1; b=2") in exchange.headers
        assert (b"content-length", b"2") in exchange.headers
        assert not [name for name, _ in exchange.headers if name.startswith(b":")]


async def test_large_bodies_pass_to_and_from_a_host_of_http1() -> None:
    async with flaky_upstream("a") as upstream, proxy_to(upstream.endpoint, CodecType.HTTP1) as stack:

        async def return_it(exchange: Exchange) -> None:
            exchange.answer(200, exchange.body)

        upstream.behave = return_it
        async with await http2_client(stack.port) as client:
            stream_id = client.request("POST", "/", end=False)
            await client.send_body(stream_id, LARGE)
            assert (await client.answer(stream_id)).body == LARGE


async def test_a_response_of_http1_that_is_cut_short_resets_the_stream() -> None:
    async with flaky_upstream("a") as upstream, proxy_to(upstream.endpoint, CodecType.HTTP1) as stack:

        async def cut(exchange: Exchange) -> None:
            exchange.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
            exchange.writer.close()

        upstream.behave = cut
        async with await http2_client(stack.port) as client:
            answer = await client.ask()
            assert (answer.body, answer.ended, answer.reset) == (b"half", False, 2)
            upstream.behave = upstream.answer_with_name
            assert (await client.ask()).body == b"a", "the connection lives on"


# HTTP/1.1 to HTTP/2.


async def test_requests_of_http1_go_to_a_host_of_http2() -> None:
    async with http2_hop() as hop:
        hop.upstream.serve = echo
        reader, writer = await asyncio.open_connection("127.0.0.1", hop.stack.port)
        writer.write(
            b"POST /p HTTP/1.1\r\nhost: reviews\r\ntransfer-encoding: chunked\r\nte: trailers\r\n"
            b"connection: close, x-private, te\r\nx-private: 1\r\n\r\n5\r\nhello\r\n0\r\nx-check: 1\r\n\r\n"
        )
        answer = (await read_to_end(reader)).lower()
        assert answer.startswith(b"http/1.1 200 ok\r\n")
        assert b"\r\nx-method: post\r\n" in answer
        assert b"\r\nx-authority: reviews\r\n" in answer
        assert b"x-private" not in answer
        assert answer.endswith(b"5\r\nhello\r\n0\r\nx-check: 1\r\n\r\n")
        writer.close()
