"""gRPC probes: ``grpc.health.v1.Health/Check``, in plaintext, as the kubelet sends it."""

from __future__ import annotations

from typing import Final

from sidecar.application.connection import open_socket
from sidecar.application.redirects import ProbeError
from sidecar.config.endpoint import Endpoint, SocketAddress
from sidecar.grpc.call import call_unary
from sidecar.grpc.errors import GrpcError
from sidecar.grpc.target import Target

_CHECK: Final = "/grpc.health.v1.Health/Check"
_SERVING: Final = 1
_STATUSES: Final = {0: "UNKNOWN", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_MAX_RESPONSE_BYTES: Final = 64 * 1024


async def check_grpc(address: SocketAddress, service: str, user_agent: str) -> None:
    """Returns if the service is serving. Raises `ProbeError`, or `OSError` if it cannot be connected to."""
    from google.protobuf.message import DecodeError  # noqa: PLC0415 - few pods have such a probe
    from google.protobuf.wrappers_pb2 import Int32Value, StringValue  # noqa: PLC0415

    target = Target(
        endpoints=(Endpoint(address=address),), user_agent=user_agent, max_message_bytes=_MAX_RESPONSE_BYTES
    )
    sock = await open_socket(address)
    try:
        # HealthCheckRequest has one field, the string 1; HealthCheckResponse has one, the enum 1.
        request = StringValue(value=service).SerializeToString()
        answer = await call_unary(target, _CHECK, request, sock=sock)
        status = Int32Value.FromString(answer).value
    except GrpcError as error:
        raise ProbeError(f"gRPC status {error}") from None
    except DecodeError:
        raise ProbeError("the response is not a HealthCheckResponse") from None
    if status != _SERVING:
        raise ProbeError(f"the service {service!r} is {_STATUSES.get(status, status)}")
