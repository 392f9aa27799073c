"""Request bodies that stream, and requests that are cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import gc

import pytest

from sidecar.errors import DownstreamDisconnectError
from sidecar.http.body import BodyStream, ReaderBody
from tests.support.bodies import read_all, received
from tests.support.http1 import new_request, settle
from tests.support.http1_client import OK, Client


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
async def test_body_with_a_wrong_length_ends_the_connection(sent: bytes) -> None:
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


async def test_request_body_that_breaks_off_raises_its_error() -> None:
    client, body = Client(), BodyStream()
    sending = await client.send(new_request(b"POST", body=body))
    body.fail(DownstreamDisconnectError("gone"))
    with pytest.raises(DownstreamDisconnectError):
        await sending
    assert client.transport.closed


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


async def test_cancelled_together_with_a_whole_response() -> None:
    client = Client()
    sending = await client.send(new_request())
    client.connection.data_received(OK)
    sending.cancel()
    await settle()
    assert client.pool.idle == [client.connection]
    assert not client.connection.closed


async def test_cancelled_together_with_a_failure() -> None:
    client = Client()
    sending = await client.send(new_request())
    client.connection.connection_lost(None)
    sending.cancel()
    await settle()
    assert sending.cancelled()


class Stubborn:
    """A reader whose cancelled `read` returns bytes."""

    def __init__(self, later: list[bytes]) -> None:
        self.ended = False
        self.later = later
        self.closed = False

    async def read(self) -> bytes:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.get_running_loop().create_future()
        return self.later.pop(0)

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("later", [[b"late", b"later"], [b""]])
async def test_body_that_ignores_its_cancellation_is_dropped(later: list[bytes]) -> None:
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
    client, reader = Client(), Stubborn(list(later))
    sending = await client.send(new_request(b"POST", body=ReaderBody(reader)))
    client.transport.take()
    sending.cancel()
    await settle()
    assert client.transport.take() == b""
    assert (reader.closed, reader.later) == (True, later[1:])
    assert client.pool.closed == [client.connection]
    del sending
    gc.collect()
    assert faults == []
