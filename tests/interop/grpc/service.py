"""``grpc.testing.TestService``, the server of gRPC's interoperability tests, by grpcio."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

from tests.interop.grpc.messages import (
    Empty,
    Payload,
    SimpleRequest,
    SimpleResponse,
    StreamingInputCallRequest,
    StreamingInputCallResponse,
    StreamingOutputCallRequest,
    StreamingOutputCallResponse,
)

SERVICE = "grpc.testing.TestService"
INITIAL = "x-grpc-test-echo-initial"
TRAILING = "x-grpc-test-echo-trailing-bin"


def _echo_metadata(context: grpc.ServicerContext) -> None:
    received = dict(context.invocation_metadata())
    if INITIAL in received:
        context.send_initial_metadata(((INITIAL, received[INITIAL]),))
    if TRAILING in received:
        context.set_trailing_metadata(((TRAILING, received[TRAILING]),))


def _echo_status(request: Any, context: grpc.ServicerContext) -> bool:
    if not request.HasField("response_status"):
        return False
    context.set_code(next(code for code in grpc.StatusCode if code.value[0] == request.response_status.code))
    context.set_details(request.response_status.message)
    return True


def _payload(size: int) -> Any:
    return Payload(body=bytes(size))


def empty_call(request: Any, context: grpc.ServicerContext) -> Any:
    _echo_metadata(context)
    return Empty()


def unary_call(request: Any, context: grpc.ServicerContext) -> Any:
    _echo_metadata(context)
    if request.response_compressed.value:
        context.set_compression(grpc.Compression.Gzip)
    if _echo_status(request, context):
        return SimpleResponse()
    return SimpleResponse(payload=_payload(request.response_size))


def streaming_input_call(requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
    size = sum(len(request.payload.body) for request in requests)
    return StreamingInputCallResponse(aggregated_payload_size=size)


def _responses(request: Any) -> Iterator[Any]:
    for parameters in request.response_parameters:
        if parameters.interval_us:
            time.sleep(parameters.interval_us / 1e6)
        yield StreamingOutputCallResponse(payload=_payload(parameters.size))


def streaming_output_call(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
    if any(parameters.compressed.value for parameters in request.response_parameters):
        context.set_compression(grpc.Compression.Gzip)
    yield from _responses(request)


def full_duplex_call(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
    _echo_metadata(context)
    for request in requests:
        if _echo_status(request, context):
            return
        yield from _responses(request)


def _handler(behaviour: Callable[..., Any], request: Any, *, streams_in: bool, streams_out: bool) -> Any:
    makers = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    return makers[streams_in, streams_out](
        behaviour,
        request_deserializer=request.FromString,
        response_serializer=lambda m: m.SerializeToString(),
    )


HANDLERS = {
    "EmptyCall": _handler(empty_call, Empty, streams_in=False, streams_out=False),
    "UnaryCall": _handler(unary_call, SimpleRequest, streams_in=False, streams_out=False),
    "StreamingInputCall": _handler(
        streaming_input_call, StreamingInputCallRequest, streams_in=True, streams_out=False
    ),
    "StreamingOutputCall": _handler(
        streaming_output_call, StreamingOutputCallRequest, streams_in=False, streams_out=True
    ),
    "FullDuplexCall": _handler(
        full_duplex_call, StreamingOutputCallRequest, streams_in=True, streams_out=True
    ),
}


@contextmanager
def serving() -> Iterator[int]:
    """Serves on the port that it yields."""
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, HANDLERS),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(grace=None).wait()
