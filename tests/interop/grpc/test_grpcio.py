"""The standard cases of gRPC's ``doc/interop-test-descriptions.md``, by grpcio's client and server."""

from __future__ import annotations

from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import grpc
import pytest

from tests.interop.grpc.client import TestServiceClient
from tests.interop.grpc.conftest import Hop
from tests.interop.grpc.messages import (
    Empty,
    Payload,
    ResponseParameters,
    SimpleRequest,
    StreamingInputCallRequest,
    StreamingOutputCallRequest,
)
from tests.interop.grpc.service import INITIAL, TRAILING
from tests.support.running_sidecar import RunningSidecar

DEADLINE_S = 20.0
REQUEST_SIZE, RESPONSE_SIZE = 271828, 314159
INPUT_SIZES = (27182, 8, 1828, 45904)
OUTPUT_SIZES = (31415, 9, 2653, 58979)
SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
METADATA = ((INITIAL, "test_initial_metadata_value"), (TRAILING, b"\xab\xab\xab"))


@pytest.fixture
def service(channel: grpc.Channel) -> TestServiceClient:
    return TestServiceClient(channel)


class Requests:
    """A stream of requests that a test sends one by one, until `end`."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Any] = SimpleQueue()

    def send(self, request: Any) -> None:
        self._queue.put(request)

    def end(self) -> None:
        self._queue.put(None)

    def __iter__(self) -> Iterator[Any]:
        while (request := self._queue.get()) is not None:
            yield request


def large_request(**fields: Any) -> Any:
    return SimpleRequest(response_size=RESPONSE_SIZE, payload=Payload(body=bytes(REQUEST_SIZE)), **fields)


def output_request(request_size: int, *response_sizes: int, **fields: Any) -> Any:
    return StreamingOutputCallRequest(
        response_parameters=[ResponseParameters(size=size) for size in response_sizes],
        payload=Payload(body=bytes(request_size)),
        **fields,
    )


def sizes(responses: Any) -> list[int]:
    return [len(response.payload.body) for response in responses]


def test_empty_unary(service: TestServiceClient) -> None:
    assert service.empty(Empty(), timeout=DEADLINE_S) == Empty()


def test_large_unary(service: TestServiceClient) -> None:
    response = service.unary(large_request(), timeout=DEADLINE_S)
    assert len(response.payload.body) == RESPONSE_SIZE


def test_client_compressed_unary(service: TestServiceClient) -> None:
    request = large_request(expect_compressed={"value": True})
    response = service.unary(request, timeout=DEADLINE_S, compression=grpc.Compression.Gzip)
    assert len(response.payload.body) == RESPONSE_SIZE


def test_server_compressed_unary(service: TestServiceClient) -> None:
    response = service.unary(large_request(response_compressed={"value": True}), timeout=DEADLINE_S)
    assert len(response.payload.body) == RESPONSE_SIZE


def test_client_streaming(service: TestServiceClient) -> None:
    requests = [StreamingInputCallRequest(payload=Payload(body=bytes(size))) for size in INPUT_SIZES]
    assert service.input(iter(requests), timeout=DEADLINE_S).aggregated_payload_size == sum(INPUT_SIZES)


def test_client_compressed_streaming(service: TestServiceClient) -> None:
    requests = [StreamingInputCallRequest(payload=Payload(body=bytes(size))) for size in INPUT_SIZES]
    response = service.input(iter(requests), timeout=DEADLINE_S, compression=grpc.Compression.Gzip)
    assert response.aggregated_payload_size == sum(INPUT_SIZES)


def test_server_streaming(service: TestServiceClient) -> None:
    assert sizes(service.output(output_request(0, *OUTPUT_SIZES), timeout=DEADLINE_S)) == [*OUTPUT_SIZES]


def test_server_compressed_streaming(service: TestServiceClient) -> None:
    request = output_request(0, *OUTPUT_SIZES)
    for parameters in request.response_parameters:
        parameters.compressed.value = True
    assert sizes(service.output(request, timeout=DEADLINE_S)) == [*OUTPUT_SIZES]


def test_ping_pong(service: TestServiceClient) -> None:
    requests = Requests()
    responses = service.duplex(iter(requests), timeout=DEADLINE_S)
    for request_size, response_size in zip(INPUT_SIZES, OUTPUT_SIZES, strict=True):
        requests.send(output_request(request_size, response_size))
        assert len(next(responses).payload.body) == response_size
    requests.end()
    assert sizes(responses) == []


def test_empty_stream(service: TestServiceClient) -> None:
    assert sizes(service.duplex(iter(()), timeout=DEADLINE_S)) == []


def test_custom_metadata(service: TestServiceClient) -> None:
    _, unary = service.unary.with_call(large_request(), timeout=DEADLINE_S, metadata=METADATA)
    duplex = service.duplex(iter([output_request(1, 1)]), timeout=DEADLINE_S, metadata=METADATA)
    assert sizes(duplex) == [1]
    for call in (unary, duplex):
        assert METADATA[0] in call.initial_metadata()
        assert METADATA[1] in call.trailing_metadata()


@pytest.mark.parametrize(
    ("code", "message"),
    [(grpc.StatusCode.UNKNOWN, "test status message"), (grpc.StatusCode.UNKNOWN, SPECIAL)],
    ids=["status code and message", "special status message"],
)
def test_statuses(service: TestServiceClient, code: grpc.StatusCode, message: str) -> None:
    status = {"code": code.value[0], "message": message}
    with pytest.raises(grpc.RpcError) as unary:
        service.unary(SimpleRequest(response_status=status), timeout=DEADLINE_S)
    with pytest.raises(grpc.RpcError) as duplex:
        list(service.duplex(iter([output_request(0, response_status=status)]), timeout=DEADLINE_S))
    for caught in (unary, duplex):
        assert (caught.value.code(), caught.value.details()) == (code, message)


@pytest.mark.parametrize("name", ["grpc.testing.TestService", "grpc.testing.UnimplementedService"])
def test_what_is_not_implemented(channel: grpc.Channel, name: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        TestServiceClient(channel, name).unimplemented(Empty(), timeout=DEADLINE_S)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_cancel_after_begin(service: TestServiceClient) -> None:
    requests = Requests()
    call = service.input.future(iter(requests), timeout=DEADLINE_S)
    call.cancel()
    requests.end()
    assert call.code() is grpc.StatusCode.CANCELLED


def test_cancel_after_first_response(service: TestServiceClient) -> None:
    requests = Requests()
    call = service.duplex(iter(requests), timeout=DEADLINE_S)
    requests.send(output_request(INPUT_SIZES[0], OUTPUT_SIZES[0]))
    assert len(next(call).payload.body) == OUTPUT_SIZES[0]
    call.cancel()
    requests.end()
    assert call.code() is grpc.StatusCode.CANCELLED


def test_timeout_on_sleeping_server(service: TestServiceClient) -> None:
    requests = Requests()
    call = service.duplex(iter(requests), timeout=0.001)
    requests.send(output_request(INPUT_SIZES[0]))
    with pytest.raises(grpc.RpcError) as caught:
        list(call)
    requests.end()
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_cancellation_reaches_the_server(service: TestServiceClient, hop: Hop) -> None:
    """Else the exchange between the inbound sidecar and the server would go on."""
    requests = Requests()
    call = service.duplex(iter(requests), timeout=DEADLINE_S)
    requests.send(output_request(1, 1))
    next(call)
    assert active_exchanges(hop) == [1, 1]
    call.cancel()
    requests.end()
    hop.inbound.process.wait_for(lambda: active_exchanges(hop) == [0, 0], "no exchange is left")


def active_exchanges(hop: Hop) -> list[int]:
    def active(sidecar: RunningSidecar) -> int:
        page = sidecar.ask("/stats?filter=cluster.up.upstream_rq_active$").body
        return int(page.rpartition(":")[2])

    return [active(hop.outbound), active(hop.inbound)]


def test_the_metrics_have_statuses_and_messages(service: TestServiceClient, hop: Hop) -> None:
    def counted(sidecar: Any, metric: str) -> float:
        return sum(value for labels, value in sidecar.samples(metric) if labels["request_protocol"] == "grpc")

    before = [counted(hop.outbound, f"istio_{each}_messages_total") for each in ("request", "response")]
    assert len(sizes(service.output(output_request(0, *OUTPUT_SIZES), timeout=DEADLINE_S))) == 4
    for sidecar in (hop.outbound, hop.inbound):
        statuses = {labels["grpc_response_status"] for labels, _ in sidecar.samples("istio_requests_total")}
        assert "0" in statuses
    after = [counted(hop.outbound, f"istio_{each}_messages_total") for each in ("request", "response")]
    assert [new - old for new, old in zip(after, before, strict=True)] == [1, 4]
