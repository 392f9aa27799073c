from __future__ import annotations

import asyncio

import pytest

from sidecar.errors import (
    UpstreamResetError,
)
from sidecar.http.body import Body, BodyStream
from sidecar.http.h1.request_queue import MAX_WAITING_REQUESTS
from sidecar.http.message import Request, Response
from tests.support.http1 import Server, echo, response, settle
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


async def test_answer_is_one_write_with_its_length() -> None:
    server = Server(hello)
    answer = await server.exchange(GET)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert fields_of(answer)[b"content-length"] == b"7"
    assert fields_of(answer)[b"server"] == b"envoy"
    assert body_of(answer) == b"hello /"
    assert server.transport.writes == 1
    assert not server.transport.closed


async def test_connection_is_kept_alive() -> None:
    server = Server(hello)
    assert body_of(await server.exchange(GET)) == b"hello /"
    assert body_of(await server.exchange(GET.replace(b"GET /", b"GET /2"))) == b"hello /2"
    assert server.stats.downstream_rq_2xx == 2
    assert server.stats.downstream_rq_active == 0


async def test_pipelined_requests_are_answered_in_order_one_after_the_other() -> None:
    service = Held()
    server = Server(service)
    await server.exchange(GET + GET.replace(b"GET /", b"GET /2"))
    assert [request.path for request in service.requests] == [b"/"]
    service.answers[0].set_result(response(b"one"))
    await settle()
    assert body_of(server.transport.take()) == b"one"
    service.answers[1].set_result(response(b"two"))
    await settle()
    assert body_of(server.transport.take()) == b"two"


async def test_flood_of_pipelined_requests_waits_unread() -> None:
    service = Held()
    server = Server(service)
    server.protocol.data_received(GET * 5000)
    await settle()
    assert not server.transport.reading
    for number in range(5000):
        service.answers[number].set_result(response(b""))
        while len(service.answers) == number + 1 and number < 4999:
            await asyncio.sleep(0)
    await settle()
    assert server.transport.reading
    assert server.transport.take().count(b"HTTP/1.1 200") == 5000


async def test_reading_goes_on_when_few_wait() -> None:
    service = Held()
    server = Server(service)
    for _ in range(MAX_WAITING_REQUESTS + 2):
        server.protocol.data_received(GET)
    await settle()
    assert not server.transport.reading
    service.answers[0].set_result(response())
    await settle()
    assert server.transport.reading


async def test_error_after_a_request_is_answered_after_its_response() -> None:
    service = Held()
    server = Server(service)
    await server.exchange(GET + b"rubbish\r\n\r\n")
    assert server.transport.take() == b""
    service.answers[0].set_result(response(b"one"))
    await settle()
    answer = server.transport.take()
    assert answer.count(b"HTTP/1.1 ") == 2
    assert b"HTTP/1.1 400 Bad Request\r\n" in answer
    assert server.transport.eof_written


async def test_malformed_request_gets_400_and_a_closed_connection() -> None:
    server = Server(hello)
    answer = await server.exchange(b"GET / HTTP/1.1\r\n\r\n")
    assert status_of(answer) == 400
    assert body_of(answer) == b"Bad Request: missing Host"
    assert fields_of(answer)[b"connection"] == b"close"
    assert server.transport.eof_written
    server.time.advance(LINGER_S)
    assert server.transport.closed
    assert server.stats.downstream_cx_protocol_error == 1
    assert server.stats.downstream_rq_4xx == 1
    assert (server.info.status, server.info.flags, server.info.details) == (400, "DPE", "codec_error")


async def test_log_names_the_client_that_caused_an_error(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        await Server(hello).exchange(b"GET / HTTP/1.1\r\n\r\n")
    assert caplog.messages == ["client 10.0.0.9:40000 caused an error: missing Host"]


async def test_too_large_head_gets_431() -> None:
    server = Server(hello, max_request_headers_bytes=1000)
    await server.exchange(b"GET / HTTP/1.1\r\nX: ")
    answer = await server.exchange(b"a" * 2000)
    assert status_of(answer) == 431
    assert server.transport.eof_written
    assert server.stats.downstream_rq_too_large == 1


async def test_bytes_after_a_refusal_are_dropped() -> None:
    server = Server(hello)
    await server.exchange(b"rubbish\r\n\r\n")
    assert await server.exchange(GET) == b""


async def test_connection_close_is_honoured() -> None:
    server = Server(hello)
    answer = await server.exchange(GET.replace(HOST, HOST + b"Connection: close\r\n"))
    assert fields_of(answer)[b"connection"] == b"close"
    assert server.transport.closed


async def test_http10_client_gets_connection_and_length() -> None:
    server = Server(hello)
    answer = await server.exchange(b"GET / HTTP/1.0\r\n" + HOST + b"Connection: keep-alive\r\n\r\n")
    assert fields_of(answer)[b"connection"] == b"keep-alive"
    assert server.info.protocol == "HTTP/1.0"
    answer = await server.exchange(b"GET / HTTP/1.0\r\n" + HOST + b"\r\n")
    assert fields_of(answer)[b"connection"] == b"close"
    assert server.transport.closed


async def test_streamed_answer_to_http10_ends_with_the_connection() -> None:
    body = BodyStream()
    body.feed(b"hello")
    body.feed_end()

    async def streaming(request: Request) -> Response:
        return Response(200, [], body)

    server = Server(streaming)
    answer = await server.exchange(b"GET / HTTP/1.0\r\n" + HOST + b"Connection: keep-alive\r\n\r\n")
    assert b"transfer-encoding" not in fields_of(answer)
    assert body_of(answer) == b"hello"
    assert server.transport.closed


@pytest.mark.parametrize("headers", [[], [(b"content-length", b"7")]])
async def test_head_has_no_body(headers: list[tuple[bytes, bytes]]) -> None:
    async def service(request: Request) -> Response:
        return Response(200, headers, Body(b"hello /"))

    server = Server(service)
    assert body_of(await server.exchange(GET.replace(b"GET", b"HEAD"))) == b""
    assert body_of(await server.exchange(GET)) == b"hello /"


async def test_head_of_a_body_with_an_unknown_length() -> None:
    async def service(request: Request) -> Response:
        return Response(200, [], Body(b""))

    answer = await Server(service).exchange(GET.replace(b"GET", b"HEAD"))
    assert b"\r\ntransfer-encoding: chunked\r\n" in answer
    assert body_of(answer) == b""


@pytest.mark.parametrize("status", [204, 304])
async def test_statuses_without_a_body(status: int) -> None:
    async def service(request: Request) -> Response:
        return Response(status, [], Body(b""))

    answer = await Server(service).exchange(GET)
    assert b"content-length" not in fields_of(answer)
    assert answer.endswith(b"\r\n\r\n")


async def test_length_is_that_of_the_body() -> None:
    async def service(request: Request) -> Response:
        return Response(200, [(b"content-length", b"2")], Body(b"longer"))

    answer = await Server(service).exchange(GET)
    assert fields_of(answer)[b"content-length"] == b"6"


async def test_expect_100_continue_is_met_at_once() -> None:
    server = Server(echo)
    head = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    assert await server.exchange(head) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert body_of(await server.exchange(b"hello")) == b"hello"
    assert server.ended[0][0].headers[0] == (b"content-length", b"5")
    assert all(name != b"expect" for name, _ in server.ended[0][0].headers)


async def test_expect_100_continue_is_passed_on_if_the_upstream_meets_it() -> None:
    async def service(request: Request) -> Response:
        assert (b"expect", b"100-continue") in request.headers
        assert request.inform is not None
        request.inform(100, [])
        return Response(200, [], Body(await request.body.read()))

    server = Server(service, proxy_100_continue=True)
    head = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    assert await server.exchange(head) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert body_of(await server.exchange(b"hello")) == b"hello"


async def test_no_100_continue_for_a_body_that_is_here() -> None:
    server = Server(echo)
    head = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\nhello"
    assert (await server.exchange(head)).startswith(b"HTTP/1.1 200")


async def test_interim_responses_go_before_the_head() -> None:
    async def service(request: Request) -> Response:
        assert request.inform is not None
        request.inform(103, [(b"link", b"a")])
        return response()

    answer = await Server(service).exchange(GET)
    assert answer.startswith(b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 200 OK\r\n")


async def test_chunked_answer_with_trailers() -> None:
    body = BodyStream()

    async def service(request: Request) -> Response:
        return Response(200, [], body)

    server = Server(service)
    answer = await server.exchange(GET)
    assert fields_of(answer)[b"transfer-encoding"] == b"chunked"
    body.feed(b"hello")
    await settle()
    assert server.transport.take() == b"5\r\nhello\r\n"
    body.feed_end([(b"grpc-status", b"0")])
    await settle()
    assert server.transport.take() == b"0\r\ngrpc-status: 0\r\n\r\n"
    assert server.info.bytes_sent == 5
    assert not server.transport.closed


@pytest.mark.parametrize("sent", [b"hell", b"hello!"])
async def test_streamed_answer_with_a_wrong_length_closes(sent: bytes) -> None:
    body = BodyStream()
    body.feed(sent)
    body.feed_end()

    async def service(request: Request) -> Response:
        return Response(200, [(b"content-length", b"5")], body)

    server = Server(service)
    await server.exchange(GET)
    assert server.transport.closed
    assert server.info.flags == "UPE"


async def test_body_that_breaks_off_closes_without_the_last_chunk() -> None:
    body = BodyStream()

    async def service(request: Request) -> Response:
        return Response(200, [], body)

    server = Server(service)
    await server.exchange(GET)
    body.feed(b"hello")
    await settle()
    body.fail(UpstreamResetError("gone"))
    await settle()
    assert b"0\r\n\r\n" not in server.transport.take()
    assert server.transport.closed
    assert (server.info.flags, server.info.status) == ("UC", 200)
