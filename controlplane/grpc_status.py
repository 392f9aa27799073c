"""The gRPC status of each error that a caller of one of our services may cause."""

from __future__ import annotations

from typing import Final

import grpc

from controlplane.errors import (
    AuthorityError,
    AuthorityUnavailableError,
    ControlPlaneError,
    InvalidRequestError,
    PermissionDeniedError,
    ProxyError,
    RequestTooLargeError,
    UnauthenticatedError,
    UnknownWorkloadError,
)

_STATUSES: Final[dict[type[ControlPlaneError], grpc.StatusCode]] = {
    ProxyError: grpc.StatusCode.INVALID_ARGUMENT,
    UnknownWorkloadError: grpc.StatusCode.UNAVAILABLE,  # it may become known later: the proxy reconnects
    AuthorityError: grpc.StatusCode.UNAUTHENTICATED,
    UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    PermissionDeniedError: grpc.StatusCode.PERMISSION_DENIED,
    InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    RequestTooLargeError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    AuthorityUnavailableError: grpc.StatusCode.UNAVAILABLE,  # the authority may recover: the caller retries
}


def status_of(error: Exception) -> grpc.StatusCode:
    """The status of the error's type or of its nearest base; INTERNAL for an error that is not listed."""
    found = (_STATUSES[each] for each in type(error).__mro__ if each in _STATUSES)
    return next(found, grpc.StatusCode.INTERNAL)
