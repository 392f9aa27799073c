from __future__ import annotations

import asyncio

import pytest

from sidecar.errors import (
    DownstreamProtocolError,
    HeadersTooLargeError,
    NoHealthyUpstreamError,
    RequestError,
    StreamIdleTimeoutError,
    UpstreamResetError,
)
from sidecar.http.body import Body, BodyStream
from sidecar.http.h1.request_queue import MAX_WAITING_REQUESTS
from sidecar.http.message import Request, Response, Service
from tests.support.bodies import read_all, received
from tests.support.held import let_go
from tests.support.http1 import CLIENT, FakeTransport, Server, echo, response, settle

HOST = b"Host: a\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
LINGER_S = 1.0  # what a connection manager does by default


async def hello(request: Request) -> Response:
    return response(b"hello " + request.path)


class Held:
    """A service that answers when it is told to, and notes whether it was cancelled."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answers: list[asyncio.Future[Response]] = []
        self.cancelled = 0

    async def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self.answers.append(answer)
        try:
            return await answer
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


def status_of(data: bytes) -> int:
    return int(data.split(b" ", 2)[1])


def fields_of(data: bytes) -> dict[bytes, bytes]:
    head = data.partition(b"\r\n\r\n")[0]
    return dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])


def body_of(data: bytes) -> bytes:
    return data.partition(b"\r\n\r\n")[2]


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


async def test_fault_after_a_request_is_told_after_its_answer() -> None:
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


async def test_http10_client_is_told_what_it_needs() -> None:
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


async def test_head_of_a_body_whose_length_nobody_knows() -> None:
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


async def test_length_is_the_bodys_whatever_a_filter_left() -> None:
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
async def test_streamed_answer_of_another_length_than_said_closes(sent: bytes) -> None:
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


async def test_body_that_nobody_read_does_not_keep_the_connection_from_the_next_request() -> None:
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


async def test_client_that_leaves_in_the_middle_of_the_answer_lets_the_body_go() -> None:
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
async def test_client_that_is_at_fault_has_the_configured_time_to_read_the_reply(seconds: float) -> None:
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
async def test_clients_fault_and_no_flag_ends_its_connection(
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


async def test_fault_of_ours_is_500_and_a_traceback_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def service(request: Request) -> Response:
        raise ZeroDivisionError

    server = Server(service)
    assert status_of(await server.exchange(GET)) == 500
    assert "ZeroDivisionError" in caplog.text
    assert status_of(await server.exchange(GET)) == 500


# Timeouts.


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
async def test_stream_where_nothing_moves_is_given_up(
    reads: list[bytes], status: int, read_by_the_service: bool
) -> None:
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


# Draining.


async def test_drain_gives_an_idle_connection_time_for_a_request_that_is_on_its_way() -> None:
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


async def test_drain_answers_what_is_under_way_then_closes() -> None:
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


async def test_close_cancels_what_is_under_way() -> None:
    service = Held()
    server = Server(service)
    await server.exchange(GET)
    server.manager.close()
    await settle()
    assert service.cancelled == 1
    await asyncio.wait_for(server.manager.wait_closed(), 5)


# Tunnels.

UPGRADE = b"GET /ws HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def tunnel(body: Body, requests: list[Request], status: int = 101) -> Service:
    async def service(request: Request) -> Response:
        requests.append(request)
        answer = Response(status, [(b"sec-websocket-accept", b"x")], body)
        answer.upgraded = True
        return answer

    return service


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


async def test_tunnel_that_the_upstream_resets_ends_for_whoever_reads_the_clients_bytes() -> None:
    body, requests = BodyStream(), list[Request]()
    server = Server(tunnel(body, requests), upgrades=frozenset({"websocket"}))
    await server.exchange(UPGRADE)
    body.fail(UpstreamResetError("gone"))
    await settle()
    assert server.transport.was_reset
    up = requests[0].body
    assert not isinstance(up, bytes)
    assert await asyncio.wait_for(up.read(), 5) == b""


async def test_idle_tunnel_is_cut() -> None:
    body, requests = BodyStream(), list[Request]()
    server = Server(tunnel(body, requests), stream_idle_timeout_s=30.0)
    await server.exchange(UPGRADE)
    server.time.advance(30)
    await settle()
    assert server.transport.was_reset
    assert server.stats.downstream_rq_active == 0


async def test_an_answer_that_closes_waits_for_a_client_that_pauses() -> None:
    server = Server(hello, stream_idle_timeout_s=60)
    server.protocol.pause_writing()
    await server.exchange(GET.replace(HOST, HOST + b"Connection: close\r\n"))
    server.transport.unflushed_bytes = 5000
    server.protocol.resume_writing()
    await settle()
    assert server.transport.closed, "nothing more is read or written"
    for _ in range(13):
        server.time.advance(1)
    assert not server.transport.aborted
    server.transport.unflushed_bytes = 3000
    for _ in range(59):
        server.time.advance(1)
    assert not server.transport.aborted, "it has taken some meanwhile"
    server.time.advance(2)
    await settle()
    assert server.transport.was_reset
    assert server.stats.downstream_cx_active == 0


async def test_closing_an_idle_connection_waits_for_a_client_that_reads() -> None:
    server = Server(hello, idle_timeout_s=60)
    await server.exchange(GET)
    server.transport.unflushed_bytes = 5000
    server.time.advance(60)
    assert server.transport.closed
    for _ in range(59):
        server.time.advance(1)
    assert not server.transport.aborted
    server.time.advance(2)
    await settle()
    assert server.transport.was_reset
    assert server.stats.downstream_cx_active == 0


async def test_closing_at_once_resets_a_client_that_would_miss_bytes() -> None:
    server = Server(hello)
    server.protocol.pause_writing()
    await server.exchange(GET)
    server.transport.unflushed_bytes = 5000
    server.manager.close()
    await settle()
    assert server.transport.was_reset


async def test_client_that_has_ended_is_not_waited_for_for_ever() -> None:
    server = Server(hello, stream_idle_timeout_s=60)
    server.protocol.pause_writing()
    await server.exchange(GET)
    server.transport.unflushed_bytes = 5000
    server.protocol.resume_writing()
    await settle()
    server.transport.receive_eof()
    for _ in range(59):
        server.time.advance(1)
    assert not server.transport.aborted
    server.time.advance(2)
    await settle()
    assert server.transport.was_reset
    assert server.stats.downstream_cx_active == 0


async def test_client_that_stops_reading_its_answer_is_reset() -> None:
    server = Server(hello, stream_idle_timeout_s=10)
    server.protocol.pause_writing()
    server.transport.unflushed_bytes = len(await server.exchange(GET))
    server.time.advance(10)
    await settle()
    assert server.stats.downstream_rq_active == 0
    assert server.transport.was_reset
    assert server.stats.downstream_cx_active == 0


async def test_client_that_reads_its_answer_slowly_is_not_given_up() -> None:
    server = Server(hello, stream_idle_timeout_s=10)
    server.protocol.pause_writing()
    server.transport.unflushed_bytes = len(await server.exchange(GET))
    for _ in range(3):
        server.transport.unflushed_bytes -= 1
        server.time.advance(10)
    await settle()
    assert not server.transport.aborted
    server.time.advance(10)
    await settle()
    assert server.transport.was_reset


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


async def test_tail_of_a_tunnel_that_nobody_takes_ends_in_a_reset() -> None:
    body, requests = BodyStream(), list[Request]()
    server = Server(tunnel(body, requests), stream_idle_timeout_s=60)
    await server.exchange(UPGRADE)
    server.transport.unflushed_bytes = 5000
    body.feed_end()
    await settle()
    for _ in range(62):
        server.time.advance(1)
    assert server.transport.was_reset


async def test_answer_to_http10_that_breaks_off_ends_in_a_reset() -> None:
    """Its end would be the connection's."""
    body = BodyStream()

    async def service(request: Request) -> Response:
        return Response(200, [], body)

    server = Server(service)
    await server.exchange(b"GET / HTTP/1.0\r\n" + HOST + b"\r\n")
    body.feed(b"hello")
    await settle()
    body.fail(UpstreamResetError("gone"))
    await settle()
    assert server.transport.was_reset


async def test_close_ends_a_response_that_has_no_end_yet() -> None:
    body = BodyStream()

    async def endless(request: Request) -> Response:
        return Response(200, [], body)

    server = Server(endless)
    await server.exchange(GET)
    body.feed(b"some")
    server.transport.unflushed_bytes = 5000
    server.manager.close()
    await settle()
    assert server.stats.downstream_cx_active == server.stats.downstream_rq_active == 0
    body.feed(b"more")
    assert received(body) == b"", "it is closed"


async def test_idle_connection_holds_nothing_that_it_has_read() -> None:
    server = Server(echo)
    data = b"x" * 200_000
    await server.exchange(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 200000\r\n\r\n")
    with let_go(data):
        assert (await server.exchange(data)).endswith(data)
        server.ended.clear()


async def test_idle_connection_holds_nobody_who_waited_for_the_end_of_a_request() -> None:
    class Exchange:
        def __init__(self, request: Request, record: object) -> None:
            self.record = record
            request.when_complete(self.note_end)

        def note_end(self) -> None: ...

    record = object()

    async def service(request: Request) -> Response:
        Exchange(request, record)
        return response(await read_all(request.body))

    server = Server(service)
    with let_go(record):
        await server.exchange(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\n")
        assert (await server.exchange(b"hello")).endswith(b"hello")
        server.ended.clear()
