"""How a server's connection closes, and the bytes that a client must still get."""

from __future__ import annotations

from sidecar.errors import UpstreamResetError
from sidecar.http.body import BodyStream
from sidecar.http.message import Request, Response
from tests.support.bodies import read_all, received
from tests.support.held import let_go
from tests.support.http1 import Server, echo, response, settle
from tests.support.http1_requests import GET, HOST, hello


async def assert_reset_after(seconds: int, server: Server) -> None:
    """Fails if the connection is reset earlier than a second before, or is not reset a second later."""
    for _ in range(seconds - 1):
        server.time.advance(1)
    assert not server.transport.aborted
    server.time.advance(2)
    await settle()
    assert server.transport.was_reset
    assert server.stats.downstream_cx_active == 0


async def answered_without_reading(stream_idle_timeout_s: float) -> Server:
    """A server whose client has not read any byte of the answer."""
    server = Server(hello, stream_idle_timeout_s=stream_idle_timeout_s)
    server.protocol.pause_writing()
    server.transport.unflushed_bytes = len(await server.exchange(GET))
    return server


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
    await assert_reset_after(60, server)


async def test_closing_an_idle_connection_waits_for_a_client_that_reads() -> None:
    server = Server(hello, idle_timeout_s=60)
    await server.exchange(GET)
    server.transport.unflushed_bytes = 5000
    server.time.advance(60)
    assert server.transport.closed
    await assert_reset_after(60, server)


async def test_closing_at_once_resets_a_client_that_would_miss_bytes() -> None:
    server = Server(hello)
    server.protocol.pause_writing()
    await server.exchange(GET)
    server.transport.unflushed_bytes = 5000
    server.manager.close()
    await settle()
    assert server.transport.was_reset


async def test_client_that_has_ended_is_waited_for_only_for_the_idle_timeout() -> None:
    server = await answered_without_reading(stream_idle_timeout_s=60)
    server.protocol.resume_writing()
    await settle()
    server.transport.receive_eof()
    await assert_reset_after(60, server)


async def test_client_that_stops_reading_its_answer_is_reset() -> None:
    server = await answered_without_reading(stream_idle_timeout_s=10)
    server.time.advance(10)
    await settle()
    assert server.stats.downstream_rq_active == 0
    assert server.transport.was_reset
    assert server.stats.downstream_cx_active == 0


async def test_client_that_reads_its_answer_slowly_is_not_reset() -> None:
    server = await answered_without_reading(stream_idle_timeout_s=10)
    for _ in range(3):
        server.transport.unflushed_bytes -= 1
        server.time.advance(10)
    await settle()
    assert not server.transport.aborted
    server.time.advance(10)
    await settle()
    assert server.transport.was_reset


async def test_answer_to_http10_that_breaks_off_ends_in_a_reset() -> None:
    """A regular end of the connection would be the end of the response."""
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


async def test_idle_connection_holds_no_received_data() -> None:
    server = Server(echo)
    data = b"x" * 200_000
    await server.exchange(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 200000\r\n\r\n")
    with let_go(data):
        assert (await server.exchange(data)).endswith(data)
        server.ended.clear()


async def test_idle_connection_holds_no_callback_of_a_past_request() -> None:
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
