from __future__ import annotations

import asyncio

import pytest

from sidecar.errors import DownstreamDisconnectError, UpstreamProtocolError, UpstreamResetError
from sidecar.http.body import Body, BodyStream
from sidecar.http.h1.client import Http1ClientConnection
from sidecar.http.headers import Headers
from sidecar.http.message import Request, Response
from tests.support.bodies import read_all, received
from tests.support.http1 import FakeTransport, new_request, settle

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


class Pool:
    """The events of connections, as a pool notes them."""

    def __init__(self) -> None:
        self.idle: list[Http1ClientConnection] = []
        self.closed: list[Http1ClientConnection] = []


class Events:
    """The `ConnectionEvents` of one connection."""

    def __init__(self, pool: Pool, connection: Http1ClientConnection) -> None:
        self._pool = pool
        self._connection = connection

    def exchange_ended(self) -> None:
        self._pool.idle.append(self._connection)

    def capacity_changed(self) -> None:
        raise AssertionError("an HTTP/1.1 connection always carries one exchange at a time")

    def draining(self) -> None:
        raise AssertionError("HTTP/1.1 has no GOAWAY")

    def closed(self) -> None:
        self._pool.closed.append(self._connection)


class Client:
    def __init__(self, *, half_close: bool = True) -> None:
        self.pool = Pool()
        self.connection = Http1ClientConnection()
        self.connection.events = Events(self.pool, self.connection)
        self.transport = FakeTransport(self.connection, half_close=half_close)

    async def send(self, request: Request) -> asyncio.Task[Response]:
        task = asyncio.get_running_loop().create_task(self.connection.send(request))
        await settle()
        return task

    async def answer(self, data: bytes) -> None:
        self.connection.data_received(data)
        await settle()


async def test_it_says_who_closed_it_and_what_was_under_way() -> None:
    ended: list[tuple[int, bool]] = []
    for by_peer in (False, True):
        for under_way in (False, True):
            client = Client()
            sending = await client.send(new_request())
            if not under_way:
                await client.answer(OK)
            if by_peer:
                client.transport.lose(ConnectionResetError())
            else:
                client.connection.close()
            await settle()
            await asyncio.gather(sending, return_exceptions=True)
            ended.append((client.connection.cut_short, client.connection.closed_by_peer))
    assert ended == [(0, False), (1, False), (0, True), (1, True)]


async def test_exchange_that_ends_with_its_connection_was_not_cut_short() -> None:
    client = Client()
    sending = await client.send(new_request())
    await client.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    assert (await sending).status == 200
    assert client.connection.closed
    assert client.connection.cut_short == 0


async def test_whole_exchange_is_one_write_and_leaves_the_connection_idle() -> None:
    client = Client()
    sending = await client.send(new_request(b"POST", b"/a", [(b"x-a", b"b")], b"ping"))
    assert client.transport.take() == (
        b"POST /a HTTP/1.1\r\nhost: reviews:9080\r\nx-a: b\r\ncontent-length: 4\r\n\r\nping"
    )
    assert client.transport.writes == 1
    assert client.connection.active == 1
    await client.answer(OK)
    response = await sending
    assert (response.status, response.body.whole) == (200, b"hello")
    assert client.pool.idle == [client.connection]
    assert client.connection.active == 0
    assert not client.connection.closed


ONE_HOPS: Headers = [
    (b"transfer-encoding", b"chunked"),
    (b"connection", b"close"),
    (b"upgrade", b"h2c"),
    (b"proxy-connection", b"close"),
    (b"keep-alive", b"timeout=5"),
    (b"te", b"gzip"),
    (b"host", b"elsewhere"),
]


@pytest.mark.parametrize(
    ("method", "body", "framing"),
    [
        (b"GET", b"", b""),
        (b"POST", b"", b"content-length: 0\r\n"),
        (b"POST", b"hi", b"content-length: 2\r\n"),
    ],
)
async def test_what_a_filter_leaves_in_a_request_changes_nothing_of_its_framing(
    method: bytes, body: bytes, framing: bytes
) -> None:
    client = Client()
    sending = await client.send(new_request(method, headers=[*ONE_HOPS, (b"te", b"trailers")], body=body))
    head = method + b" / HTTP/1.1\r\nhost: reviews:9080\r\nte: trailers\r\n"
    assert client.transport.take() == head + framing + b"\r\n" + body
    sending.cancel()


@pytest.mark.parametrize(
    ("lengths", "framing", "sent"),
    [
        ((), b"transfer-encoding: chunked", b"5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n"),
        ((b"5",), b"content-length: 5", b"hello"),
        ((b"5", b"7"), b"transfer-encoding: chunked", b"5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n"),
        ((b"five",), b"transfer-encoding: chunked", b"5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n"),
    ],
)
async def test_streaming_request_is_framed_once(
    lengths: tuple[bytes, ...], framing: bytes, sent: bytes
) -> None:
    client = Client()
    body = BodyStream()
    body.feed(b"hello")
    body.feed_end([(b"x-sum", b"1"), (b"host", b"elsewhere"), (b"content-length", b"9")])
    headers = [*ONE_HOPS, *((b"content-length", length) for length in lengths)]
    sending = await client.send(new_request(b"POST", headers=headers, body=body))
    head = b"POST / HTTP/1.1\r\nhost: reviews:9080\r\n" + framing + b"\r\n\r\n"
    assert client.transport.take() == head + sent
    sending.cancel()


async def test_upgrade_says_of_its_own_what_it_asks_for() -> None:
    client = Client()
    request = new_request(headers=[*ONE_HOPS, (b"content-length", b"7")], body=BodyStream())
    request.upgrade = b"websocket"
    sending = await client.send(request)
    assert client.transport.take() == (
        b"GET / HTTP/1.1\r\nhost: reviews:9080\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    )
    sending.cancel()


@pytest.mark.parametrize(
    ("method", "headers", "body", "expected"),
    [
        (b"GET", [], b"", []),
        (b"POST", [], b"", [b"content-length: 0"]),
        (b"GET", [(b"content-length", b"3")], b"", [b"content-length: 0"]),
        (b"PUT", [(b"content-length", b"3")], b"longer", [b"content-length: 6"]),
    ],
)
async def test_length_is_the_bodys_whatever_a_filter_left(
    method: bytes, headers: Headers, body: bytes, expected: list[bytes]
) -> None:
    client = Client()
    sending = await client.send(new_request(method, headers=headers, body=body))
    head = client.transport.take().partition(b"\r\n\r\n")[0]
    assert [line for line in head.split(b"\r\n") if line.startswith(b"content-length")] == expected
    sending.cancel()


async def test_slow_consumer_of_a_response_does_not_hold_up_the_next_one_on_its_connection() -> None:
    client = Client()
    sending = await client.send(new_request())
    await client.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 400000\r\n\r\n" + b"x" * 100_000)
    unread = (await sending).body
    await client.answer(b"x" * 200_000)
    assert not client.transport.reading
    await client.answer(b"x" * 100_000)
    assert client.pool.idle == [client.connection]
    assert client.transport.reading
    sending = await client.send(new_request())
    await client.answer(OK)
    assert (await sending).body.whole == b"hello"
    assert len(await read_all(unread)) == 400_000
    assert client.transport.reading


async def test_connection_is_lent_again_only_when_the_last_byte_was_looked_at() -> None:
    """A response that an upstream sends too much must not answer the next request."""
    client = Client()
    sending = await client.send(new_request())
    await client.answer(OK + OK)
    assert (await sending).body.whole == b"hello"
    assert client.pool.idle == []
    assert client.pool.closed == [client.connection]


async def test_bytes_while_idle_close_the_connection() -> None:
    client = Client()
    await client.answer(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
    assert client.connection.closed
    assert client.transport.closed
    assert client.pool.closed == [client.connection]


async def test_eof_while_idle_is_seen_before_reuse() -> None:
    client = Client()
    client.connection.eof_received()
    assert client.connection.closed
    assert client.pool.closed == [client.connection]
    with pytest.raises(UpstreamResetError) as raised:
        await client.connection.send(new_request())
    assert not raised.value.request_sent


async def test_upstream_that_closes_after_the_response() -> None:
    client = Client()
    sending = await client.send(new_request())
    await client.answer(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    assert (await sending).status == 200
    assert client.pool.idle == []
    assert client.pool.closed == [client.connection]


async def test_upstream_that_dies_before_the_response() -> None:
    client = Client()
    sending = await client.send(new_request())
    client.transport.lose(ConnectionResetError("reset by peer"))
    with pytest.raises(UpstreamResetError, match="reset by peer") as raised:
        await sending
    assert raised.value.request_sent
    assert client.pool.closed == [client.connection]


async def test_upstream_that_dies_within_the_body() -> None:
    client = Client()
    sending = await client.send(new_request())
    await client.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
    response = await sending
    client.transport.receive_eof()
    await settle()
    with pytest.raises(UpstreamResetError):
        await read_all(response.body)


async def test_upstream_that_speaks_something_else() -> None:
    client = Client()
    sending = await client.send(new_request())
    await client.answer(b"SSH-2.0-OpenSSH_9.2\r\n")
    with pytest.raises(UpstreamProtocolError):
        await sending
    assert client.transport.closed


async def test_body_until_close() -> None:
    client = Client()
    sending = await client.send(new_request())
    await client.answer(b"HTTP/1.1 200 OK\r\n\r\nhel")
    response = await sending
    await client.answer(b"lo")
    client.transport.receive_eof()
    assert await read_all(response.body) == b"hello"
    assert client.pool.idle == []
    assert client.pool.closed == [client.connection]


async def test_streamed_response_gives_the_connection_back_at_its_end() -> None:
    client = Client()
    sending = await client.send(new_request())
    await client.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    response = await sending
    assert client.pool.idle == []
    await client.answer(b"0\r\nGrpc-Status: 0\r\n\r\n")
    assert client.pool.idle == [client.connection]
    assert await read_all(response.body) == b"hello"
    assert not isinstance(response.body, bytes)
    assert response.body.trailers == [(b"grpc-status", b"0")]


async def test_slow_reader_slows_the_upstream_down() -> None:
    client = Client()
    sending = await client.send(new_request())
    await client.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 300_000)
    assert not client.transport.reading
    response = await sending
    assert not isinstance(response.body, bytes)
    assert len(await response.body.read()) == 300_000
    assert client.transport.reading


async def test_reader_that_leaves_ends_the_connection() -> None:
    client = Client()
    sending = await client.send(new_request())
    await client.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
    response = await sending
    assert not isinstance(response.body, bytes)
    response.body.close()
    assert client.transport.closed
    assert client.pool.closed == [client.connection]


async def test_head_then_get_on_one_connection() -> None:
    client = Client()
    sending = await client.send(new_request(b"HEAD"))
    await client.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
    response = await sending
    assert (response.body.whole, response.headers) == (b"", [(b"content-length", b"500")])
    sending = await client.send(new_request())
    await client.answer(OK)
    assert (await sending).body.whole == b"hello"


async def test_interim_responses_are_passed_on_but_for_100() -> None:
    client = Client()
    told: list[tuple[int, Headers]] = []
    request = new_request()
    request.inform = lambda status, headers: told.append((status, headers))
    sending = await client.send(request)
    await client.answer(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n")
    assert told == [(103, [(b"link", b"a")])]
    await client.answer(OK)
    assert (await sending).status == 200


# Request bodies that stream.


async def test_body_without_a_length_goes_in_chunks_with_its_trailers() -> None:
    client, body = Client(), BodyStream()
    sending = await client.send(new_request(b"POST", body=body))
    assert b"transfer-encoding: chunked\r\n\r\n" in client.transport.take()
    body.feed(b"hello")
    await settle()
    assert client.transport.take() == b"5\r\nhello\r\n"
    body.feed_end([(b"x-sum", b"1")])
    await settle()
    assert client.transport.take() == b"0\r\nx-sum: 1\r\n\r\n"
    await client.answer(OK)
    assert (await sending).status == 200
    assert client.pool.idle == [client.connection]


async def test_body_with_a_length_goes_as_it_is() -> None:
    client, body = Client(), BodyStream()
    sending = await client.send(new_request(b"POST", headers=[(b"content-length", b"5")], body=body))
    assert b"transfer-encoding" not in client.transport.take()
    body.feed(b"hello")
    body.feed_end()
    await settle()
    assert client.transport.take() == b"hello"
    await client.answer(OK)
    await sending
    assert client.pool.idle == [client.connection]


@pytest.mark.parametrize("sent", [b"hell", b"hello!"])
async def test_body_of_another_length_than_said_ends_the_connection(sent: bytes) -> None:
    client, body = Client(), BodyStream()
    sending = await client.send(new_request(b"POST", headers=[(b"content-length", b"5")], body=body))
    body.feed(sent)
    body.feed_end()
    await settle()
    assert client.transport.closed
    assert sending.exception() is not None


async def test_slow_upstream_slows_the_body_down() -> None:
    client, body = Client(), BodyStream()
    sending = await client.send(new_request(b"POST", body=body))
    client.transport.take()
    client.connection.pause_writing()
    body.feed(b"one")
    await settle()
    body.feed(b"two")
    await settle()
    assert client.transport.take() == b"3\r\none\r\n"
    client.connection.resume_writing()
    await settle()
    assert client.transport.take() == b"3\r\ntwo\r\n"
    sending.cancel()


async def test_response_may_start_before_the_request_has_ended() -> None:
    client, body = Client(), BodyStream()
    sending = await client.send(new_request(b"POST", body=body))
    await client.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
    response = await sending
    body.feed(b"more")
    body.feed_end()
    await settle()
    assert client.transport.take().endswith(b"4\r\nmore\r\n0\r\n\r\n")
    assert client.pool.idle == []
    await client.answer(b"0\r\n\r\n")
    assert await read_all(response.body) == b"one"
    assert client.pool.idle == [client.connection]


async def test_response_complete_before_the_request_ends_the_connection() -> None:
    client, body = Client(), BodyStream()
    sending = await client.send(new_request(b"POST", body=body))
    await client.answer(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
    assert (await sending).status == 413
    assert client.pool.idle == []
    assert client.pool.closed == [client.connection]
    body.feed(b"x")
    assert received(body) == b""


async def test_request_body_that_breaks_off_blames_who_broke_it() -> None:
    client, body = Client(), BodyStream()
    sending = await client.send(new_request(b"POST", body=body))
    body.fail(DownstreamDisconnectError("gone"))
    with pytest.raises(DownstreamDisconnectError):
        await sending
    assert client.transport.closed


# Cancellation.


async def test_cancelled_before_the_response_closes_the_connection() -> None:
    client = Client()
    sending = await client.send(new_request())
    sending.cancel()
    await settle()
    assert sending.cancelled()
    assert client.transport.closed
    assert client.pool.closed == [client.connection]
    assert client.pool.idle == []


async def test_cancelled_while_the_body_is_sent_stops_sending() -> None:
    client, body = Client(), BodyStream()
    sending = await client.send(new_request(b"POST", body=body))
    sending.cancel()
    await settle()
    assert client.transport.closed
    body.feed(b"x")
    assert received(body) == b""


async def test_cancelled_in_the_moment_of_a_whole_response_harms_nobody() -> None:
    client = Client()
    sending = await client.send(new_request())
    client.connection.data_received(OK)
    sending.cancel()
    await settle()
    assert client.pool.idle == [client.connection]
    assert not client.connection.closed


async def test_cancelled_in_the_moment_of_a_failure() -> None:
    client = Client()
    sending = await client.send(new_request())
    client.connection.connection_lost(None)
    sending.cancel()
    await settle()
    assert sending.cancelled()


# Tunnels.

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
    assert client.connection.active == 0


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


async def test_tunnel_whose_answer_nobody_wants_any_more_is_reset_for_the_upstream() -> None:
    client = Client()
    _, response = await open_tunnel(client)
    response.body.close()
    await settle()
    assert client.transport.was_reset


async def test_client_that_had_ended_its_direction_takes_nothing_of_it_away() -> None:
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
