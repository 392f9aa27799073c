from __future__ import annotations

import pytest

from sidecar.grpc.errors import GrpcError
from sidecar.grpc.response import GrpcResponse, frame, status_of_reset
from sidecar.grpc_status import GrpcStatus
from sidecar.http.headers import Headers

HEAD = [(b"content-type", b"application/grpc+proto")]


def response(max_message_bytes: int = 100) -> GrpcResponse:
    begun = GrpcResponse(max_message_bytes)
    begun.head(200, HEAD, ended=False)
    return begun


def test_messages_are_found_in_pieces_of_any_size() -> None:
    body = frame(b"one") + frame(b"") + frame(b"three")
    for size in range(1, len(body) + 1):
        reader = response()
        pieces = [body[at : at + size] for at in range(0, len(body), size)]
        assert [each for piece in pieces for each in reader.data(piece)] == [b"one", b"", b"three"]
        reader.trailers([(b"grpc-status", b"0")])


def test_message_over_the_limit_is_refused_before_it_arrives() -> None:
    with pytest.raises(GrpcError, match=r"RESOURCE_EXHAUSTED: a message of 101 bytes, at most 100"):
        response().data(frame(bytes(101))[:5])


def test_compressed_message_is_refused() -> None:
    with pytest.raises(GrpcError, match="INTERNAL: a compressed message"):
        response().data(b"\1" + frame(b"x")[1:])


def test_last_message_must_be_complete() -> None:
    reader = response()
    reader.data(frame(b"message")[:-1])
    with pytest.raises(GrpcError, match="INTERNAL: the last message is cut off"):
        reader.trailers([(b"grpc-status", b"0")])


@pytest.mark.parametrize(
    ("trailers", "status", "details"),
    [
        ([(b"grpc-status", b"7"), (b"grpc-message", b"not%20you%E2%80%A6")], "PERMISSION_DENIED", "not you…"),
        ([(b"grpc-status", b"14"), (b"grpc-message", b"%FF%")], "UNAVAILABLE", "\ufffd%"),
        ([(b"grpc-status", b"5")], "NOT_FOUND", ""),
        ([(b"grpc-status", b"17")], "UNKNOWN", "the response ended with the status b'17'"),
        ([], "UNKNOWN", "the response ended with the status b''"),
    ],
)
def test_error_has_status_and_details(trailers: Headers, status: str, details: str) -> None:
    with pytest.raises(GrpcError) as caught:
        response().trailers(trailers)
    assert (caught.value.status.name, caught.value.details) == (status, details)


@pytest.mark.parametrize(
    ("http_status", "headers", "error"),
    [
        (200, [*HEAD, (b"grpc-status", b"16"), (b"grpc-message", b"no token")], "UNAUTHENTICATED: no token"),
        (404, [], "UNIMPLEMENTED: the HTTP status is 404"),
        (503, [], "UNAVAILABLE: the HTTP status is 503"),
        (599, [], "UNKNOWN: the HTTP status is 599"),
        (200, [(b"content-type", b"text/html")], "UNKNOWN: the content type is 'text/html'"),
        (200, HEAD, "INTERNAL: the response ended without a status"),
    ],
)
def test_response_of_a_head_alone_has_failed(http_status: int, headers: Headers, error: str) -> None:
    with pytest.raises(GrpcError, match=f"^{error}$"):
        GrpcResponse(100).head(http_status, headers, ended=True)


def test_status_in_the_head_can_be_ok() -> None:
    GrpcResponse(100).head(200, [*HEAD, (b"grpc-status", b"0")], ended=True)


@pytest.mark.parametrize(
    ("code", "status"), [(7, "UNAVAILABLE"), (8, "CANCELLED"), (11, "RESOURCE_EXHAUSTED")]
)
def test_reset_has_a_status(code: int, status: str) -> None:
    assert status_of_reset(code) is GrpcStatus[status]


@pytest.mark.parametrize("code", [0, 2, 99])
def test_other_resets_are_internal_errors(code: int) -> None:
    assert status_of_reset(code) is GrpcStatus.INTERNAL
