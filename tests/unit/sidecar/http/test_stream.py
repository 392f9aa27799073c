"""Exchanges that were given up, and whose service or body does not obey its cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from sidecar.errors import NoHealthyUpstreamError, RequestError
from sidecar.http.body import BodyStream, ReaderBody
from sidecar.http.message import Request, Response
from tests.support.http1 import Server, response, settle

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
UPLOAD = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"


@pytest.fixture
async def faults() -> AsyncIterator[list[dict[str, Any]]]:
    """What the loop would log: exceptions that nobody has handled."""
    unhandled: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: unhandled.append(context))
    yield unhandled
    assert unhandled == []


class Stubborn:
    """A service that ends its cancellation with a response, or with another error."""

    def __init__(self, late: Response | Exception) -> None:
        self.late = late
        self.cancelled = 0

    async def __call__(self, request: Request) -> Response:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancelled += 1
        if isinstance(self.late, Exception):
            raise self.late
        return self.late


class Source:
    """The producer of a body that does not end."""

    def __init__(self) -> None:
        self.abandoned = False

    def pause_body(self) -> None: ...

    def resume_body(self) -> None: ...

    def abandon_body(self) -> None:
        self.abandoned = True


LATE: dict[str, Callable[[Source], Response | Exception]] = {
    "whole": lambda source: response(b"late"),
    "chunked": lambda source: Response(200, [], BodyStream(source)),
    "sized": lambda source: Response(200, [(b"content-length", b"5")], BodyStream(source)),
    "error": lambda source: NoHealthyUpstreamError("late"),
    "fault": lambda source: ZeroDivisionError(),
}
STREAMED = ("chunked", "sized")


@pytest.mark.usefixtures("faults")
@pytest.mark.parametrize("linger_s", [1.0, 0.0])
@pytest.mark.parametrize("kind", LATE)
async def test_client_is_told_once_of_a_request_that_was_given_up(kind: str, linger_s: float) -> None:
    source = Source()
    service = Stubborn(LATE[kind](source))
    server = Server(service, request_timeout_s=5.0, delayed_close_timeout_s=linger_s)
    await server.exchange(UPLOAD)
    server.transport.unflushed_bytes = 1  # the client has not taken the response yet
    server.time.advance(5)
    await settle()
    assert service.cancelled == 1
    assert server.transport.written.count(b"HTTP/1.1 ") == 1
    assert server.transport.written.startswith(b"HTTP/1.1 408 ")
    server.transport.abort()
    await settle()
    assert (server.stats.downstream_rq_timeout, server.stats.downstream_rq_4xx) == (1, 1)
    assert (server.info.status, server.info.flags) == (408, "DT")
    assert (server.stats.downstream_rq_active, server.manager.active_connections) == (0, 0)
    assert source.abandoned == (kind in STREAMED)


@pytest.mark.usefixtures("faults")
@pytest.mark.parametrize("kind", LATE)
async def test_client_that_leaves_is_counted_once(kind: str) -> None:
    source = Source()
    service = Stubborn(LATE[kind](source))
    server = Server(service)
    await server.exchange(GET)
    server.transport.lose(ConnectionResetError())
    await settle()
    assert service.cancelled == 1
    assert (server.stats.downstream_rq_rx_reset, server.stats.downstream_rq_completed) == (1, 0)
    assert [answer for _, answer in server.ended] == [None]
    assert server.info.flags == "DC"
    assert source.abandoned == (kind in STREAMED)


async def test_fault_of_a_filter_that_was_cancelled_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(Stubborn(ZeroDivisionError()))
    await server.exchange(GET)
    server.transport.lose(None)
    await settle()
    assert "ZeroDivisionError" in caplog.text


class StubbornReader:
    """A reader whose cancelled `read` returns bytes, and then its end, or raises an error."""

    def __init__(self, error: RequestError | None) -> None:
        self.ended = False
        self.error = error
        self.reads = 0
        self.closed = False

    async def read(self) -> bytes:
        self.reads += 1
        if self.reads == 1:
            return b"first"
        if self.reads == 2:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                if self.error is not None:
                    raise self.error from None
                return b"late"
        return b""

    def close(self) -> None:
        self.closed = True


@pytest.mark.usefixtures("faults")
@pytest.mark.parametrize("error", [None, NoHealthyUpstreamError("late")])
@pytest.mark.parametrize("by_client", [True, False])
@pytest.mark.parametrize("headers", [[], [(b"content-length", b"9")]])
async def test_body_that_goes_on_after_the_end_is_dropped(
    headers: list[tuple[bytes, bytes]], by_client: bool, error: RequestError | None
) -> None:
    reader = StubbornReader(error)

    async def service(request: Request) -> Response:
        return Response(200, list(headers), ReaderBody(reader))

    server = Server(service, stream_idle_timeout_s=30.0)
    assert b"first" in await server.exchange(GET)
    if by_client:
        server.transport.lose(ConnectionResetError())
    else:
        server.time.advance(30)
    await settle()
    assert (reader.reads, reader.closed) == (2, True)
    assert server.transport.take() == b""
    assert server.info.flags == ("DC" if by_client else "SI")
    assert len(server.ended) == 1
