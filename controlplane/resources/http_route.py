"""``HTTPRoute`` of a VirtualService: which requests match, and what happens to them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import AfterValidator, ConfigDict, Field, field_validator, model_validator

from controlplane.resources.base import (
    Bool,
    DurationOrZero,
    HeaderName,
    Message,
    NonEmptyStr,
    NonNegativeInt,
    NotSupportedYet,
    PortNumber,
    Regex,
    Str,
    StringMatch,
    ValueMatch,
    at_most_one_of,
    count_groups,
    invalid,
)
from controlplane.resources.cors_policy import CorsPolicy
from controlplane.resources.fault_injection import HTTPFaultInjection
from controlplane.resources.route_destination import Gateway, Weighted, WeightedDestination


def _check_one_line(value: str) -> str:
    if re.search(r"[\x00\r\n]", value):
        raise invalid("has a control character, which headers must not contain")
    return value


# A string that becomes the value of a header: Envoy's HTTP_HEADER_VALUE.
OneLine = Annotated[Str, AfterValidator(_check_one_line)]


def _check_header_value(value: str) -> str:
    if "%" in value.replace("%%", ""):
        raise invalid(f"{value!r:.80}: substitutions (%...%) are not supported yet; write %% for one %")
    return value


HeaderValue = Annotated[OneLine, AfterValidator(_check_header_value)]


# The framing of a message (RFC 9112 section 6) and the hop-by-hop headers (RFC 9110 section 7.6.1): each
# proxy sets them itself. Envoy applies a route's operations on some of them, which breaks the message.
PROXYS_OWN: Final = frozenset(
    (
        "connection",
        "content-length",
        "http2-settings",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)


class HeaderOperations(Message):
    """``Headers.HeaderOperations``. ``set`` overwrites, ``add`` appends; names are lower-case. Operations on
    the headers that proxies set themselves (`PROXYS_OWN`) have no effect."""

    set: dict[HeaderName, HeaderValue] = Field(default_factory=dict)
    add: dict[HeaderName, HeaderValue] = Field(default_factory=dict)
    remove: tuple[HeaderName, ...] = ()

    def without_effect(self) -> Iterator[str]:
        """The paths of operations without effect, such as ``set.te``."""
        for operation, names in (("set", self.set), ("add", self.add), ("remove", self.remove)):
            yield from (f"{operation}.{name}" for name in names if name in PROXYS_OWN)


class Headers(Message):
    """``Headers``. Setting the ``host`` of a request rewrites its authority."""

    request: HeaderOperations | None = None
    response: HeaderOperations | None = None

    def without_effect(self) -> Iterator[str]:
        """The paths of operations without effect, such as ``response.set.te``."""
        for direction, operations in (("request", self.request), ("response", self.response)):
            if operations is not None:
                yield from (f"{direction}.{where}" for where in operations.without_effect())

    @field_validator("request")
    @classmethod
    def _host_stays(cls, operations: HeaderOperations | None) -> HeaderOperations | None:
        if operations and "host" in operations.remove:
            raise invalid("`host` cannot be removed: every request needs it")
        return operations

    @field_validator("response")
    @classmethod
    def _no_host(cls, operations: HeaderOperations | None) -> HeaderOperations | None:
        if operations and any(
            "host" in names for names in (operations.set, operations.add, operations.remove)
        ):
            raise invalid("`host` is a header of requests only")
        return operations


class HTTPRouteDestination(WeightedDestination):
    """``HTTPRouteDestination``: the weight is a share of the sum; the headers apply to this destination
    only."""

    headers: Headers | None = None


_PSEUDO_HEADERS = ("uri", "scheme", "method", "authority")


class HTTPMatchRequest(Message):
    """``HTTPMatchRequest``: all conditions must hold. Header names are lower-case."""

    name: Str | None = None
    uri: StringMatch | None = None
    method: StringMatch | None = None
    authority: StringMatch | None = None
    headers: dict[HeaderName, ValueMatch] = Field(default_factory=dict)
    without_headers: dict[HeaderName, ValueMatch] = Field(default_factory=dict)
    query_params: dict[NonEmptyStr, ValueMatch] = Field(default_factory=dict)
    port: PortNumber | None = None
    ignore_uri_case: Bool = False
    gateways: tuple[Gateway, ...] = ()
    scheme: NotSupportedYet = None
    source_labels: NotSupportedYet = None
    source_namespace: NotSupportedYet = None
    stat_prefix: NotSupportedYet = None

    @field_validator("headers", "without_headers")
    @classmethod
    def _no_pseudo_headers(cls, headers: dict[str, ValueMatch]) -> dict[str, ValueMatch]:
        for name in _PSEUDO_HEADERS:
            if name in headers:
                raise invalid(f"`{name}` is ignored here by Istio; match it with the field `{name}` instead")
        return headers


# The conditions of Envoy's x-envoy-retry-on and x-envoy-retry-grpc-on; a number is a status code.
_RETRY_ON = frozenset(
    {
        "5xx",
        "gateway-error",
        "connect-failure",
        "reset",
        "refused-stream",
        "retriable-4xx",
        "retriable-status-codes",
        "cancelled",
        "deadline-exceeded",
        "internal",
        "resource-exhausted",
        "unavailable",
    }
)
_RETRY_ON_LATER = frozenset(
    {"reset-before-request", "envoy-ratelimited", "retriable-headers", "http3-post-connect-failure"}
)


class HTTPRetry(Message):
    """``HTTPRetry``. ``attempts`` 0 disables retries; ``retry_on`` is a comma-separated list."""

    attempts: NonNegativeInt = 0
    per_try_timeout: DurationOrZero | None = None
    retry_on: Str = ""
    retry_remote_localities: Bool | None = None
    backoff: NotSupportedYet = None
    retry_ignore_previous_hosts: NotSupportedYet = None

    @property
    def conditions(self) -> tuple[str, ...]:
        return tuple(stripped for part in self.retry_on.split(",") if (stripped := part.strip()))

    @field_validator("retry_on")
    @classmethod
    def _known_conditions(cls, retry_on: str) -> str:
        for part in filter(None, map(str.strip, retry_on.split(","))):
            if part in _RETRY_ON_LATER:
                raise invalid(f"`{part}` is not supported yet")
            if part not in _RETRY_ON and not re.fullmatch("[1-5][0-9][0-9]", part):
                raise invalid(f"{part!r:.80} is not a retry condition or a status code")
        return retry_on


# The characters that may follow a backslash in a rewrite.
_ESCAPED = frozenset("0123456789\\")


class RegexRewrite(Message):
    """``RegexRewrite``: ``\\1`` in ``rewrite`` is the first group of ``match``."""

    match: Regex
    rewrite: OneLine

    @model_validator(mode="after")
    def _groups_exist(self) -> Self:
        groups = count_groups(self.match)
        for escaped in re.findall(r"\\(.?)", self.rewrite):
            if escaped not in _ESCAPED:
                raise invalid(
                    "`rewrite` has a backslash that is not followed by a group number or a backslash"
                )
            if escaped != "\\" and int(escaped) > groups:
                raise invalid(f"`rewrite` has \\{escaped}, but `match` has {groups} groups")
        return self


class HTTPRewrite(Message):
    """``HTTPRewrite``: ``uri`` replaces the path, or the prefix that matched."""

    uri: OneLine | None = None
    authority: OneLine | None = None
    uri_regex_rewrite: RegexRewrite | None = None

    @model_validator(mode="after")
    def _one_path_rewrite(self) -> Self:
        if self.uri is not None and self.uri_regex_rewrite is not None:
            raise invalid("should have only one of `uri` and `uriRegexRewrite`")
        if self.uri is None and self.authority is None and self.uri_regex_rewrite is None:
            raise invalid("should have `uri`, `authority` or `uriRegexRewrite`")
        return self


class RedirectPortSelection(StrEnum):
    FROM_PROTOCOL_DEFAULT = "FROM_PROTOCOL_DEFAULT"
    FROM_REQUEST_PORT = "FROM_REQUEST_PORT"


class HTTPRedirect(Message):
    """``HTTPRedirect``. ``redirect_code`` 0 is 301."""

    model_config = ConfigDict(json_schema_extra=at_most_one_of("port", "derivePort"))

    uri: OneLine | None = None
    authority: OneLine | None = None
    port: PortNumber | None = None
    derive_port: RedirectPortSelection | None = None
    scheme: Str | None = None
    redirect_code: NonNegativeInt = 0

    @field_validator("scheme")
    @classmethod
    def _known_scheme(cls, scheme: str | None) -> str | None:
        if scheme not in (None, "", "http", "https"):
            raise invalid(f"{scheme!r:.80} is neither http nor https")
        return scheme

    @field_validator("redirect_code")
    @classmethod
    def _known_code(cls, code: int) -> int:
        if code not in (0, 301, 302, 303, 307, 308):
            raise invalid(f"{code} is not one of 301, 302, 303, 307 and 308")
        return code

    @model_validator(mode="after")
    def _one_port(self) -> Self:
        if self.port is not None and self.derive_port is not None:
            raise invalid("should have only one of `port` and `derivePort`")
        return self


class HTTPBody(Message):
    """``HTTPBody``: the body of a direct response, in UTF-8."""

    string: Str | None = None
    bytes: NotSupportedYet = None


class HTTPDirectResponse(Message):
    """``HTTPDirectResponse``: a response by the proxy itself."""

    status: Annotated[NonNegativeInt, Field(ge=200, le=599)]
    body: HTTPBody | None = None


class HTTPRoute(Message):
    """``HTTPRoute``: applies if one of ``match`` does, or if ``match`` is empty; has exactly one action."""

    name: Str = ""
    match: tuple[HTTPMatchRequest, ...] = ()
    route: Annotated[tuple[HTTPRouteDestination, ...], Weighted] = ()
    redirect: HTTPRedirect | None = None
    direct_response: HTTPDirectResponse | None = None
    rewrite: HTTPRewrite | None = None
    timeout: DurationOrZero | None = None
    retries: HTTPRetry | None = None
    headers: Headers | None = None
    delegate: NotSupportedYet = None
    fault: HTTPFaultInjection | None = None
    mirror: NotSupportedYet = None
    mirrors: NotSupportedYet = None
    mirror_percent: NotSupportedYet = None
    mirror_percentage: NotSupportedYet = None
    cors_policy: CorsPolicy | None = None

    @model_validator(mode="after")
    def _one_action(self) -> Self:
        actions = (bool(self.route), self.redirect is not None, self.direct_response is not None)
        if sum(actions) != 1:
            raise invalid("should have exactly one of `route`, `redirect` and `directResponse`")
        if self.rewrite is not None and not self.route:
            raise invalid("`rewrite` needs `route`")
        if self.fault is not None and not self.route:
            raise invalid("`fault` needs `route`")
        return self
