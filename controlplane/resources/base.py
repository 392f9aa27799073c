"""The base of every resource model: the strict message, and the value types that Istio's API shares.

A model describes the ``spec`` of a resource. Attributes are Istio's fields in snake_case; documents may write
them in camelCase or snake_case, as in protobuf's JSON mapping. A missing message is None, a missing list is
``()``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Self, TypeVar

import re2
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    Strict,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import CoreSchema

from controlplane.resources.ip_addresses import is_ip_address, is_ip_range
from protos.envoy_runtime import LARGEST_REGEX

ItemT = TypeVar("ItemT")


class Message(BaseModel):
    """A frozen message that rejects unknown fields."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
    )


def invalid(reason: str) -> PydanticCustomError:
    """The error that a validator raises. ``reason`` becomes part of the resource's status, unchanged."""
    return PydanticCustomError("invalid", "{reason}", {"reason": reason})


def _refuse(_: object) -> None:
    raise invalid("is an Istio field that is not supported yet")


# An Istio field that is not supported: it is reported by name, never dropped silently.
NotSupportedYet = Annotated[None, BeforeValidator(_refuse)]

# Scalars are not converted: `version: 1.0` is a number in YAML, and a label must be a string.
Str = Annotated[str, Strict()]
NonEmptyStr = Annotated[str, Strict(), Field(min_length=1)]
Bool = Annotated[bool, Strict()]
NonNegativeInt = Annotated[int, Strict(), Field(ge=0, le=2**31 - 1)]
Uint32 = Annotated[int, Strict(), Field(ge=0, le=2**32 - 1)]
Percent = Annotated[int, Strict(), Field(ge=0, le=100)]
PortNumber = Annotated[int, Strict(), Field(ge=1, le=65535)]


def _check_not_empty(items: tuple[ItemT, ...]) -> tuple[ItemT, ...]:
    if not items:
        raise invalid("should have at least one item")
    return items


@dataclass(frozen=True, slots=True)
class _NotEmpty(AfterValidator):
    """Validates after the items: pydantic's own `min_length` would also report a list whose only item is
    faulty."""

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**handler(core_schema), "minItems": 1}


AtLeastOne = _NotEmpty(_check_not_empty)

_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:h|ms|us|ns|m|s))+")
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(h|ms|us|ns|m|s)")
_MICROSECONDS = {"h": 3.6e9, "m": 6e7, "s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}
_LONGEST_DURATION_US = 1e6 * 2**31  # the limit of proxies
_MILLISECOND = timedelta(milliseconds=1)
_MICROSECOND = timedelta(microseconds=1)


def parse_duration(value: object) -> timedelta:
    """Parses a duration in the format of Go: ``10s``, ``1.5s``, ``100ms``, ``1h30m``. Raises a validation
    error."""
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str) or len(value) > 64 or not _DURATION.fullmatch(value):
        raise invalid(f"{value!r:.80} is not a duration such as 10s, 1.5s, 100ms or 1h30m")
    microseconds = sum(float(number) * _MICROSECONDS[unit] for number, unit in _DURATION_PART.findall(value))
    if microseconds > _LONGEST_DURATION_US:
        raise invalid(f"{value} is longer than 68 years")
    return timedelta(microseconds=round(microseconds))


def format_duration(value: timedelta) -> str:
    """Formats a duration so that `parse_duration` can read it."""
    return f"{value // _MICROSECOND}us"


# pydantic's own format is ISO 8601.
_AS_WRITTEN = PlainSerializer(format_duration, return_type=str, when_used="json")


def _at_least_a_millisecond(value: timedelta) -> timedelta:
    if value < _MILLISECOND:
        raise invalid("should be 1ms or more")
    return value


def _duration_schema(description: str) -> WithJsonSchema:
    """The schema of a duration in a document: a string."""
    pattern = f"^{_DURATION.pattern}$"
    return WithJsonSchema({"type": "string", "maxLength": 64, "pattern": pattern, "description": description})


# Istio's precision is 1 ms, which is also its shortest duration.
Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    AfterValidator(_at_least_a_millisecond),
    _AS_WRITTEN,
    _duration_schema("A duration of 1ms or more, such as 10s, 1.5s, 100ms or 1h30m."),
]
# Here 0s means "never".
DurationOrZero = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    _AS_WRITTEN,
    _duration_schema("A duration, such as 10s, 1.5s, 100ms or 1h30m; 0s means never."),
]


def count_groups(pattern: str) -> int:
    """Returns the number of groups of an RE2 regular expression, compiled as proxies do it: each byte is a
    character (RE2's Latin-1). Raises a validation error if the expression is invalid, or larger than the
    limit of Envoy."""
    if not pattern:
        raise invalid("should not be empty")
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.log_errors = False
    try:
        compiled = re2.compile(pattern.encode(), options)
    except re2.error as error:
        reason = error.args[0] if error.args else error
        reason = reason.decode(errors="replace") if isinstance(reason, bytes) else reason
        raise invalid(f"{pattern!r:.200} is not an RE2 regular expression: {reason}") from error
    except UnicodeEncodeError as error:
        raise invalid("has a character that cannot be encoded") from error
    size = int(compiled.programsize)
    if size > LARGEST_REGEX:
        raise invalid(f"{pattern!r:.200} is too large: {size} instructions; the limit is {LARGEST_REGEX}")
    return int(compiled.groups)


def _check_regex(pattern: str) -> str:
    count_groups(pattern)
    return pattern


Regex = Annotated[Str, AfterValidator(_check_regex), Field(description="A regular expression (RE2).")]


def _check_ip_address(address: str) -> str:
    if not is_ip_address(address):
        raise invalid(f"{address!r:.80} is not an IP address")
    return address


def _check_ip_range(address: str) -> str:
    if not is_ip_range(address):
        raise invalid(f"{address!r:.80} is not an IP address or a CIDR")
    return address


IpAddress = Annotated[Str, AfterValidator(_check_ip_address), Field(description="An IP address.")]
IpRange = Annotated[Str, AfterValidator(_check_ip_range), Field(description="An IP address, or a CIDR.")]

LABEL = r"[a-z0-9_](?:[-a-z0-9_]{0,61}[a-z0-9_])?"
_HOSTNAME = re.compile(rf"{LABEL}(?:\.{LABEL})*")
_WILDCARD_HOST = re.compile(rf"\*|\*[-.]{LABEL}(?:\.{LABEL})*")
_IPV6 = re.compile(r"[0-9a-f:.]*:[0-9a-f:.]*")


def _check_host(value: str) -> str:
    host = value.lower()
    if len(host) > 253 or not (_HOSTNAME.fullmatch(host) or _IPV6.fullmatch(host)):
        raise invalid(f"{value!r:.80} is not a host name")
    return host


def check_wildcard_host(value: str) -> str:
    return value.lower() if _WILDCARD_HOST.fullmatch(value.lower()) else _check_host(value)


Host = Annotated[
    Str,
    AfterValidator(_check_host),
    Field(description="A host name; without a dot, a service of the resource's own namespace."),
]
# A wildcard matches the leftmost label or labels, or the start of a label: `*`, `*.example.com`,
# `*-v1.example.com`.
WildcardHost = Annotated[
    Str,
    AfterValidator(check_wildcard_host),
    Field(description="A host name, or a wildcard such as *.example.com."),
]

HTTP_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def _check_header_name(name: str) -> str:
    if not HTTP_TOKEN.fullmatch(name):  # RFC 9110 5.6.2
        raise invalid(f"{name!r:.80} is not a header name")
    return name.lower()


HeaderName = Annotated[Str, AfterValidator(_check_header_name), Field(description="A header's name.")]


def _check_namespace_pattern(value: str) -> str:
    if value not in ("*", ".", "~") and not re.fullmatch(LABEL, value):
        raise invalid(f"{value!r:.80} is not a namespace, '.' (this namespace) or '*' (all)")
    return value


# `exportTo`: the namespaces that see a resource.
ExportTo = Annotated[
    Str,
    AfterValidator(_check_namespace_pattern),
    Field(description="A namespace that sees the resource; '.' is its own, '*' all, '~' none."),
]


def exactly_one_of(*fields: str) -> dict[str, Any]:
    """Extends a model's JSON schema: documents have exactly one of the fields."""
    return {"oneOf": [{"required": [field]} for field in fields]}


def at_most_one_of(*fields: str) -> dict[str, Any]:
    """Extends a model's JSON schema: documents have at most one of the fields."""
    one = [{"required": [field]} for field in fields]
    return {"oneOf": [{"not": {"anyOf": one}}, *one]}


class StringMatch(Message):
    """``StringMatch``: exactly one of the three fields. A regex (RE2) matches the whole value."""

    model_config = ConfigDict(json_schema_extra=exactly_one_of("exact", "prefix", "regex"))

    exact: Str | None = None
    prefix: Str | None = None
    regex: Regex | None = None

    @property
    def is_presence(self) -> bool:
        return self.exact is None and self.prefix is None and self.regex is None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if sum(value is not None for value in (self.exact, self.prefix, self.regex)) != 1:
            raise invalid("should have exactly one of `exact`, `prefix` and `regex`")
        return self


class ValueMatch(StringMatch):
    """A ``StringMatch`` for the value of a header or query parameter. An empty one matches if it is
    present."""

    model_config = ConfigDict(json_schema_extra=at_most_one_of("exact", "prefix", "regex"))

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if sum(value is not None for value in (self.exact, self.prefix, self.regex)) > 1:
            raise invalid("should have at most one of `exact`, `prefix` and `regex`")
        return self


class PortSelector(Message):
    """``PortSelector``: a port of a service, by number."""

    number: PortNumber


class WorkloadSelector(Message):
    """``WorkloadSelector``: workloads that have all of these labels. An empty selector selects the whole
    namespace."""

    labels: dict[Str, Str] = Field(default_factory=dict)
