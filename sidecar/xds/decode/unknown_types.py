"""JSON documents with an Any of an unknown type.

protobuf refuses to parse such a document. Over xDS, an Any is not parsed before a decoder reads it, so that
an unknown type in a field without effect is accepted. This module makes bootstrap files behave in the same
way.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pool import Default
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.wrappers_pb2 import StringValue

_ANY = "google.protobuf.Any"
_PLACEHOLDER = f"type.googleapis.com/{StringValue.DESCRIPTOR.full_name}"
_MARK = "\ue000type "  # a private use character: no configuration begins with it
_MAX_DEPTH = 200  # protobuf refuses half of this depth


def hide(document: Any, descriptor: Descriptor) -> Any:
    """The document, with each Any of an unknown type replaced by one that protobuf can parse; `restore` puts
    the type back. Without such an Any, it is the same object. Parts that do not fit the messages are not
    changed: protobuf reports them."""
    return _hide(document, descriptor, 0)


def _hide(value: Any, descriptor: Descriptor, depth: int) -> Any:
    if not isinstance(value, Mapping) or depth > _MAX_DEPTH:
        return value
    if descriptor.full_name != _ANY:
        return _hide_fields(value, descriptor, depth)
    type_url = value.get("@type")
    if not isinstance(type_url, str):
        return value
    packed = _descriptor(type_url)
    if packed is None:
        return {"@type": _PLACEHOLDER, "value": _MARK + type_url}
    return _hide_fields(value, packed, depth)


def _hide_fields(value: Mapping[str, Any], descriptor: Descriptor, depth: int) -> Any:
    if descriptor.file.package == "google.protobuf":
        return value  # well-known types have a special JSON form
    fields = _fields(descriptor)
    changed = {}
    for name, inner in value.items():
        hidden = _hide_field(inner, fields.get(name), depth + 1)
        if hidden is not inner:
            changed[name] = hidden
    return {**value, **changed} if changed else value


@cache
def _fields(descriptor: Descriptor) -> dict[str, FieldDescriptor]:
    return {name: field for field in descriptor.fields for name in (field.name, field.json_name)}


def _hide_field(value: Any, field: FieldDescriptor | None, depth: int) -> Any:
    if field is None or field.message_type is None:
        return value
    message = field.message_type
    if message.GetOptions().map_entry:
        entry = message.fields_by_name["value"].message_type
        if entry is None or not isinstance(value, Mapping):
            return value
        return {key: _hide(inner, entry, depth) for key, inner in value.items()}
    if field.is_repeated and isinstance(value, list):
        items = [_hide(item, message, depth) for item in value]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    return _hide(value, message, depth)


def _descriptor(type_url: str) -> Descriptor | None:
    try:
        descriptor: Descriptor = Default().FindMessageTypeByName(type_url.rpartition("/")[2])
    except KeyError:
        return None
    return descriptor


def restore(message: Message) -> bool:
    """Gives each Any that was replaced its type again, without contents. Returns whether there was one."""
    if message.DESCRIPTOR.full_name == _ANY:
        return _restore_any(message)
    restored = False
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is None:
                continue
            items = list(value.values())
        else:
            items = list(value) if field.is_repeated else [value]
        for item in items:
            restored = restore(item) or restored
    return restored


def _restore_any(packed: Any) -> bool:
    descriptor = _descriptor(packed.type_url)
    if descriptor is None:
        return False
    inner = GetMessageClass(descriptor)()
    try:
        inner.ParseFromString(packed.value)
    except DecodeError:
        return False
    if isinstance(inner, StringValue):
        if not inner.value.startswith(_MARK):
            return False
        packed.type_url = inner.value.removeprefix(_MARK)
        packed.value = b""
        return True
    if not restore(inner):
        return False
    packed.value = inner.SerializeToString(deterministic=True)
    return True
