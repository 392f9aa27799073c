from __future__ import annotations

import grpc
import pytest

from sidecar.grpc_status import GrpcStatus, encode_grpc_message


def test_names_and_numbers_are_those_of_grpc() -> None:
    assert {status.name: status.value for status in GrpcStatus} == {
        status.name: status.value[0] for status in grpc.StatusCode
    }


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        (b"", b""),
        (b"no such host", b"no such host"),
        (b"100% ~\n\xc3\xa9", b"100%25 %7E%0A%C3%A9"),
        (b" reason: ", b"%20reason:%20"),
        (b" ", b"%20"),
    ],
)
def test_a_grpc_message_is_a_valid_field_value(text: bytes, encoded: bytes) -> None:
    """RFC 9113 8.2.1: a value must not begin or end with a space."""
    assert encode_grpc_message(text) == encoded
