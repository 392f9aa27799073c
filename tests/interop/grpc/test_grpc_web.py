"""gRPC-Web over HTTP/1.1, translated by a sidecar for grpcio's server, which speaks HTTP/2."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest

from tests.interop.grpc.conftest import sidecar_document
from tests.interop.grpc.messages import (
    Empty,
    Payload,
    ResponseParameters,
    StreamingOutputCallRequest,
    StreamingOutputCallResponse,
)
from tests.interop.grpc.service import SERVICE, serving
from tests.support.envoy_config import TYPE, router
from tests.support.processes import free_port
from tests.support.running_sidecar import running

GRPC_WEB = {
    "name": "envoy.filters.http.grpc_web",
    "typed_config": {"@type": f"{TYPE}/envoy.extensions.filters.http.grpc_web.v3.GrpcWeb"},
}
SIZES = (31415, 9, 2653, 58979)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    listening = free_port()
    with serving() as server_port:
        document = sidecar_document(listening, "INBOUND", {}, server_port, http_filters=[GRPC_WEB, router()])
        with running(tmp_path_factory.mktemp("grpc-web"), document) as sidecar:
            sidecar.process.wait_for_port(listening)
            yield listening


def frame(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


def ask(port: int, method: str, content: bytes, *, as_text: bool) -> tuple[list[bytes], dict[str, str]]:
    """The messages of the response, and its trailers: from the content, or from the head."""
    kind = "application/grpc-web-text" if as_text else "application/grpc-web+proto"
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    body = b64encode(content) if as_text else content
    connection.request("POST", f"/{SERVICE}/{method}", body, {"content-type": kind, "accept": kind})
    response = connection.getresponse()
    assert response.status == 200
    assert response.getheader("content-type") == f"application/grpc-web{'-text' if as_text else ''}+proto"
    data = response.read()
    if as_text:  # of parts that have their own padding
        data = b"".join(b64decode(data[at : at + 4]) for at in range(0, len(data), 4))
    connection.close()
    messages: list[bytes] = []
    trailers = {name: value for name, value in response.getheaders() if name.startswith("grpc-")}
    while data:
        length = int.from_bytes(data[1:5], "big")
        flags, message, data = data[0], data[5 : 5 + length], data[5 + length :]
        if flags & 0x80:
            lines = message.decode().splitlines()
            trailers |= {name: value for name, _, value in (line.partition(":") for line in lines)}
        else:
            messages.append(message)
    return messages, trailers


@pytest.mark.parametrize("as_text", [False, True])
def test_unary(port: int, as_text: bool) -> None:
    messages, trailers = ask(port, "EmptyCall", frame(Empty().SerializeToString()), as_text=as_text)
    assert (messages, trailers["grpc-status"]) == ([b""], "0")


@pytest.mark.parametrize("as_text", [False, True])
def test_server_streaming(port: int, as_text: bool) -> None:
    request = StreamingOutputCallRequest(
        response_parameters=[ResponseParameters(size=size) for size in SIZES],
        payload=Payload(body=bytes(100_000)),
    )
    content = frame(request.SerializeToString())
    messages, trailers = ask(port, "StreamingOutputCall", content, as_text=as_text)
    bodies = [StreamingOutputCallResponse.FromString(message).payload.body for message in messages]
    assert ([len(body) for body in bodies], trailers["grpc-status"]) == ([*SIZES], "0")


@pytest.mark.parametrize("as_text", [False, True])
def test_a_method_that_is_not_implemented(port: int, as_text: bool) -> None:
    messages, trailers = ask(port, "UnimplementedCall", frame(b""), as_text=as_text)
    assert (messages, trailers["grpc-status"]) == ([], "12")
