"""``HTTPFaultInjection`` of a VirtualService's route: delays and errors, to test the callers of a service."""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import ConfigDict, Field, Strict, field_validator, model_validator

from controlplane.resources.base import (
    Duration,
    Message,
    NonNegativeInt,
    NotSupportedYet,
    Str,
    exactly_one_of,
    invalid,
)
from controlplane.resources.base import Percent as WholePercent
from controlplane.resources.deprecation import Deprecated

GRPC_STATUSES: Final = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
"""The names of gRPC's statuses, in the order of their numbers, from 0."""


class Percent(Message):
    """``Percent``: a share of the requests, from 0 to 100; fractions count."""

    value: Annotated[float, Strict(), Field(ge=0, le=100, allow_inf_nan=False)] = 0.0


class Delay(Message):
    """``HTTPFaultInjection.Delay``. Without a percentage, no request is delayed."""

    percent: Annotated[WholePercent | None, Deprecated("is deprecated: use `percentage`")] = None
    fixed_delay: Duration
    percentage: Percent | None = None
    exponential_delay: NotSupportedYet = None


class Abort(Message):
    """``HTTPFaultInjection.Abort``: exactly one of the statuses. Without a percentage, no request is
    aborted."""

    model_config = ConfigDict(json_schema_extra=exactly_one_of("httpStatus", "grpcStatus"))

    http_status: Annotated[NonNegativeInt, Field(ge=200, le=599)] | None = None
    grpc_status: Str | None = None
    percentage: Percent | None = None
    http2_error: NotSupportedYet = None

    @field_validator("grpc_status")
    @classmethod
    def _known_status(cls, status: str | None) -> str | None:
        if status is not None and status not in GRPC_STATUSES:
            raise invalid(f"{status!r:.80} is not a gRPC status such as UNAVAILABLE")
        return status

    @model_validator(mode="after")
    def _one_status(self) -> Self:
        if (self.http_status is None) == (self.grpc_status is None):
            raise invalid("should have exactly one of `httpStatus` and `grpcStatus`")
        return self


class HTTPFaultInjection(Message):
    """``HTTPFaultInjection``: a request may be delayed, and then aborted."""

    delay: Delay | None = None
    abort: Abort | None = None

    @model_validator(mode="after")
    def _some_fault(self) -> Self:
        if self.delay is None and self.abort is None:
            raise invalid("should have `delay` or `abort`")
        return self
