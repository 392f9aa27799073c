"""A client of ``grpc.testing.TestService``, by grpcio."""

from __future__ import annotations

from typing import Any

import grpc

from tests.interop.grpc import messages
from tests.interop.grpc.service import SERVICE


def _serialize(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data


class TestServiceClient:
    """Each attribute calls the method of its name."""

    __test__ = False

    def __init__(self, channel: grpc.Channel, service: str = SERVICE) -> None:
        def call(make: Any, method: str, response: Any) -> Any:
            return make(
                f"/{service}/{method}",
                request_serializer=_serialize,
                response_deserializer=response.FromString,
            )

        self.empty = call(channel.unary_unary, "EmptyCall", messages.Empty)
        self.unary = call(channel.unary_unary, "UnaryCall", messages.SimpleResponse)
        self.unimplemented = call(channel.unary_unary, "UnimplementedCall", messages.Empty)
        self.input = call(channel.stream_unary, "StreamingInputCall", messages.StreamingInputCallResponse)
        self.output = call(channel.unary_stream, "StreamingOutputCall", messages.StreamingOutputCallResponse)
        self.duplex = call(channel.stream_stream, "FullDuplexCall", messages.StreamingOutputCallResponse)
