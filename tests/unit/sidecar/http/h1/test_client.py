from __future__ import annotations

import asyncio

import pytest

from sidecar.errors import UpstreamProtocolError, UpstreamResetError
from sidecar.http.body import BodyStream
from sidecar.http.headers import Headers
from tests.support.bodies import read_all
from tests.support.http1 import new_request, settle
from tests.support.http1_client import OK, Client


async def test_it_reports_which_side_closed_it_and_the_active_exchanges() -> None:
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
    assert client.pool.idle == []
    await client.answer(OK)
    response = await sending
    assert (response.status, response.body.whole) == (200, b"hello")
    assert client.pool.idle == [client.connection]
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
async def test_framing_headers_of_a_filter_have_no_effect_on_a_request(
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


async def test_upgrade_has_the_requested_protocol() -> None:
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
async def test_length_is_that_of_the_body(
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


async def test_upstream_with_another_protocol() -> None:
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


@pytest.mark.parametrize("expects", [True, False])
async def test_interim_responses_are_passed_on_100_only_to_a_request_that_expects_it(expects: bool) -> None:
    client = Client()
    told: list[tuple[int, Headers]] = []
    request = new_request()
    if expects:
        request.headers.append((b"expect", b"100-continue"))
    request.inform = lambda status, headers: told.append((status, headers))
    sending = await client.send(request)
    await client.answer(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n")
    assert told == [(100, []), (103, [(b"link", b"a")])][not expects :]
    await client.answer(OK)
    assert (await sending).status == 200
