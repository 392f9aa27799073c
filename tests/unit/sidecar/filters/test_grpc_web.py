from __future__ import annotations

from sidecar.config.http_filters import GrpcWebConfig
from sidecar.config.listener import HttpConnectionManager, HttpFilter
from sidecar.errors import PayloadTooLargeError
from sidecar.filters.grpc_web import KIND
from sidecar.filters.registry import FILTERS
from sidecar.http.body import Body, BodyStream
from sidecar.http.headers import Headers, get_header
from sidecar.http.message import Request, Response, Service
from sidecar.router.match import RouteTable, RouteTableRef
from tests.support.bodies import read_all
from tests.support.filter_chains import ROUTER, filter_chain
from tests.support.requests import make_request
from tests.support.routes import configuration, prefix, route, virtual_host

GRPC: Headers = [(b"content-type", b"application/grpc")]
MESSAGE = b"\0\0\0\0\2hi"


def chain(upstream: Service) -> Service:
    return filter_chain(
        HttpConnectionManager(
            stat_prefix="test", http_filters=(HttpFilter(name="web", config=GrpcWebConfig()), ROUTER)
        ),
        routes=RouteTableRef(RouteTable(configuration(virtual_host(route(prefix("/")))))),
        router=upstream,
        registry=FILTERS,
    )


def web_request(content_type: bytes = b"application/grpc-web", body: bytes | Body = MESSAGE) -> Request:
    headers = [(b"content-type", content_type), (b"content-length", b"7"), (b"te", b"gzip")]
    return make_request(method=b"POST", headers=headers, body=body)


def test_the_filter_is_registered() -> None:
    assert KIND.config is GrpcWebConfig


async def test_the_upstream_sees_a_grpc_call() -> None:
    seen: list[Headers] = []

    async def upstream(request: Request) -> Response:
        seen.append(list(request.headers))
        assert await read_all(request.body) == MESSAGE
        body = BodyStream()
        body.feed_end([(b"grpc-status", b"0")])
        return Response(200, list(GRPC), body)

    request = web_request()
    response = await chain(upstream)(request)
    assert seen == [[*GRPC, (b"te", b"trailers"), (b"grpc-accept-encoding", b"identity")]]
    assert response.headers == [(b"content-type", b"application/grpc-web+proto")]
    assert await read_all(response.body) == b"\x80\0\0\0\x0fgrpc-status:0\r\n"
    assert request.info.grpc is not None
    assert (request.info.grpc.request_messages.count, request.info.grpc.status) == (1, 0)


async def test_a_call_of_grpc_itself_passes_unchanged() -> None:
    async def upstream(request: Request) -> Response:
        assert request.headers == GRPC
        return Response(200, list(GRPC))

    assert (await chain(upstream)(make_request(headers=list(GRPC)))).headers == GRPC


async def test_an_error_of_a_later_filter_is_a_status_of_grpc() -> None:
    async def upstream(request: Request) -> Response:
        raise PayloadTooLargeError("too much")

    request = web_request()
    response = await chain(upstream)(request)
    assert (response.status, response.body.whole) == (413, b"")
    assert get_header(response.headers, b"grpc-status") == b"2"
    assert get_header(response.headers, b"grpc-message") == b"Payload Too Large: too much"
    assert request.info.failure is PayloadTooLargeError


async def test_only_the_beginning_of_an_answer_that_is_not_grpc_is_kept() -> None:
    async def upstream(request: Request) -> Response:
        body = BodyStream()
        for _ in range(100):
            body.feed(b"x" * 1000)
        body.feed_end()
        return Response(500, [(b"content-type", b"text/html")], body)

    response = await chain(upstream)(web_request())
    message = get_header(response.headers, b"grpc-message")
    assert message == b"x" * 16384
    assert get_header(response.headers, b"content-length") == b"0"
