from __future__ import annotations

import grpc

from sidecar.grpc_status import GrpcStatus


def test_names_and_numbers_are_those_of_grpc() -> None:
    assert {status.name: status.value for status in GrpcStatus} == {
        status.name: status.value[0] for status in grpc.StatusCode
    }
