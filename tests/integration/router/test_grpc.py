"""Calls of gRPC through the router, over real sockets against a flaky upstream."""

from __future__ import annotations

import time

import pytest

from sidecar.config.cluster import OutlierDetection
from sidecar.http.message import Request
from tests.support.clusters import static_cluster
from tests.support.flaky_upstream import Exchange, FlakyUpstream
from tests.support.requests import make_request
from tests.support.routed_proxy import Start, fail, hang_up, retries
from tests.support.routes import to

GRPC = (b"content-type", b"application/grpc")
MESSAGE = b"\0\0\0\0\2hi"


def call() -> Request:
    request = make_request(method=b"POST", headers=[GRPC], body=MESSAGE)
    request.begin_grpc_call()
    return request


def answer(exchange: Exchange, status: int, content: bytes = MESSAGE) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n%b\r\n" % (len(content), content) if content else b""
    exchange.writer.write(b"%b%b0\r\ngrpc-status: %d\r\n\r\n" % (head, chunk, status))


def refuse(exchange: Exchange, *headers: tuple[bytes, bytes]) -> None:
    exchange.answer(200, b"", GRPC, (b"grpc-status", b"14"), *headers)


async def test_messages_are_counted_once_in_spite_of_retries(start: Start, upstream: FlakyUpstream) -> None:
    async def refuse_once(exchange: Exchange) -> None:
        if len(upstream.exchanges) == 1:
            refuse(exchange)
        else:
            answer(exchange, 0, MESSAGE * 3)

    upstream.behave = refuse_once
    proxy = await start(static_cluster(upstream.endpoint))
    proxy.use(to("up", retry_policy=retries("unavailable")))
    request = call()
    assert await proxy.ask(request) == (200, MESSAGE * 3)
    assert request.info.attempts == 2
    assert request.info.grpc is not None
    assert request.info.grpc.request_messages.count == 1
    assert request.info.grpc.response_messages.count == 3


async def test_an_answer_that_is_not_grpc_has_no_messages(start: Start, upstream: FlakyUpstream) -> None:
    upstream.behave = fail
    proxy = await start(static_cluster(upstream.endpoint))
    proxy.use(to("up"))
    request = call()
    assert await proxy.ask(request) == (503, b"broken")
    assert request.info.grpc is not None
    assert request.info.grpc.response_messages.count == 0


async def test_a_status_after_the_first_message_is_not_retried(start: Start, upstream: FlakyUpstream) -> None:
    async def break_off(exchange: Exchange) -> None:
        answer(exchange, 14)

    upstream.behave = break_off
    proxy = await start(static_cluster(upstream.endpoint))
    proxy.use(to("up", retry_policy=retries("unavailable")))
    assert await proxy.ask(call()) == (200, MESSAGE)
    assert len(upstream.exchanges) == 1


@pytest.mark.parametrize(("pushback", "attempts"), [(b"0", 2), (b"-1", 1), (b"later", 1)])
async def test_a_server_can_forbid_retries(
    start: Start, upstream: FlakyUpstream, pushback: bytes, attempts: int
) -> None:
    async def push_back(exchange: Exchange) -> None:
        refuse(exchange, (b"grpc-retry-pushback-ms", pushback))

    upstream.behave = push_back
    proxy = await start(static_cluster(upstream.endpoint))
    proxy.use(to("up", retry_policy=retries("unavailable", num_retries=1)))
    await proxy.ask(call())
    assert len(upstream.exchanges) == attempts


async def test_a_retry_waits_as_long_as_the_server_demands(start: Start, upstream: FlakyUpstream) -> None:
    async def push_back(exchange: Exchange) -> None:
        refuse(exchange, (b"grpc-retry-pushback-ms", b"60000"))

    upstream.behave = push_back
    proxy = await start(static_cluster(upstream.endpoint))
    proxy.use(to("up", retry_policy=retries("unavailable", num_retries=1), timeout_s=0.2))
    request = call()
    response = await proxy.send(request)
    assert dict(response.headers)[b"grpc-status"] == b"14"
    assert request.info.flags == "UT", "the timeout of the route ends the wait"
    assert len(upstream.exchanges) == 1


@pytest.mark.parametrize("in_trailers", [True, False])
async def test_a_host_whose_calls_fail_is_ejected(
    start: Start, upstream: FlakyUpstream, other: FlakyUpstream, in_trailers: bool
) -> None:
    async def break_off(exchange: Exchange) -> None:
        if in_trailers:
            answer(exchange, 14)
        else:
            refuse(exchange)

    async def succeed(exchange: Exchange) -> None:
        answer(exchange, 0)

    upstream.behave, other.behave = break_off, succeed
    detection = OutlierDetection(consecutive_5xx=3, max_ejection_percent=50)
    proxy = await start(static_cluster(upstream.endpoint, other.endpoint, outlier_detection=detection))
    proxy.use(to("up"))
    for _ in range(20):
        await proxy.ask(call())
    assert len(upstream.exchanges) == 3
    assert len(other.exchanges) == 17


@pytest.mark.parametrize(("deadline", "status"), [(b"1n", b"4"), (b"1H", b"14")])
async def test_a_server_that_resets_a_call_at_its_deadline_was_not_unavailable(
    start: Start, upstream: FlakyUpstream, deadline: bytes, status: bytes
) -> None:
    upstream.behave = hang_up
    proxy = await start(static_cluster(upstream.endpoint))
    proxy.use(to("up"))
    request = call()
    request.headers.append((b"grpc-timeout", deadline))
    request.info.start_s = time.monotonic() - 1.0
    assert dict((await proxy.send(request)).headers)[b"grpc-status"] == status
