from __future__ import annotations

import asyncio

import pytest

from sidecar.config.endpoint import SocketAddress
from sidecar.errors import (
    DownstreamProtocolError,
    DownstreamTimeoutError,
    ExpectationFailedError,
    HeadersTooLargeError,
    NoClusterError,
    NoRouteError,
    RequestError,
    RequestHeaderTimeoutError,
    StreamIdleTimeoutError,
    UpgradeRejectedError,
    UpstreamResetError,
)
from sidecar.http.body import Body, BodyStream
from sidecar.http.headers import Headers
from sidecar.http.message import Request, Response
from sidecar.observability.stream_info import fail
from tests.support.http1 import Server, response, settle

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CONSTANT: Headers = [(b"server", b"app"), (b"x-envoy-upstream-service-time", b"9"), (b"x-a", b"b")]


async def answer_constant(request: Request) -> Response:
    request.info.upstream_address = SocketAddress("10.0.0.2", 9080)
    request.info.upstream_service_time_s = 0.0123
    return Response(200, CONSTANT, Body(b""))


async def test_managed_response_headers_replace_the_upstreams() -> None:
    server = Server(answer_constant, server_name="istio-envoy")
    lines = (await server.exchange(GET)).split(b"\r\n")
    assert lines[1:4] == [b"x-a: b", b"server: istio-envoy", lines[3]]
    assert lines[3].startswith(b"date: ")
    assert lines[4] == b"x-envoy-upstream-service-time: 12"
    assert len(CONSTANT) == 3
    assert server.info.details == "via_upstream"


async def test_the_name_of_the_operation_replaces_the_upstreams() -> None:
    own = (b"x-envoy-decorator-operation", b"own")

    async def service(request: Request) -> Response:
        request.info.operation = own
        return response(headers=[(b"x-envoy-decorator-operation", b"other")])

    answer = await Server(service).exchange(GET)
    assert b"other" not in answer
    assert answer.count(b"\r\nx-envoy-decorator-operation: own\r\n") == 1


async def test_date_of_the_upstream_stays() -> None:
    async def service(request: Request) -> Response:
        return response(headers=[(b"date", b"Thu, 01 Jan 1970 00:00:00 GMT")])

    answer = await Server(service).exchange(GET)
    assert answer.count(b"date: ") == 1
    assert b"date: Thu, 01 Jan 1970" in answer


ONE_HOPS: Headers = [
    (b"transfer-encoding", b"chunked"),
    (b"connection", b"close, x-kept"),
    (b"keep-alive", b"timeout=5"),
    (b"proxy-connection", b"close"),
    (b"upgrade", b"h2c"),
]


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("status", [200, 304])
async def test_framing_headers_of_a_filter_have_no_effect_on_a_response(status: int, method: bytes) -> None:
    async def service(request: Request) -> Response:
        return response(b"hello", status, [*ONE_HOPS, (b"content-length", b"7"), (b"content-length", b"5")])

    answer = await Server(service).exchange(GET.replace(b"GET", method))
    assert answer.count(b"content-length") == (status == 200 and method == b"GET")
    assert b"\r\ncontent-length: 7\r\n" not in answer
    for name in (b"\r\nconnection", b"keep-alive", b"proxy-connection", b"upgrade"):
        assert name not in answer


@pytest.mark.parametrize(
    "lengths", [(b"2", b"5"), (b"5", b"5", b"6"), (b"5, 5",), (b"+5",), (b"many",), (b"-1",), (b"",)]
)
async def test_body_whose_lengths_are_not_one_is_sent_in_chunks(lengths: tuple[bytes, ...]) -> None:
    body = BodyStream()
    body.feed(b"hello")
    body.feed_end([(b"x-sum", b"1"), (b"content-length", b"9"), (b"transfer-encoding", b"gzip")])

    async def service(request: Request) -> Response:
        return Response(200, [(b"content-length", length) for length in lengths], body)

    answer = await Server(service).exchange(GET)
    assert b"content-length" not in answer
    assert answer.endswith(b"\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n")


async def test_local_replies_get_the_response_headers_of_the_route() -> None:
    class Route:
        def finish(self, headers: Headers) -> None:
            headers.append((b"x-route", b"yes"))

    async def service(request: Request) -> Response:
        request.route = Route()
        raise UpgradeRejectedError("no tunnels here")

    answer = await Server(service).exchange(GET)
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"\r\nx-route: yes\r\n" in answer


async def test_path_is_normalized_before_the_stack_sees_it() -> None:
    paths = []

    async def service(request: Request) -> Response:
        paths.append(request.path)
        return response()

    server = Server(service, normalize_path=True, merge_slashes=True)
    await server.exchange(b"GET /admin/..//public?x HTTP/1.1\r\nHost: a\r\n\r\n")
    assert paths == [b"/public?x"]
    answer = await server.exchange(b"GET /a%00 HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close\r\n" in answer
    assert server.transport.closed
    assert paths == [b"/public?x"]


async def test_end_of_a_request_is_counted_and_reported_once() -> None:
    async def service(request: Request) -> Response:
        server.time.now += 0.25
        return response(b"hello", status=int(request.path[1:]))

    server = Server(service)
    for status in (200, 301, 404, 503):
        await server.exchange(b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" % status)
    stats = server.stats
    assert (stats.downstream_rq_total, stats.downstream_rq_completed, stats.downstream_rq_active) == (4, 4, 0)
    assert (stats.downstream_rq_2xx, stats.downstream_rq_3xx) == (1, 1)
    assert (stats.downstream_rq_4xx, stats.downstream_rq_5xx) == (1, 1)
    assert stats.downstream_rq_time.total == 1000
    assert [request.info.status for request, _ in server.ended] == [200, 301, 404, 503]
    assert (server.info.bytes_received, server.info.bytes_sent) == (3, 5)
    assert server.info.end_s - server.info.start_s == 0.25
    assert server.info.details == "direct_response"


FAILURE_COUNTERS = {
    "downstream_cx_protocol_error",
    "downstream_rq_header_timeout",
    "downstream_rq_idle_timeout",
    "downstream_rq_rx_reset",
    "downstream_rq_timeout",
    "downstream_rq_too_large",
    "no_cluster",
    "no_route",
}


@pytest.mark.parametrize(
    ("error", "counter"),
    [
        (NoRouteError, "no_route"),
        (NoClusterError, "no_cluster"),
        (HeadersTooLargeError, "downstream_rq_too_large"),
        (DownstreamProtocolError, "downstream_cx_protocol_error"),
        (ExpectationFailedError, "downstream_cx_protocol_error"),
        (DownstreamTimeoutError, "downstream_rq_timeout"),
        (StreamIdleTimeoutError, "downstream_rq_idle_timeout"),
        (RequestHeaderTimeoutError, "downstream_rq_header_timeout"),
        (UpstreamResetError, None),
        (UpgradeRejectedError, None),
    ],
)
@pytest.mark.parametrize("answered", [False, True])
async def test_a_failure_counts_once(error: type[RequestError], counter: str | None, answered: bool) -> None:
    """The router answers by itself, because the route's response headers are for its replies too."""

    async def service(request: Request) -> Response:
        if not answered:
            raise error("so it is")
        fail(request.info, error("so it is"))
        return response(b"", status=503)

    server = Server(service)
    await server.exchange(GET)
    counted = [name for name, value in server.stats.items() if name in FAILURE_COUNTERS and value]
    assert counted == ([counter] if counter is not None else [])
    assert server.info.failure is error


async def test_words_for_logs_count_nothing() -> None:
    async def service(request: Request) -> Response:
        request.info.details = "direct_response"
        request.info.add_flag("NR")
        return response(b"")

    server = Server(service)
    await server.exchange(GET)
    assert (server.stats.rq_direct_response, server.stats.no_route) == (0, 0)


async def test_a_direct_response_is_counted_despite_the_details_of_a_filter() -> None:
    async def service(request: Request) -> Response:
        request.info.direct_response = True
        request.info.details = "of_my_own"
        return response(b"")

    server = Server(service)
    await server.exchange(GET)
    assert server.stats.rq_direct_response == 1
    assert server.info.details == "of_my_own"


async def test_connections_are_counted() -> None:
    server = Server(answer_constant)
    assert (server.stats.downstream_cx_total, server.stats.downstream_cx_active) == (1, 1)
    received = len(GET)
    answer = await server.exchange(GET)
    assert server.stats.downstream_cx_rx_bytes_total == received
    assert server.stats.downstream_cx_tx_bytes_total == len(answer)
    server.manager.close()
    await server.manager.wait_closed()
    assert (server.stats.downstream_cx_destroy, server.stats.downstream_cx_active) == (1, 0)


def resolve_again(request: Request) -> None:
    """The mark of a request that passes filters."""


async def test_names_that_a_filter_leaves_in_a_response_are_known_in_any_case() -> None:
    """Otherwise a filter could change the framing."""

    async def service(request: Request) -> Response:
        request.resolver = resolve_again
        return Response(200, [(b"Content-Length", b"7"), (b"X-A", b"B")], Body(b"hello"))

    answer = await Server(service).exchange(GET)
    assert b"\r\nx-a: B\r\n" in answer
    assert b": 7\r\n" not in answer
    assert answer.endswith(b"\r\n\r\nhello")


@pytest.mark.parametrize("field", [(b"x-a", b"1\r\nx-b: 2"), (b"x-a: 1\nx-b", b"2"), (b"x-a", b"\0")])
async def test_a_filter_cannot_end_a_line_of_a_response(field: tuple[bytes, bytes]) -> None:
    body = BodyStream()

    async def service(request: Request) -> Response:
        request.resolver = resolve_again
        request.upstream_body = body
        return Response(200, [field], body)

    answer = await Server(service).exchange(GET)
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"\nx-b" not in answer
    await asyncio.wait_for(body.left(), 1)


async def test_the_response_of_the_router_is_let_go_if_a_filter_fails_after_it() -> None:
    body = BodyStream()

    async def service(request: Request) -> Response:
        request.upstream_body = body
        raise RuntimeError

    assert (await Server(service).exchange(GET)).startswith(b"HTTP/1.1 500 ")
    await asyncio.wait_for(body.left(), 1)


async def test_the_response_of_the_router_is_let_go_if_the_client_leaves_a_filter_that_waits() -> None:
    body = BodyStream()

    async def service(request: Request) -> Response:
        request.upstream_body = body
        await asyncio.Event().wait()
        raise AssertionError

    server = Server(service)
    assert await server.exchange(GET) == b""
    server.transport.receive_eof()
    await asyncio.wait_for(body.left(), 1)


async def test_a_health_check_does_not_count_as_a_completed_request() -> None:
    async def service(request: Request) -> Response:
        request.info.health_check = True
        return response()

    server = Server(service)
    await server.exchange(GET)
    stats = server.manager.stats
    assert (stats.downstream_rq_total, stats.downstream_rq_completed, stats.downstream_rq_2xx) == (1, 0, 0)
    assert server.info.status == 200


async def test_filters_are_closed_after_the_last_connection() -> None:
    server = Server(answer_constant)
    await server.exchange(GET)
    server.manager.drain()
    assert server.closed == 0
    server.manager.close()
    assert server.closed == 0
    await settle()
    server.manager.close()
    assert server.closed == 1


@pytest.mark.parametrize(
    ("replaced", "framing"), [(False, b"content-length: 5"), (True, b"transfer-encoding: chunked")]
)
async def test_the_length_of_a_response_is_trusted_unless_a_filter_replaced_its_body(
    replaced: bool, framing: bytes
) -> None:
    body = BodyStream()
    body.feed(b"hello")
    body.feed_end()

    async def service(request: Request) -> Response:
        request.resolver = resolve_again
        request.upstream_body = BodyStream() if replaced else body
        return Response(200, [(b"content-length", b"5")], body)

    answer = await Server(service).exchange(GET)
    assert framing in answer
