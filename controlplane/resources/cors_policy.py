"""``CorsPolicy`` of a VirtualService's route: which pages in browsers may call the service."""

from __future__ import annotations

import re
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field, field_validator

from controlplane.resources.base import (
    HTTP_TOKEN,
    Bool,
    Duration,
    Message,
    NonEmptyStr,
    Str,
    StringMatch,
    invalid,
)
from controlplane.resources.deprecation import Deprecated

_METHODS = frozenset(("*", "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"))
_SECOND = timedelta(seconds=1)


def _check_method(method: str) -> str:
    if method not in _METHODS:
        raise invalid(f"{method!r:.80} is not a method that browsers know")
    return method


def _check_header(name: str) -> str:
    if not HTTP_TOKEN.fullmatch(name):
        raise invalid(f"{name!r:.80} is not a header name")
    return name


def _check_origin(origin: str) -> str:
    if re.search(r"[\x00\r\n]", origin):
        raise invalid("has a control character, which no origin has")
    return origin


_Method = Annotated[Str, AfterValidator(_check_method), Field(description="A method, or * for all.")]
_Header = Annotated[Str, AfterValidator(_check_header), Field(description="A header's name, or * for all.")]
_Origin = Annotated[NonEmptyStr, AfterValidator(_check_origin)]


class UnmatchedPreflights(StrEnum):
    UNSPECIFIED = "UNSPECIFIED"
    FORWARD = "FORWARD"
    IGNORE = "IGNORE"


class CorsPolicy(Message):
    """``CorsPolicy``. The proxy answers a preflight of an origin that matches. That of another origin is
    forwarded to the service, or answered without permission (``IGNORE``)."""

    allow_origin: Annotated[
        tuple[_Origin, ...],
        Deprecated("is deprecated: use `allowOrigins`, with `exact`; it is used if that is empty"),
    ] = ()
    allow_origins: tuple[StringMatch, ...] = ()
    allow_methods: tuple[_Method, ...] = ()
    allow_headers: tuple[_Header, ...] = ()
    expose_headers: tuple[_Header, ...] = ()
    max_age: Duration | None = None
    allow_credentials: Bool | None = None
    unmatched_preflights: UnmatchedPreflights = UnmatchedPreflights.UNSPECIFIED

    @property
    def origins(self) -> tuple[StringMatch, ...]:
        """``allow_origins``, or else ``allow_origin``."""
        return self.allow_origins or tuple(StringMatch(exact=origin) for origin in self.allow_origin)

    @field_validator("allow_origins")
    @classmethod
    def _origins_are_not_empty(cls, origins: tuple[StringMatch, ...]) -> tuple[StringMatch, ...]:
        if any("" in (origin.exact, origin.prefix) for origin in origins):
            raise invalid("has an empty origin")
        return origins

    @field_validator("max_age")
    @classmethod
    def _whole_seconds(cls, max_age: timedelta | None) -> timedelta | None:
        if max_age is not None and max_age % _SECOND:
            raise invalid("should be a whole number of seconds")
        return max_age
