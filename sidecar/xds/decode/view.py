"""A checked message and its path. Decoders read messages through it.

The path consists of protobuf field names, as in Envoy:
``filter_chains[1].filters[0].typed_config.route_config.virtual_hosts[0].routes[2].route.timeout``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from sidecar.errors import ConfigError
from sidecar.xds.decode.rules import check_rules, join
from sidecar.xds.decode.support import SupportTable
from sidecar.xds.messages import message_class

# A configuration in its JSON form, of a type that the sender need not know.
TYPED_STRUCTS = frozenset(("udpa.type.v1.TypedStruct", "xds.type.v3.TypedStruct"))
_MAX_DEPTH = 64
# Envoy refuses durations that do not fit its millisecond timers; protobuf's own limit is higher.
_MAX_DURATION_S = 2**31


class View:
    """Read-only. ``message`` is a protobuf message, whose generated classes carry no types. ``table``
    declares the messages that are supported."""

    __slots__ = ("message", "path", "table")

    def __init__(self, message: Any, table: SupportTable, path: str = "") -> None:
        self.message = message
        self.table = table
        self.path = path

    def at(self, field: str) -> str:
        """The path of a field of this message."""
        return join(self.path, field)

    def error(self, reason: str, field: str = "") -> ConfigError:
        return ConfigError(self.at(field) if field else self.path, reason)

    def has(self, field: str) -> bool:
        return bool(self.message.HasField(field))

    def get(self, field: str) -> View:
        """A message inside this one; an empty one if the field is not set."""
        return self._inside(getattr(self.message, field), self.at(field))

    def find(self, field: str) -> View | None:
        return self.get(field) if self.has(field) else None

    def each(self, field: str) -> Iterator[View]:
        """The messages of a repeated field."""
        path = self.at(field)
        for index, message in enumerate(getattr(self.message, field)):
            yield self._inside(message, f"{path}[{index}]")

    def entries(self, field: str) -> Iterator[tuple[str, View]]:
        """The messages of a map by their keys, in the order of the keys."""
        messages = getattr(self.message, field)
        for key in sorted(messages):
            yield key, self._inside(messages[key], self.at(f"{field}[{key}]"))

    def which(self, oneof: str) -> str:
        """The field of a oneof that is set; empty if none is."""
        return self.message.WhichOneof(oneof) or ""

    def wrapped(self, field: str, default: Any) -> Any:
        """The value of a ``google.protobuf.*Value``."""
        return getattr(self.message, field).value if self.message.HasField(field) else default

    def enum_name(self, field: str) -> str:
        """The name of an enum's value. Raises `ConfigError` for a number that the enum does not define."""
        descriptor = self.message.DESCRIPTOR.fields_by_name[field].enum_type
        number = getattr(self.message, field)
        value = descriptor.values_by_number.get(number)
        if value is None:
            raise self.error(f"{number} is not a value of {descriptor.name}", field)
        return str(value.name)

    def duration_s(self, field: str, default: float) -> float:
        """Seconds of a ``google.protobuf.Duration``. Raises `ConfigError` if it is negative or too long, as
        Envoy does."""
        if not self.message.HasField(field):
            return default
        value = getattr(self.message, field)
        seconds = float(value.seconds + value.nanos / 1e9)
        if value.seconds < 0 or value.nanos < 0:
            raise self.error(f"is {seconds:g} s, but must not be negative", field)
        if value.nanos > 999_999_999 or seconds > _MAX_DURATION_S:
            raise self.error(f"is {seconds:g} s, which is not a valid duration", field)
        return seconds

    def full_name(self) -> str:
        return str(self.message.DESCRIPTOR.full_name)

    def packed_type(self, field: str) -> str:
        """The full name of the type of a ``google.protobuf.Any``, or of the one in its ``TypedStruct``; empty
        if the field is not set. Raises `ConfigError` for an invalid ``TypedStruct``."""
        packed = getattr(self.message, field)
        name = type_name(packed)
        return name if name not in TYPED_STRUCTS else type_name(_parse(name, packed.value, self.at(field)))

    def unpack(self, field: str, *allowed: str) -> View:
        """The message in a ``google.protobuf.Any``, checked. ``allowed`` are full names of messages.
        Raises `ConfigError` for another type, invalid bytes, and a message that `check` refuses."""
        return self._unpack(getattr(self.message, field), self.at(field), allowed)

    def unpack_entry(self, field: str, key: str, *allowed: str) -> View:
        """The same as `unpack`, for an entry of a map."""
        return self._unpack(getattr(self.message, field)[key], self.at(f"{field}[{key}]"), allowed)

    def _unpack(self, packed: Any, path: str, allowed: tuple[str, ...]) -> View:
        name = type_name(packed)
        struct = _parse(name, packed.value, path) if name in TYPED_STRUCTS else None
        if struct is not None:
            name = type_name(struct)
        if name not in allowed:
            if not name:
                raise ConfigError(path, "has no @type")
            raise ConfigError(path, f"type {name} is not supported here; use {' or '.join(allowed)}")
        message = _parse(name, packed.value, path) if struct is None else _from_struct(name, struct, path)
        check(message, self.table, path)
        return self._inside(message, path)

    def _inside(self, message: Any, path: str) -> View:
        return type(self)(message, self.table, path)


def type_name(packed: Any) -> str:
    """The full name of the type of a ``google.protobuf.Any``, or of a ``TypedStruct``."""
    return str(packed.type_url).rpartition("/")[2]


def _parse(name: str, data: bytes, path: str) -> Any:
    message = message_class(name)()
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise ConfigError(path, f"is not a valid {name}") from None
    return message


def _from_struct(name: str, struct: Any, path: str) -> Any:
    """The message whose JSON form is the value of a ``TypedStruct``."""
    try:
        return ParseDict(MessageToDict(struct.value), message_class(name)())
    except (ParseError, ValueError) as error:  # a number that JSON does not have is a ValueError
        raise ConfigError(path, f"is not a valid {name}: {error}") from None


def check(message: Message, table: SupportTable, path: str = "", depth: int = 0) -> None:
    """Raises `ConfigError` for a field that breaks a rule of its descriptor, that is unknown, or that is not
    supported."""
    if depth > _MAX_DEPTH:
        raise ConfigError(path, "is nested too deeply")
    check_rules(message, path)
    name = message.DESCRIPTOR.full_name
    support = table.get(name)
    if support is None:
        raise ConfigError(path, f"{name} is not supported")
    unknown = UnknownFieldSet(message)
    if len(unknown):
        raise ConfigError(path, f"{name} has an unknown field, number {unknown[0].field_number}")
    for field, value in message.ListFields():
        if field.name not in support.accepted:
            raise ConfigError(join(path, field.name), "is not supported")
        if field.message_type is not None and field.name not in support.without_effect:
            _check_inside(field, value, table, join(path, field.name), depth + 1)


def _check_inside(field: Any, value: Any, table: SupportTable, path: str, depth: int) -> None:
    kind = field.message_type
    if kind.file.package == "google.protobuf":
        return  # well-known types; an Any is checked when it is unpacked
    if kind.GetOptions().map_entry:
        inner = kind.fields_by_name["value"].message_type
        if inner is not None and inner.file.package != "google.protobuf":
            for key in sorted(value):
                check(value[key], table, f"{path}[{key}]", depth)
    elif field.is_repeated:
        for index, item in enumerate(value):
            check(item, table, f"{path}[{index}]", depth)
    else:
        check(value, table, path, depth)
