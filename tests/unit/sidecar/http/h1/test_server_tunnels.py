"""Upgrades and CONNECT: both directions of a tunnel, and how each ends."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.errors import (
    StreamIdleTimeoutError,
    UpstreamResetError,
)
from sidecar.http.body import Body, BodyStream
from sidecar.http.message import Request, Response
from tests.support.http1 import Server, settle
from tests.support.http1_requests import (
    HOST,
    UPGRADE,
    Held,
    fields_of,
    hello,
    status_of,
    tunnel,
)


async def test_upgrade_carries_bytes_both_ways_until_the_upstream_ends_it() -> None:
    body, requests = BodyStream(), list[Request]()
    server = Server(tunnel(body, requests), upgrades=frozenset({"websocket"}))
    answer = await server.exchange(UPGRADE + b"first")
    assert answer.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert fields_of(answer)[b"upgrade"] == b"websocket"
    assert fields_of(answer)[b"connection"] == b"upgrade"
    assert b"content-length" not in fields_of(answer)
    up = requests[0].body
    assert not isinstance(up, bytes)
    assert await up.read() == b"first"
    body.feed(b"\x00down")
    await settle()
    assert server.transport.take() == b"\x00down"
    server.protocol.data_received(b"last")
    assert await up.read() == b"last"
    body.feed_end()
    await settle()
    assert server.transport.eof_written
    server.protocol.data_received(b", and more")
    assert await up.read() == b", and more"
    assert server.stats.downstream_cx_upgrades_active == 1
    server.transport.receive_eof()
    assert await up.read() == b""
    up.close()
    await settle()
    assert server.transport.closed
    assert not server.transport.aborted
    assert server.stats.downstream_cx_upgrades_total == 1
    assert server.stats.downstream_cx_upgrades_active == 0
    assert (server.info.bytes_received, server.info.bytes_sent) == (19, 5)


async def test_client_of_a_tunnel_is_reset_when_the_upstream_has_ended_and_takes_no_more() -> None:
    body, requests = BodyStream(), list[Request]()
    server = Server(tunnel(body, requests), upgrades=frozenset({"websocket"}))
    await server.exchange(UPGRADE)
    body.feed_end()
    await settle()
    assert not server.transport.closed
    up = requests[0].body
    assert not isinstance(up, bytes)
    up.close()
    await settle()
    assert server.transport.was_reset


async def test_client_of_a_tunnel_that_is_idle_after_the_upstreams_end_is_cut() -> None:
    body, requests = BodyStream(), list[Request]()
    server = Server(tunnel(body, requests), stream_idle_timeout_s=30.0)
    await server.exchange(UPGRADE)
    body.feed_end()
    await settle()
    server.time.advance(30)
    await settle()
    assert server.transport.was_reset
    up = requests[0].body
    assert not isinstance(up, bytes)
    with pytest.raises(StreamIdleTimeoutError):
        await up.read()


async def test_client_may_end_its_direction_of_a_tunnel_first() -> None:
    body, requests = BodyStream(), list[Request]()
    server = Server(tunnel(body, requests, 200), upgrades=frozenset({"connect"}))
    answer = await server.exchange(b"CONNECT a:80 HTTP/1.1\r\n" + HOST + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    server.transport.receive_eof()
    await settle()
    assert not server.transport.closed
    body.feed(b"answer")
    body.feed_end()
    await settle()
    assert server.transport.take() == b"answer"
    assert server.transport.closed


async def test_upgrade_that_is_declined_by_the_stack_is_answered_and_closed() -> None:
    server = Server(hello, upgrades=frozenset({"websocket"}))
    answer = await server.exchange(UPGRADE)
    assert (status_of(answer), fields_of(answer)[b"connection"]) == (200, b"close")
    assert server.transport.eof_written
    server.transport.receive_eof()
    await settle()
    assert server.transport.closed


async def test_upgrade_that_is_declined_after_the_client_has_ended_its_direction_closes() -> None:
    service = Held()
    server = Server(service, upgrades=frozenset({"websocket"}))
    await server.exchange(UPGRADE)
    server.transport.receive_eof()
    service.answers[0].set_result(Response(200, [], Body(b"no")))
    await settle()
    assert fields_of(server.transport.take())[b"connection"] == b"close"
    assert server.transport.closed


async def test_tunnel_that_the_upstream_resets_ends_for_the_reader_of_the_clients_bytes() -> None:
    body, requests = BodyStream(), list[Request]()
    server = Server(tunnel(body, requests), upgrades=frozenset({"websocket"}))
    await server.exchange(UPGRADE)
    body.fail(UpstreamResetError("gone"))
    await settle()
    assert server.transport.was_reset
    up = requests[0].body
    assert not isinstance(up, bytes)
    assert await asyncio.wait_for(up.read(), 5) == b""


async def test_bytes_of_a_tunnel_are_written_as_they_arrive_while_the_client_keeps_up() -> None:
    body = BodyStream()
    server = Server(tunnel(body, []), upgrades=frozenset({"websocket"}))
    head = await server.exchange(UPGRADE)
    body.feed(b"one")
    assert server.transport.take() == b"one"
    server.protocol.pause_writing()
    body.feed(b"two")
    body.feed(b"three")
    await settle()
    before = server.transport.take()
    server.protocol.resume_writing()
    body.feed(b"four")  # behind those that wait
    await settle()
    assert before + server.transport.take() == b"twothreefour"
    assert len(before) < len(b"twothreefour"), "the client was behind"
    body.feed(b"five")
    assert server.transport.take() == b"five"
    assert server.stats.downstream_cx_tx_bytes_total == len(head) + len(b"onetwothreefourfive")


async def test_bytes_of_a_tunnel_are_written_no_more_after_its_client_has_left() -> None:
    body = BodyStream()
    server = Server(tunnel(body, []), upgrades=frozenset({"websocket"}))
    await server.exchange(UPGRADE)
    server.transport.lose(ConnectionResetError())
    await settle()
    body.feed(b"late")
    assert server.transport.take() == b""


async def test_tunnel_in_which_bytes_arrive_is_not_idle() -> None:
    body = BodyStream()
    server = Server(tunnel(body, []), stream_idle_timeout_s=30.0)
    await server.exchange(UPGRADE)
    for _ in range(5):
        server.time.advance(20)
        body.feed(b"x")
    await settle()
    assert not server.transport.closed
    server.time.advance(30)
    await settle()
    assert server.transport.was_reset


async def test_idle_tunnel_is_cut() -> None:
    body, requests = BodyStream(), list[Request]()
    server = Server(tunnel(body, requests), stream_idle_timeout_s=30.0)
    await server.exchange(UPGRADE)
    server.time.advance(30)
    await settle()
    assert server.transport.was_reset
    assert server.stats.downstream_rq_active == 0


async def test_tail_of_a_tunnel_waits_for_a_client_that_pauses() -> None:
    body, requests = BodyStream(), list[Request]()
    server = Server(tunnel(body, requests), stream_idle_timeout_s=60)
    await server.exchange(UPGRADE)
    server.transport.unflushed_bytes = 5000
    body.feed(b"tail")
    body.feed_end()
    await settle()
    assert server.transport.eof_written
    for _ in range(59):
        server.time.advance(1)
    assert not server.transport.closed
    server.transport.unflushed_bytes = 0
    server.time.advance(1)
    server.time.advance(1)
    assert not server.transport.closed, "the client may go on"
    server.transport.receive_eof()
    up = requests[0].body
    assert not isinstance(up, bytes)
    up.close()
    await settle()
    assert server.transport.closed
    assert not server.transport.aborted


async def test_unread_tail_of_a_tunnel_ends_in_a_reset() -> None:
    body, requests = BodyStream(), list[Request]()
    server = Server(tunnel(body, requests), stream_idle_timeout_s=60)
    await server.exchange(UPGRADE)
    server.transport.unflushed_bytes = 5000
    body.feed_end()
    await settle()
    for _ in range(62):
        server.time.advance(1)
    assert server.transport.was_reset
