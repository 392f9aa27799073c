"""A message that was checked, together with where it stands: what every decoder reads through.

A path is the one of the protobuf fields, as Envoy writes it:
``filter_chains[1].filters[0].typed_config.route_config.virtual_hosts[0].routes[2].route.timeout``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from sidecar.errors import ConfigError
from sidecar.xds.decode.rules import check_rules, join
from sidecar.xds.decode.supported import SUPPORTED
from sidecar.xds.decode.types import message_class

_MAX_DEPTH = 64
# Envoy refuses what does not fit its millisecond timers; protobuf's own bound on durations is wider.
_MAX_DURATION_S = 2**31


class View:
    """Read-only. ``message`` is a protobuf message, whose generated classes carry no types."""

    __slots__ = ("message", "path")

    def __init__(self, message: Any, path: str = "") -> None:
        self.message = message
        self.path = path

    def at(self, field: str) -> str:
        """The path of a field of this message."""
        return join(self.path, field)

    def error(self, reason: str, field: str = "") -> ConfigError:
        return ConfigError(self.at(field) if field else self.path, reason)

    def has(self, field: str) -> bool:
        return bool(self.message.HasField(field))

    def get(self, field: str) -> View:
        """A message inside this one; an empty one where it is not set."""
        return View(getattr(self.message, field), self.at(field))

    def find(self, field: str) -> View | None:
        return self.get(field) if self.has(field) else None

    def each(self, field: str) -> Iterator[View]:
        """The messages of a repeated field."""
        path = self.at(field)
        for index, message in enumerate(getattr(self.message, field)):
            yield View(message, f"{path}[{index}]")

    def which(self, oneof: str) -> str:
        """The field of a oneof that is set; empty where none is."""
        return self.message.WhichOneof(oneof) or ""

    def wrapped(self, field: str, default: Any) -> Any:
        """The value of a ``google.protobuf.*Value``."""
        return getattr(self.message, field).value if self.message.HasField(field) else default

    def enum_name(self, field: str) -> str:
        """The name of an enum's value, which the descriptor's rules have checked."""
        descriptor = self.message.DESCRIPTOR.fields_by_name[field].enum_type
        number = getattr(self.message, field)
        value = descriptor.values_by_number.get(number)
        if value is None:
            raise self.error(f"{number} is not a value of {descriptor.name}", field)
        return str(value.name)

    def duration_s(self, field: str, default: float) -> float:
        """Seconds of a ``google.protobuf.Duration``. Refuses negative and absurd ones, as Envoy does."""
        if not self.message.HasField(field):
            return default
        value = getattr(self.message, field)
        seconds = float(value.seconds + value.nanos / 1e9)
        if value.seconds < 0 or value.nanos < 0:
            raise self.error(f"is {seconds:g} s, but must not be negative", field)
        if value.nanos > 999_999_999 or seconds > _MAX_DURATION_S:
            raise self.error(f"is {seconds:g} s, which is no valid duration", field)
        return seconds

    def unpack(self, field: str, *allowed: str) -> View:
        """The message in a ``google.protobuf.Any``, checked. ``allowed`` are full names of messages."""
        return unpack(getattr(self.message, field), self.at(field), *allowed)

    def unpack_entry(self, field: str, key: str, *allowed: str) -> View:
        """As `unpack`, for an entry of a map."""
        return unpack(getattr(self.message, field)[key], self.at(f"{field}[{key}]"), *allowed)


def unpack(packed: Any, path: str, *allowed: str) -> View:
    """As `View.unpack`. Raises `ConfigError` for another type, for bytes that do not parse, and for whatever
    `check` refuses."""
    name = type_name(packed)
    if name not in allowed:
        if not name:
            raise ConfigError(path, "has no @type")
        raise ConfigError(path, f"type {name} is not supported here; use {' or '.join(allowed)}")
    message = message_class(name)()
    try:
        message.ParseFromString(packed.value)
    except DecodeError:
        raise ConfigError(path, f"is not a valid {name}") from None
    check(message, path)
    return View(message, path)


def type_name(packed: Any) -> str:
    """The full name of the type of a ``google.protobuf.Any``."""
    return str(packed.type_url).rpartition("/")[2]


def check(message: Message, path: str = "", depth: int = 0) -> None:
    """Raises `ConfigError` for a field that breaks a rule of its descriptor, is unknown, or not supported."""
    if depth > _MAX_DEPTH:
        raise ConfigError(path, "is nested too deeply")
    check_rules(message, path)
    name = message.DESCRIPTOR.full_name
    support = SUPPORTED.get(name)
    if support is None:
        raise ConfigError(path, f"{name} is not supported")
    unknown = UnknownFieldSet(message)
    if len(unknown):
        raise ConfigError(path, f"{name} has an unknown field, number {unknown[0].field_number}")
    for field, value in message.ListFields():
        if field.name in support.ignored:
            continue
        if field.name not in support.fields:
            raise ConfigError(join(path, field.name), "is not supported")
        if field.message_type is not None:
            _check_inside(field, value, join(path, field.name), depth + 1)


def _check_inside(field: Any, value: Any, path: str, depth: int) -> None:
    if field.message_type.file.package == "google.protobuf":
        return  # well-known types; an Any is checked when it is unpacked
    if field.message_type.GetOptions().map_entry:
        return  # maps of supported messages hold well-known types alone
    if field.is_repeated:
        for index, item in enumerate(value):
            check(item, f"{path}[{index}]", depth)
    else:
        check(value, path, depth)


def ignored_fields(message: Message) -> Mapping[str, str]:
    """The fields that are set in this very message and have no effect, with the reason."""
    support = SUPPORTED[message.DESCRIPTOR.full_name]
    return {
        field.name: support.ignored[field.name]
        for field, _ in message.ListFields()
        if field.name in support.ignored
    }
