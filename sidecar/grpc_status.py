"""Status codes of gRPC, and their HTTP counterparts. Sources: ``doc/statuscodes.md`` and
``doc/PROTOCOL-HTTP2.md`` of gRPC, and the tables of Envoy's ``Grpc::Utility``."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final


class GrpcStatus(IntEnum):
    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


NO_STATUS: Final = -2
"""The message has no ``grpc-status``."""
INVALID_STATUS: Final = -1
"""Envoy's value for a ``grpc-status`` that is not a number from 0 to 16."""

_NAME: Final = b"grpc-status"

RETRY_CONDITIONS: Final[Mapping[str, GrpcStatus]] = {
    "cancelled": GrpcStatus.CANCELLED,
    "deadline-exceeded": GrpcStatus.DEADLINE_EXCEEDED,
    "internal": GrpcStatus.INTERNAL,
    "resource-exhausted": GrpcStatus.RESOURCE_EXHAUSTED,
    "unavailable": GrpcStatus.UNAVAILABLE,
}
"""The values of Envoy's ``x-envoy-retry-grpc-on``."""

_OF_HTTP: Final[Mapping[int, int]] = {
    400: 13,
    401: 16,
    403: 7,
    404: 12,
    429: 14,
    502: 14,
    503: 14,
    504: 14,
}
# By the number of the gRPC status.
_TO_HTTP: Final = (200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401)


def grpc_status_of_http(status: int) -> int:
    """The status of a call that was answered with a plain HTTP response."""
    return _OF_HTTP.get(status, 2)


def http_status_of_grpc(status: int) -> int:
    """The HTTP status that outlier detection counts for a gRPC status. An invalid one is a server error."""
    return _TO_HTTP[status] if 0 <= status < len(_TO_HTTP) else 500


def is_grpc_content_type(value: bytes) -> bool:
    """``application/grpc`` and ``application/grpc+...``, but not ``application/grpc-web``."""
    return value.startswith(b"application/grpc") and (len(value) == 16 or value[16:17] == b"+")


def is_grpc_response(status: int, headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether the content of a response is messages of gRPC."""
    if status == 200:
        for name, value in headers:
            if name == b"content-type":
                return is_grpc_content_type(value)
    return False


def find_grpc_status(headers: list[tuple[bytes, bytes]]) -> int:
    """The ``grpc-status`` of a head or of trailers; `NO_STATUS` or `INVALID_STATUS` without a valid one."""
    for name, value in headers:
        if name == _NAME:
            return _parse(value)
    return NO_STATUS


def _parse(value: bytes) -> int:
    if not value:
        return NO_STATUS
    if len(value) <= 2 and value.isdigit():
        status = int(value)
        if status < len(_TO_HTTP):
            return status
    return INVALID_STATUS


def encode_grpc_message(text: bytes) -> bytes:
    """Percent-encodes a ``grpc-message``. As in Envoy, ``~`` is encoded too. A space at either end is
    encoded, because the value of a field must not begin or end with one (RFC 9113 8.2.1)."""
    parts = [bytes((byte,)) if 0x20 <= byte < 0x7E and byte != 0x25 else b"%%%02X" % byte for byte in text]
    if parts and parts[0] == b" ":
        parts[0] = b"%20"
    if parts and parts[-1] == b" ":
        parts[-1] = b"%20"
    return b"".join(parts)
