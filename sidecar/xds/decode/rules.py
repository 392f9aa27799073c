"""Enforces the validation rules in the descriptors of the xDS messages (``validate.rules``).

protobuf parses all messages that fit the wire format; Envoy enforces these rules with generated code, and
refuses the same resources as this module. https://github.com/bufbuild/protoc-gen-validate
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from sidecar.errors import ConfigError
from sidecar.xds.messages import extension

Check = Callable[[Any], str]
"""Returns why a value is invalid; empty for a valid one."""

MessageCheck = Callable[[Any, str], None]
"""Raises `ConfigError` for an invalid message; the second argument is its path."""

_RULES = extension("validate.rules")
_REQUIRED = extension("validate.required")
_WRAPPERS = frozenset(
    f"google.protobuf.{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
_NUMERIC = frozenset(("float", "double", "int32", "int64", "uint32", "uint64"))
# ``well_known_regex`` with ``strict: false``: characters that no HTTP version allows in a header.
_UNSAFE_IN_HEADER = re.compile(r"[\x00\r\n]")


def check_rules(message: Message, path: str) -> None:
    """Raises `ConfigError` for the first field that breaks a rule. Messages inside this one are not
    checked."""
    for check in _message_checks(message.DESCRIPTOR):
        check(message, path)


def join(path: str, field: str) -> str:
    return f"{path}.{field}" if path else field


@cache
def _message_checks(descriptor: Descriptor) -> tuple[MessageCheck, ...]:
    checks = [check for field in descriptor.fields for check in _field_checks(field)]
    checks += [
        _one_of_is_set(oneof.name, tuple(field.name for field in oneof.fields))
        for oneof in descriptor.oneofs
        if oneof.GetOptions().Extensions[_REQUIRED]
    ]
    return tuple(checks)


def _one_of_is_set(oneof: str, fields: tuple[str, ...]) -> MessageCheck:
    def check(message: Any, path: str) -> None:
        if message.WhichOneof(oneof) is None:
            raise ConfigError(path, f"one of {', '.join(fields)} is required")

    return check


def _field_checks(field: FieldDescriptor) -> list[MessageCheck]:
    rules = field.GetOptions().Extensions[_RULES]
    kind = rules.WhichOneof("type")
    checks: list[MessageCheck] = []
    required = rules.message.required
    if kind in {"duration", "any", "timestamp"}:
        required = getattr(rules, kind).required
    if required and field.containing_oneof is None:  # another field of the oneof may be set
        checks.append(_is_set(field.name))
    if kind is None:
        return checks
    rule = getattr(rules, kind)
    if kind == "repeated":
        checks.append(_repeated(field, rule))
    elif kind == "map":
        checks.append(_map(field, rule))
    else:
        checks.append(_single(field, kind, rule))
    return checks


def _is_set(name: str) -> MessageCheck:
    def check(message: Any, path: str) -> None:
        if not message.HasField(name):
            raise ConfigError(join(path, name), "is required")

    return check


def _single(field: FieldDescriptor, kind: str, rule: Any) -> MessageCheck:
    name = field.name
    wrong = _value_check(field, kind, rule)
    wrapped = field.message_type is not None and field.message_type.full_name in _WRAPPERS
    optional = field.has_presence

    def check(message: Any, path: str) -> None:
        if optional and not message.HasField(name):
            return
        value = getattr(message, name)
        if reason := wrong(value.value if wrapped else value):
            raise ConfigError(join(path, name), reason)

    return check


def _repeated(field: FieldDescriptor, rule: Any) -> MessageCheck:
    name, minimum, maximum, unique = field.name, rule.min_items, rule.max_items, rule.unique
    kind = rule.items.WhichOneof("type")
    wrong = _value_check(field, kind, getattr(rule.items, kind)) if kind else None

    def check(message: Any, path: str) -> None:
        items = getattr(message, name)
        if len(items) < minimum:
            raise ConfigError(join(path, name), f"needs at least {minimum} item{'s' * (minimum > 1)}")
        if maximum and len(items) > maximum:
            raise ConfigError(join(path, name), f"has {len(items)} items, more than {maximum}")
        if unique and len(set(items)) < len(items):
            raise ConfigError(join(path, name), "has duplicates")
        if wrong is not None:
            for index, item in enumerate(items):
                if reason := wrong(item):
                    raise ConfigError(f"{join(path, name)}[{index}]", reason)

    return check


def _map(field: FieldDescriptor, rule: Any) -> MessageCheck:
    name = field.name

    def check(message: Any, path: str) -> None:
        entries = getattr(message, name)
        if len(entries) < rule.min_pairs:
            raise ConfigError(join(path, name), f"needs at least {rule.min_pairs} entries")
        if rule.keys.string.min_len and "" in entries:
            raise ConfigError(join(path, name), "has an empty key")

    return check


def _value_check(field: FieldDescriptor, kind: str, rule: Any) -> Check:
    if kind in _NUMERIC:
        return _limits(rule, float)
    if kind == "duration":
        return _limits(rule, _seconds)
    if kind == "enum":
        return _enum(field, rule)
    simple = {"string": _string, "bytes": _bytes, "bool": _bool}.get(kind, _anything)
    return simple(rule)


def _bool(rule: Any) -> Check:
    return lambda value: "" if value == rule.const else f"must be {str(rule.const).lower()}"


def _anything(rule: Any) -> Check:
    """`any` and `timestamp` have no rule other than `required`."""
    return lambda value: ""


def _seconds(duration: Any) -> float:
    return float(duration.seconds + duration.nanos / 1e9)


def _limits(rule: Any, number: Callable[[Any], float]) -> Check:
    above = number(rule.gt) if rule.HasField("gt") else None
    least = number(rule.gte) if rule.HasField("gte") else None
    below = number(rule.lt) if rule.HasField("lt") else None
    most = number(rule.lte) if rule.HasField("lte") else None

    def check(raw: Any) -> str:
        value = number(raw)
        if above is not None and not value > above:
            return f"is {value:g}, but must be greater than {above:g}"
        if least is not None and not value >= least:
            return f"is {value:g}, but must be at least {least:g}"
        if below is not None and not value < below:
            return f"is {value:g}, but must be less than {below:g}"
        if most is not None and not value <= most:
            return f"is {value:g}, but must be at most {most:g}"
        return ""

    return check


def _string(rule: Any) -> Check:
    pattern = re.compile(rule.pattern) if rule.pattern else None
    minimum, maximum_bytes, ignore_empty = rule.min_len, rule.max_bytes, rule.ignore_empty
    allowed = frozenset(getattr(rule, "in"))
    header = bool(rule.well_known_regex)

    def check(value: str) -> str:
        if not value:
            return "must not be empty" if minimum and not ignore_empty else ""
        if len(value) < minimum or (maximum_bytes and len(value.encode()) > maximum_bytes):
            return f"has {len(value)} characters, and is too {'short' if len(value) < minimum else 'long'}"
        if header and _UNSAFE_IN_HEADER.search(value):
            return "contains a NUL, a carriage return or a newline"
        if allowed and value not in allowed:
            return f"is {value!r}, which is not one of {', '.join(sorted(allowed))}"
        if pattern is not None and not pattern.search(value):
            return f"does not match {rule.pattern!r}"
        return ""

    return check


def _bytes(rule: Any) -> Check:
    def check(value: bytes) -> str:
        if len(value) < rule.min_len:
            return "is too short" if value else "must not be empty"
        if rule.max_len and len(value) > rule.max_len:
            return f"is longer than {rule.max_len} bytes"
        return ""

    return check


def _enum(field: FieldDescriptor, rule: Any) -> Check:
    enum = field.enum_type
    assert enum is not None  # enum rules are on enum fields
    names = enum.values_by_number
    defined_only, forbidden = rule.defined_only, frozenset(rule.not_in)

    def check(value: int) -> str:
        if defined_only and value not in names:
            return f"{value} is not a value of {enum.name}"
        return f"must not be {names[value].name}" if value in forbidden else ""

    return check
