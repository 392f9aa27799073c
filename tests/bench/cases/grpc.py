"""gRPC through one proxy, HTTP/2 on both sides; the server is grpc-go's."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tests.bench.case import Bar, Case
from tests.bench.documents import cluster, document, http_filter, listener
from tests.bench.load.h2load import h2_load
from tests.bench.load.latencies import Load
from tests.bench.site import Site
from tests.bench.traffic import Arrangement, traffic
from tests.support.envoy_config import HTTP_OPTIONS, TYPE

_SERVICE: Final = "/grpc.testing.TestService"
_HEADERS: Final = {
    "content-type": "application/grpc",
    "te": "trailers",
    "user-agent": "grpc-go/1.76.0",
    "grpc-timeout": "10S",
    "x-request-id": "a5a2b3a8-1b5c-4f62-9a0e-6d5f3c8f7b11",
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
}
_HTTP2: Final = {
    HTTP_OPTIONS: {"@type": f"{TYPE}/{HTTP_OPTIONS}", "explicit_http_config": {"http2_protocol_options": {}}}
}
_EMPTY_MESSAGE: Final = bytes(5)
MESSAGES: Final = 50
# A `StreamingOutputCallRequest` that asks for one response of 64 bytes.
_REQUEST_MESSAGE: Final = b"\0\0\0\0\4\x12\x02\x08\x40"


def through_http2(site: Site) -> Arrangement:
    port = site.free_port()
    to_server = cluster(site.grpc_upstream(), typed_extension_protocol_options=_HTTP2)
    return Arrangement(port=port, documents=[document([listener(port, http_filter())], [to_server])])


def unary(port: int, seconds: float) -> Load:
    return h2_load(port, seconds, path=f"{_SERVICE}/EmptyCall", headers=_HEADERS, body=_EMPTY_MESSAGE)


def messages(port: int, seconds: float) -> Load:
    """`done` counts the messages of one direction."""
    body = _REQUEST_MESSAGE * MESSAGES
    load = h2_load(port, seconds, path=f"{_SERVICE}/FullDuplexCall", headers=_HEADERS, body=body)
    return replace(load, done=load.done * MESSAGES)


CASES = [
    Case(
        name="grpc-unary",
        title="gRPC, unary calls, 80 in flight",
        unit="call",
        bars=[Bar(figure="cpu_us", limit=0.9, aim=0.7)],
        start=traffic(through_http2, unary),
    ),
    Case(
        name="grpc-stream",
        title=f"gRPC, {MESSAGES} messages in each direction of a call, 80 calls in flight",
        unit="message",
        bars=[Bar(figure="cpu_us", limit=0.9, aim=0.7)],
        start=traffic(through_http2, messages),
    ),
]
