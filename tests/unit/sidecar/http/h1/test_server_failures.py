"""Slow clients, clients that disconnect, and failures of the stack."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.errors import (
    DownstreamProtocolError,
    HeadersTooLargeError,
    NoHealthyUpstreamError,
    RequestError,
)
from sidecar.http.body import BodyStream
from sidecar.http.message import Request, Response
from tests.support.bodies import read_all
from tests.support.http1 import Server, response, settle
from tests.support.http1_requests import (
    GET,
    HOST,
    LINGER_S,
    Held,
    body_of,
    fields_of,
    hello,
    status_of,
)


async def test_slow_client_slows_the_body_down() -> None:
    body = BodyStream()

    async def service(request: Request) -> Response:
        return Response(200, [], body)

    server = Server(service)
    await server.exchange(GET)
    server.protocol.pause_writing()
    body.feed(b"one")
    await settle()
    body.feed(b"two")
    await settle()
    assert server.transport.take() == b"3\r\none\r\n"
    server.protocol.resume_writing()
    await settle()
    assert server.transport.take() == b"3\r\ntwo\r\n"


async def test_slow_client_gets_no_second_answer_before_it_read_the_first() -> None:
    server = Server(hello)
    server.protocol.data_received(GET)
    server.protocol.pause_writing()
    server.protocol.data_received(GET)
    await settle()
    assert server.transport.take().count(b"HTTP/1.1 200") == 1
    server.protocol.resume_writing()
    await settle()
    assert server.transport.take().count(b"HTTP/1.1 200") == 1


async def test_slow_service_slows_the_upload_down() -> None:
    service = Held()
    server = Server(service)
    await server.exchange(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1000000\r\n\r\n")
    server.protocol.data_received(b"x" * 300_000)
    assert not server.transport.reading
    body = service.requests[0].body
    assert not isinstance(body, bytes)
    assert await body.read() == b"x" * 300_000
    assert server.transport.reading


async def test_client_that_leaves_cancels_its_request() -> None:
    service = Held()
    server = Server(service)
    await server.exchange(GET)
    server.transport.receive_eof()
    await settle()
    assert service.cancelled == 1
    assert server.ended[0][1] is None
    assert (server.info.flags, server.info.details) == ("DC", "downstream_remote_disconnect")
    assert server.stats.downstream_rq_rx_reset == 1
    assert server.stats.downstream_rq_active == 0
    assert server.manager.active_connections == 0


async def test_unread_body_does_not_block_the_next_request() -> None:
    service = Held()
    server = Server(service)
    await server.exchange(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 400000\r\n\r\n")
    await server.exchange(b"x" * 300_000)
    assert not server.transport.reading
    await server.exchange(b"x" * 100_000)
    service.answers[0].set_result(response(b"no thanks"))
    await settle()
    assert server.transport.reading
    await server.exchange(GET)
    assert len(service.requests) == 2


async def test_client_that_disconnects_during_the_response_closes_the_body() -> None:
    abandoned = []

    class Source:
        def pause_body(self) -> None: ...

        def resume_body(self) -> None: ...

        def abandon_body(self) -> None:
            abandoned.append(True)

    async def service(request: Request) -> Response:
        return Response(200, [], BodyStream(Source()))

    server = Server(service)
    await server.exchange(GET)
    server.transport.lose(ConnectionResetError())
    await settle()
    assert abandoned == [True]
    assert (server.info.flags, server.info.status) == ("DC", 200)


async def test_client_that_leaves_before_its_request_was_begun() -> None:
    service = Held()
    server = Server(service)
    server.protocol.data_received(GET)
    server.protocol.connection_lost(None)
    await settle()
    assert service.requests == []
    assert server.stats.downstream_rq_active == 0
    assert server.manager.active_connections == 0


async def test_client_that_leaves_in_the_middle_of_its_upload() -> None:
    started = asyncio.Event()

    async def service(request: Request) -> Response:
        started.set()
        return response(await read_all(request.body))

    server = Server(service)
    await server.exchange(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 10\r\n\r\nhello")
    assert started.is_set()
    server.transport.lose(None)
    await settle()
    assert server.ended[0][1] is None
    assert server.info.flags == "DC"


async def test_answer_before_the_end_of_the_upload_closes_gently() -> None:
    server = Server(hello)
    answer = await server.exchange(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 100\r\n\r\nhello")
    assert fields_of(answer)[b"connection"] == b"close"
    assert server.transport.eof_written
    assert not server.transport.closed
    await server.exchange(b"x" * 95)
    server.time.advance(LINGER_S)
    assert server.transport.closed


async def test_error_of_the_stack_is_a_local_reply() -> None:
    async def service(request: Request) -> Response:
        raise NoHealthyUpstreamError("no host of cluster x is healthy")

    server = Server(service)
    answer = await server.exchange(GET)
    assert (status_of(answer), body_of(answer)) == (503, b"no healthy upstream")
    assert server.info.flags == "UH"
    assert not server.transport.closed


@pytest.mark.parametrize("seconds", [0.25, 5.0])
async def test_client_of_an_invalid_request_has_the_configured_time_to_read_the_reply(seconds: float) -> None:
    server = Server(hello, delayed_close_timeout_s=seconds)
    assert status_of(await server.exchange(b"nonsense\r\n\r\n")) == 400
    server.time.advance(seconds - 0.125)
    await settle()
    assert not server.transport.closed
    server.time.advance(0.125)
    await settle()
    assert server.transport.closed


async def test_without_such_a_time_the_connection_closes_with_the_reply() -> None:
    server = Server(hello, delayed_close_timeout_s=0.0)
    assert status_of(await server.exchange(b"nonsense\r\n\r\n")) == 400
    assert server.transport.closed


async def test_without_such_a_time_a_slow_client_is_waited_for_as_long_as_it_may_be_idle() -> None:
    server = Server(hello, delayed_close_timeout_s=0.0, idle_timeout_s=60.0)
    server.transport.unflushed_bytes = 100
    await server.exchange(b"nonsense\r\n\r\n")
    server.time.advance(59.0)
    assert not server.transport.aborted
    server.time.advance(1.0)
    assert server.transport.aborted


@pytest.mark.parametrize(
    ("error", "closed"),
    [(DownstreamProtocolError, True), (HeadersTooLargeError, True), (NoHealthyUpstreamError, False)],
)
@pytest.mark.parametrize("flag", ["", "DPE", "XY"])
async def test_clients_error_and_no_flag_ends_its_connection(
    error: type[RequestError], closed: bool, flag: str
) -> None:
    async def service(request: Request) -> Response:
        if flag:
            request.info.add_flag(flag)
        raise error("so it is")

    server = Server(service)
    answer = await server.exchange(GET)
    assert server.transport.closed == closed
    assert (fields_of(answer).get(b"connection") == b"close") == closed


async def test_defect_is_500_and_a_traceback_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def service(request: Request) -> Response:
        raise ZeroDivisionError

    server = Server(service)
    assert status_of(await server.exchange(GET)) == 500
    assert "ZeroDivisionError" in caplog.text
    assert status_of(await server.exchange(GET)) == 500
