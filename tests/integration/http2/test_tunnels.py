"""Tunnels over HTTP/2: WebSocket by extended CONNECT (RFC 8441), and CONNECT."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from h2.settings import SettingCodes

from sidecar.config.codec_type import CodecType
from sidecar.config.route import PathMatchKind, RouteMatch
from tests.support.clusters import at_port
from tests.support.flaky_upstream import Exchange, flaky_upstream
from tests.support.http2_peer import Http2Peer, http2_client
from tests.support.http2_proxy import http2_hop, proxy_to
from tests.support.routes import configuration, route, to, virtual_host

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])

WEBSOCKET = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "http"),
    (":authority", "reviews"),
    (":path", "/chat"),
    ("sec-websocket-version", "13"),
]
CONNECT = [(":method", "CONNECT"), (":authority", "reviews:443")]
WEBSOCKET_OF_HTTP1 = (
    b"GET /chat HTTP/1.1\r\nhost: reviews\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
CONNECT_OF_HTTP1 = b"CONNECT reviews:443 HTTP/1.1\r\nhost: reviews:443\r\n\r\n"


async def echo_tunnel(peer: Http2Peer, stream_id: int) -> None:
    """Opens the tunnel, and returns each piece until the client ends its direction."""
    message = peer.messages[stream_id]
    peer.h2.send_headers(stream_id, [(":status", "200")])
    peer.flush()
    sent = 0
    while not message.ended or sent < len(message.body):
        await peer.until(lambda sent=sent: message.ended or len(message.body) > sent)
        await peer.send_body(stream_id, message.body[sent:], end=False)
        sent = len(message.body)
    peer.h2.end_stream(stream_id)
    peer.flush()


async def refuse_tunnel(peer: Http2Peer, stream_id: int) -> None:
    peer.h2.send_headers(stream_id, [(":status", "418"), ("content-length", "3")])
    peer.h2.send_data(stream_id, b"no!", end_stream=True)
    peer.flush()


@asynccontextmanager
async def tcp_host(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def echo_bytes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


async def test_a_websocket_passes_between_peers_of_http2() -> None:
    async with http2_hop(upstream={SettingCodes.ENABLE_CONNECT_PROTOCOL: 1}) as hop:
        hop.upstream.serve = echo_tunnel
        stream_id = hop.client.open(WEBSOCKET, end=False)
        answer = hop.client.messages[stream_id]
        await hop.client.until(lambda: bool(answer.headers))
        assert answer.status == 200
        for piece in (b"one", b"two"):
            hop.client.h2.send_data(stream_id, piece)
            hop.client.flush()
            await hop.client.until(lambda piece=piece: answer.body.endswith(piece))
        hop.client.h2.end_stream(stream_id)
        hop.client.flush()
        await hop.client.answer(stream_id)
        assert (answer.body, answer.ended, answer.reset) == (b"onetwo", True, None)
        sent = hop.upstream.peers[0].messages[1].headers
        assert (sent[b":method"], sent[b":protocol"], sent[b":path"]) == (b"CONNECT", b"websocket", b"/chat")
        assert hop.stack.stats.http("test").downstream_cx_upgrades_total == 1


async def test_a_websocket_over_http2_reaches_a_host_of_http1() -> None:
    async with flaky_upstream("a") as upstream, proxy_to(upstream.endpoint, CodecType.HTTP1) as stack:

        async def accept(exchange: Exchange) -> None:
            headers = dict(exchange.headers)
            assert headers[b"upgrade"] == b"websocket"
            assert len(headers[b"sec-websocket-key"]) == 24
            exchange.writer.write(
                b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
                b"sec-websocket-accept: x\r\n\r\nhello"
            )

        upstream.behave = accept
        async with await http2_client(stack.port) as client:
            stream_id = client.open(WEBSOCKET, end=False)
            answer = client.messages[stream_id]
            await client.until(lambda: answer.body == b"hello")
            assert answer.status == 200
            assert b"sec-websocket-accept" not in answer.headers
            assert b"upgrade" not in answer.headers


async def test_a_websocket_over_http1_reaches_a_host_of_http2() -> None:
    async with http2_hop(upstream={SettingCodes.ENABLE_CONNECT_PROTOCOL: 1}) as hop:
        hop.upstream.serve = echo_tunnel
        reader, writer = await asyncio.open_connection("127.0.0.1", hop.stack.port)
        writer.write(WEBSOCKET_OF_HTTP1)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 101 ")
        assert b"\r\nupgrade: websocket\r\n" in head
        assert b"\r\nsec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n" in head  # RFC 6455 1.3
        writer.write(b"piece")
        assert await reader.readexactly(5) == b"piece"
        writer.close()


async def test_connect_passes_to_a_host_of_http2() -> None:
    async with http2_hop() as hop:
        hop.upstream.serve = echo_tunnel
        stream_id = hop.client.open(CONNECT, end=False)
        answer = hop.client.messages[stream_id]
        await hop.client.until(lambda: answer.status == 200)
        await hop.client.send_body(stream_id, b"x" * 100_000)
        assert (await hop.client.answer(stream_id)).body == b"x" * 100_000


@pytest.mark.parametrize(
    ("tunnel", "first_line", "answer"),
    [
        (
            WEBSOCKET,
            b"GET /chat HTTP/1.1\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        ),
        (CONNECT, b"CONNECT reviews:443 HTTP/1.1\r\n", b"HTTP/1.1 200 OK\r\n\r\n"),
    ],
    ids=["WebSocket", "CONNECT"],
)
async def test_a_tunnel_over_http2_passes_bytes_both_ways_to_a_host_of_http1(
    tunnel: list[tuple[str, str]], first_line: bytes, answer: bytes
) -> None:
    heads: list[bytes] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await echo_bytes(reader, writer)

    async with tcp_host(accept) as port, proxy_to(at_port(port), CodecType.HTTP1) as stack:
        async with await http2_client(stack.port) as client:
            await through_the_tunnel(client, client.open(tunnel, end=False))
        await stack.settle()
    (head,) = heads
    assert head.startswith(first_line)


async def test_a_length_in_the_heads_of_a_connect_has_no_meaning() -> None:
    async def echo_with_a_length(peer: Http2Peer, stream_id: int) -> None:
        peer.h2.send_headers(stream_id, [(":status", "200"), ("content-length", "3")])
        peer.flush()
        message = peer.messages[stream_id]
        await peer.until(lambda: message.ended)
        peer.h2.send_data(stream_id, message.body, end_stream=True)
        peer.flush()

    async with http2_hop() as hop:
        hop.upstream.serve = echo_with_a_length
        head = [(":method", "CONNECT"), (":authority", "a:1"), ("content-length", "3")]
        tunnel = hop.client.open(head, end=False)
        await hop.client.until(lambda: bool(hop.client.messages[tunnel].status))
        hop.client.h2.send_data(tunnel, b"hello world", end_stream=True)
        hop.client.flush()
        answer = await hop.client.answer(tunnel)
        assert (answer.body, answer.reset) == (b"hello world", None)
        assert b"content-length" not in answer.headers


async def test_connect_over_http2_ends_at_the_proxy() -> None:
    route_config = configuration(
        virtual_host(route(RouteMatch(path_kind=PathMatchKind.CONNECT), to("up", terminate_connect=True)))
    )
    async with (
        tcp_host(echo_bytes) as port,
        proxy_to(at_port(port), CodecType.HTTP1, route_config=route_config) as stack,
    ):
        async with await http2_client(stack.port) as client:
            await through_the_tunnel(client, client.open(CONNECT, end=False))
        await stack.settle()


async def through_the_tunnel(client: Http2Peer, stream_id: int) -> None:
    """Bytes to a host that returns them, and ends its direction after the client's end."""
    answer = client.messages[stream_id]
    await client.until(lambda: answer.status == 200)
    await client.send_body(stream_id, b"ping", end=False)
    await client.until(lambda: answer.body == b"ping")
    await client.send_body(stream_id, b"x" * 100_000)
    await client.answer(stream_id)
    assert (answer.body, answer.ended, answer.reset) == (b"ping" + b"x" * 100_000, True, None)


async def test_connect_over_http1_reaches_a_host_of_http2() -> None:
    async with http2_hop() as hop:
        hop.upstream.serve = echo_tunnel
        reader, writer = await asyncio.open_connection("127.0.0.1", hop.stack.port)
        writer.write(CONNECT_OF_HTTP1)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        writer.write(b"x" * 100_000)
        assert await reader.readexactly(100_000) == b"x" * 100_000
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        sent = hop.upstream.peers[0].messages[1].headers
        assert (sent[b":method"], sent[b":authority"]) == (b"CONNECT", b"reviews:443")
        assert not {b":path", b":scheme", b":protocol"} & sent.keys()  # RFC 9113 8.5


async def test_a_tunnel_that_the_listener_does_not_allow_is_refused() -> None:
    async with http2_hop(upgrades=frozenset()) as hop:
        answer = await hop.client.answer(hop.client.open(WEBSOCKET, end=False))
        assert answer.status == 403
        answer = await hop.client.answer(hop.client.open(CONNECT, end=False))
        assert answer.status == 403


async def test_a_host_that_refuses_the_tunnel_gives_its_own_answer() -> None:
    async with http2_hop() as hop:
        hop.upstream.serve = refuse_tunnel
        answer = await hop.client.answer(hop.client.open(WEBSOCKET, end=False))
        assert (answer.status, answer.body, answer.ended) == (418, b"no!", True)


@pytest.mark.parametrize("request_head", [WEBSOCKET_OF_HTTP1, CONNECT_OF_HTTP1], ids=["WebSocket", "CONNECT"])
async def test_a_host_of_http2_refuses_a_tunnel_over_http1(request_head: bytes) -> None:
    async with http2_hop() as hop:
        hop.upstream.serve = refuse_tunnel
        reader, writer = await asyncio.open_connection("127.0.0.1", hop.stack.port)
        writer.write(request_head)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 418 ")
        assert await reader.readexactly(3) == b"no!"
        writer.close()


@pytest.mark.parametrize("tunnel", [WEBSOCKET, CONNECT], ids=["WebSocket", "CONNECT"])
async def test_a_host_of_http1_refuses_a_tunnel_over_http2(tunnel: list[tuple[str, str]]) -> None:
    async with flaky_upstream("a") as upstream, proxy_to(upstream.endpoint, CodecType.HTTP1) as stack:

        async def refuse(exchange: Exchange) -> None:
            exchange.answer(418, b"no!")

        upstream.behave = refuse
        async with await http2_client(stack.port) as client:
            answer = await client.answer(client.open(tunnel, end=False))
            assert (answer.status, answer.body, answer.ended) == (418, b"no!", True)


@pytest.mark.parametrize("side", ["client", "host"])
async def test_a_tunnel_that_one_side_resets_is_reset_for_the_other(side: str) -> None:
    opened = asyncio.Event()

    async def open_it(peer: Http2Peer, stream_id: int) -> None:
        peer.h2.send_headers(stream_id, [(":status", "200")])
        peer.flush()
        await opened.wait()
        if side == "host":
            peer.h2.reset_stream(stream_id, 2)
            peer.flush()

    async with http2_hop() as hop:
        hop.upstream.serve = open_it
        stream_id = hop.client.open(WEBSOCKET, end=False)
        answer = hop.client.messages[stream_id]
        await hop.client.until(lambda: answer.status == 200)
        opened.set()
        if side == "host":
            await hop.client.until(lambda: answer.reset is not None)
        else:
            hop.client.h2.reset_stream(stream_id, 8)
            hop.client.flush()
            peer = hop.upstream.peers[0]
            await peer.until(lambda: peer.messages[1].reset is not None)
