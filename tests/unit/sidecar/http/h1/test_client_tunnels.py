"""Upgrades and CONNECT to an upstream: both directions of a tunnel, and how each ends."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.errors import DownstreamDisconnectError, UpstreamProtocolError, UpstreamResetError
from sidecar.http.body import Body, BodyStream
from sidecar.http.headers import Headers
from sidecar.http.message import Response
from tests.support.bodies import read_all
from tests.support.http1 import new_request, settle
from tests.support.http1_client import Client

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"


async def open_tunnel(client: Client) -> tuple[Body, Response]:
    up = BodyStream()
    request = new_request(body=up)
    request.upgrade = b"websocket"
    sending = await client.send(request)
    assert b"connection: upgrade\r\nupgrade: websocket\r\n\r\n" in client.transport.take()
    up.feed(b"early")
    await settle()
    assert client.transport.take() == b""
    await client.answer(SWITCH + b"down")
    response = await sending
    assert response.upgraded
    return up, response


async def test_tunnel_carries_bytes_both_ways_until_both_have_ended() -> None:
    client = Client()
    up, response = await open_tunnel(client)
    assert not isinstance(response.body, bytes)
    assert await response.body.read() == b"down"
    assert client.transport.take() == b"early"
    up.feed_end()
    await settle()
    assert client.transport.eof_written
    assert not client.transport.closed
    await client.answer(b"last")
    client.transport.receive_eof()
    assert await read_all(response.body) == b"last"
    await settle()
    assert client.transport.closed
    assert client.pool.idle == []


async def test_bytes_of_a_tunnel_are_written_as_they_arrive_while_the_upstream_keeps_up() -> None:
    client = Client()
    up, _ = await open_tunnel(client)
    assert isinstance(up, BodyStream)
    await settle()
    client.transport.take()
    up.feed(b"one")
    assert client.transport.take() == b"one"
    client.transport.protocol.pause_writing()
    up.feed(b"two")
    up.feed(b"three")
    await settle()
    before = client.transport.take()
    client.transport.protocol.resume_writing()
    up.feed(b"four")  # behind those that wait
    await settle()
    assert before + client.transport.take() == b"twothreefour"
    assert len(before) < len(b"twothreefour"), "the upstream was behind"
    up.fail(DownstreamDisconnectError("gone"))
    await settle()
    up.feed(b"late")
    assert client.transport.take() == b""
    assert client.transport.was_reset


async def test_upstream_may_end_its_direction_of_a_tunnel_first() -> None:
    client = Client()
    up, response = await open_tunnel(client)
    client.transport.receive_eof()
    assert await read_all(response.body) == b"down"
    assert not client.transport.closed
    client.transport.take()
    up.feed(b"more")
    up.feed_end()
    await settle()
    assert client.transport.take() == b"more"
    assert client.transport.closed


async def test_upgrade_that_is_refused_is_an_ordinary_response() -> None:
    client = Client()
    request = new_request(body=BodyStream())
    request.upgrade = b"websocket"
    sending = await client.send(request)
    await client.answer(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    response = await sending
    assert (response.status, response.body.whole, response.upgraded) == (403, b"no", False)
    assert client.pool.idle == []


async def test_request_that_cannot_be_written_ends_the_connection() -> None:
    client = Client()
    broken: Headers = [(b"x-a", "text")]  # type: ignore[list-item]  # what a careless filter may leave
    with pytest.raises(TypeError):
        await client.connection.send(new_request(headers=broken))
    assert client.pool.closed == [client.connection]
    assert client.connection.cut_short == 1


async def test_failed_connection_does_not_wait_for_an_upstream_that_reads_nothing() -> None:
    client = Client()
    sending = await client.send(new_request(b"POST", body=b"x" * 1000))
    client.transport.unflushed_bytes = 1000
    sending.cancel()
    await settle()
    assert client.transport.aborted


async def test_end_of_a_tunnel_loses_nothing_that_was_sent() -> None:
    client = Client()
    request = new_request(body=BodyStream())
    request.upgrade = b"websocket"
    sending = await client.send(request)
    await client.answer(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    await sending
    request.body.feed(b"bye")
    request.body.feed_end()
    client.transport.unflushed_bytes = 3
    client.transport.receive_eof()
    await settle()
    assert client.transport.closed
    assert not client.transport.aborted
    assert client.pool.closed == [client.connection]


async def test_tunnel_that_the_client_breaks_is_reset_for_the_upstream() -> None:
    client = Client()
    up, _ = await open_tunnel(client)
    up.fail(DownstreamDisconnectError("gone"))
    await settle()
    assert client.transport.was_reset


async def test_cancelled_tunnel_is_reset_for_the_upstream() -> None:
    client = Client()
    _, response = await open_tunnel(client)
    response.body.close()
    await settle()
    assert client.transport.was_reset


async def test_all_bytes_of_a_client_that_has_ended_its_direction_are_sent() -> None:
    client = Client()
    up, response = await open_tunnel(client)
    up.feed_end()
    await settle()
    client.transport.unflushed_bytes = 5
    response.body.close()
    await settle()
    assert client.transport.closed
    assert not client.transport.aborted


async def test_tunnel_that_the_upstream_resets_is_cut() -> None:
    client = Client()
    _, response = await open_tunnel(client)
    client.transport.lose(ConnectionResetError())
    await settle()
    with pytest.raises(UpstreamResetError):
        await read_all(response.body)


async def connect(client: Client) -> tuple[Body, asyncio.Task[Response]]:
    upstream_bound = BodyStream()
    request = new_request(b"CONNECT", b"", body=upstream_bound)
    request.upgrade = b"connect"
    sending = await client.send(request)
    assert client.transport.take() == b"CONNECT reviews:9080 HTTP/1.1\r\nhost: reviews:9080\r\n\r\n"
    return upstream_bound, sending


async def test_connect_is_passed_on_and_becomes_a_tunnel() -> None:
    client = Client()
    upstream_bound, sending = await connect(client)
    upstream_bound.feed(b"ping")
    await settle()
    assert client.transport.take() == b""
    await client.answer(b"HTTP/1.1 200 Connected\r\n\r\nearly")
    response = await sending
    assert response.upgraded
    assert client.transport.take() == b"ping"
    await client.answer(b"HTTP/1.1 is only bytes here")
    client.transport.receive_eof()
    assert await read_all(response.body) == b"earlyHTTP/1.1 is only bytes here"
    upstream_bound.feed_end()
    await settle()
    assert client.pool.closed == [client.connection]


async def test_connect_that_is_refused_is_an_answer_like_any_other() -> None:
    client = Client()
    _, sending = await connect(client)
    await client.answer(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    response = await sending
    assert (response.status, response.body.whole, response.upgraded) == (403, b"no", False)
    assert client.connection.closed


async def test_tunnel_with_a_length_is_a_fault() -> None:
    client = Client()
    _, sending = await connect(client)
    await client.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno")
    with pytest.raises(UpstreamProtocolError):
        await sending
