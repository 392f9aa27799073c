"""Timeouts and drains of a server's connection."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.http.body import Body, BodyStream
from sidecar.http.message import Request, Response
from tests.support.bodies import read_all
from tests.support.http1 import CLIENT, FakeTransport, Server, response, settle
from tests.support.http1_requests import (
    GET,
    HOST,
    Held,
    body_of,
    fields_of,
    hello,
    status_of,
)


async def test_slow_head_gets_408() -> None:
    server = Server(hello, request_headers_timeout_s=10.0)
    await server.exchange(b"GET / HT")
    server.time.advance(5)
    await server.exchange(b"TP/1.1\r\n")
    assert server.transport.take() == b""
    server.time.advance(5)
    answer = server.transport.take()
    assert status_of(answer) == 408
    assert server.transport.eof_written
    assert server.stats.downstream_rq_header_timeout == 1
    assert server.info.details == "request_header_timeout"


async def test_slow_head_on_a_kept_connection_gets_408() -> None:
    server = Server(hello, request_headers_timeout_s=10.0)
    await server.exchange(GET)
    server.time.advance(100)
    await server.exchange(b"GET")
    for _ in range(10):
        server.time.advance(1)
        await server.exchange(b" ")
    server.time.advance(1)
    assert server.transport.eof_written


@pytest.mark.parametrize("before", [b"", b"\r\n", b"\r\n\r\n"])  # RFC 9112 2.2: empty lines are no request
async def test_connection_that_was_opened_before_it_is_needed_is_idle(before: bytes) -> None:
    server = Server(hello, request_headers_timeout_s=10.0, idle_timeout_s=60.0)
    server.time.advance(12)
    await server.exchange(before)
    server.time.advance(12)
    assert body_of(await server.exchange(GET)) == b"hello /"


async def test_time_for_the_head_starts_with_its_first_byte() -> None:
    server = Server(hello, request_headers_timeout_s=10.0, idle_timeout_s=60.0)
    server.time.advance(12)
    await server.exchange(b"G")
    server.time.advance(9)
    assert server.transport.take() == b""
    server.time.advance(1)
    assert status_of(server.transport.take()) == 408


@pytest.mark.parametrize("said", [b"", b"\r\n"])
async def test_client_that_never_sends_a_request_is_closed_as_idle(said: bytes) -> None:
    server = Server(hello, request_headers_timeout_s=10.0, idle_timeout_s=60.0)
    server.time.advance(59)
    await server.exchange(said)
    assert not server.transport.closed
    server.time.advance(1)
    assert server.transport.closed
    assert server.transport.written == b""
    assert server.stats.downstream_cx_idle_timeout == 1


async def test_idle_connection_is_closed() -> None:
    server = Server(hello, idle_timeout_s=60.0)
    for _ in range(3):
        server.time.advance(59)
        await server.exchange(GET)
    assert not server.transport.closed
    server.time.advance(60)
    assert server.transport.closed
    assert server.stats.downstream_cx_idle_timeout == 1


SIZED = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\n"


IN_CHUNKS = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("reads", "status"),
    [
        ([SIZED + b"hello"], 504),
        ([SIZED, b"hello"], 504),
        ([SIZED + b"he", b"l", b"lo"], 504),
        ([IN_CHUNKS, b"5\r\nhello\r\n", b"0\r\n\r\n"], 504),
        ([IN_CHUNKS + b"5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n"], 504),
        ([SIZED], 408),
        ([SIZED + b"hel"], 408),
        ([SIZED, b"hel"], 408),
        ([IN_CHUNKS + b"5\r\nhello\r\n"], 408),
        ([IN_CHUNKS + b"5\r\nhello\r\n0\r\n"], 408),
    ],
)
@pytest.mark.parametrize("read_by_the_service", [True, False])
async def test_idle_stream_is_aborted(reads: list[bytes], status: int, read_by_the_service: bool) -> None:
    """The client is blamed if it has not sent all of its request, and the upstream if it has."""
    held = Held()

    async def service(request: Request) -> Response:
        if read_by_the_service:
            request.body = Body(await read_all(request.body))
        return await held(request)

    server = Server(service, stream_idle_timeout_s=30.0)
    for data in reads:
        await server.exchange(data)
    server.time.advance(30)
    await settle()
    assert status_of(server.transport.take()) == status
    assert held.cancelled == len(held.requests)
    assert server.transport.eof_written
    assert (server.info.flags, server.info.details) == ("SI", "stream_idle_timeout")
    assert server.stats.downstream_rq_idle_timeout == 1
    assert server.stats.downstream_rq_active == 0


async def test_stream_that_moves_is_not_idle() -> None:
    body = BodyStream()

    async def service(request: Request) -> Response:
        return Response(200, [], body)

    server = Server(service, stream_idle_timeout_s=30.0)
    await server.exchange(GET)
    for _ in range(5):
        server.time.advance(29)
        body.feed(b"x")
        await settle()
    assert not server.transport.closed
    server.time.advance(30)
    await settle()
    assert server.transport.closed
    assert server.info.flags == "SI"


async def test_idle_limit_of_one_request_is_not_that_of_the_next() -> None:
    async def service(request: Request) -> Response:
        assert request.limit_idle_time is not None
        request.limit_idle_time(1.0)
        return Response(200, [])

    server = Server(service, stream_idle_timeout_s=30.0)
    await server.exchange(GET)
    await server.exchange(b"GET / HT")
    server.time.advance(2)
    assert server.transport.take() == b""
    server.time.advance(28)
    assert status_of(server.transport.take()) == 408


async def test_request_that_takes_too_long_to_arrive_gets_408() -> None:
    service = Held()
    server = Server(service, request_timeout_s=5.0)
    await server.exchange(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\n")
    server.time.advance(4)
    await server.exchange(b"he")
    server.time.advance(1)
    await settle()
    assert status_of(server.transport.take()) == 408
    assert service.cancelled == 1
    assert server.stats.downstream_rq_timeout == 1


async def test_request_timeout_ends_with_the_request() -> None:
    service = Held()
    server = Server(service, request_timeout_s=5.0)
    await server.exchange(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\n")
    await server.exchange(b"hello")
    server.time.advance(10)
    await settle()
    assert service.cancelled == 0
    assert server.transport.take() == b""


async def test_drain_gives_an_idle_connection_time_for_a_request_in_flight() -> None:
    service = Held()
    server = Server(service, drain_timeout_s=5.0)
    server.manager.drain()
    server.time.advance(4)
    assert not server.transport.closed
    await server.exchange(GET)
    service.answers[0].set_result(response(b"late"))
    await settle()
    assert fields_of(server.transport.take())[b"connection"] == b"close"
    assert server.transport.closed


async def test_drain_closes_a_connection_that_stays_idle() -> None:
    server = Server(Held(), drain_timeout_s=5.0)
    server.manager.drain()
    server.time.advance(5)
    assert server.transport.closed
    assert server.stats.downstream_cx_drain_close == 1


async def test_connection_that_is_accepted_while_draining_does_not_stay_for_the_idle_timeout() -> None:
    server = Server(hello, drain_timeout_s=5.0, idle_timeout_s=3600.0)
    server.manager.drain()
    late = FakeTransport(server.manager.protocol(CLIENT))
    server.time.advance(5)
    assert late.closed


async def test_drain_answers_the_active_request_then_closes() -> None:
    service = Held()
    busy = Server(service)
    await busy.exchange(GET + GET)
    busy.manager.drain()
    service.answers[0].set_result(response(b"one"))
    await settle()
    assert b"connection: close" not in busy.transport.take()
    service.answers[1].set_result(response(b"two"))
    await settle()
    assert fields_of(busy.transport.take())[b"connection"] == b"close"
    assert busy.transport.closed
    await asyncio.wait_for(busy.manager.wait_closed(), 5)
    assert busy.stats.downstream_cx_drain_close == 1


async def test_close_cancels_the_active_request() -> None:
    service = Held()
    server = Server(service)
    await server.exchange(GET)
    server.manager.close()
    await settle()
    assert service.cancelled == 1
    await asyncio.wait_for(server.manager.wait_closed(), 5)


class TestLongestDuration:
    GRPC = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc\r\ncontent-length: 2\r\n\r\nhi"

    async def test_a_call_that_lasts_too_long_is_answered_with_its_deadline(self) -> None:
        held = Held()

        async def service(request: Request) -> Response:
            assert request.limit_duration is not None
            request.limit_duration(5.0)
            return await held(request)

        server = Server(service)
        await server.exchange(self.GRPC)
        server.time.advance(4.9)
        assert server.transport.take() == b""
        server.time.advance(0.2)
        answer = server.transport.take()
        assert status_of(answer) == 200
        fields = fields_of(answer)
        assert fields[b"grpc-status"] == b"4"
        assert fields[b"grpc-message"].startswith(b"Gateway Timeout: ")
        assert server.info.details == "max_duration_timeout"
        assert server.info.grpc is not None
        assert server.info.grpc.status == 4
        assert server.stats.downstream_rq_max_duration_reached == 1

    async def test_a_client_that_did_not_send_everything_is_the_slow_side(self) -> None:
        async def service(request: Request) -> Response:
            assert request.limit_duration is not None
            request.limit_duration(5.0)
            await read_all(request.body)
            raise AssertionError("the body does not end")

        server = Server(service)
        await server.exchange(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhi")
        server.time.advance(5.1)
        assert status_of(server.transport.take()) == 408

    async def test_a_response_that_has_begun_is_cut_short(self) -> None:
        body = BodyStream()
        body.feed(b"half")

        async def service(request: Request) -> Response:
            assert request.limit_duration is not None
            request.limit_duration(5.0)
            return Response(200, [], body)

        server = Server(service)
        await server.exchange(GET)
        server.transport.take()
        server.time.advance(5.1)
        assert server.transport.take() == b""
        assert server.transport.eof_written or server.transport.is_closing()

    async def test_the_limit_ends_with_the_exchange(self) -> None:
        async def service(request: Request) -> Response:
            assert request.limit_duration is not None
            request.limit_duration(5.0)
            return await hello(request)

        server = Server(service)
        await server.exchange(GET)
        server.time.advance(6)
        assert status_of(await server.exchange(GET)) == 200
