"""Messages in protobuf's JSON form, with secrets redacted, as in Envoy's admin server."""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct

from sidecar.xds.messages import extension, message_class

_SENSITIVE = extension("udpa.annotations.sensitive")
_REDACTED = "[redacted]"


def to_json(message: Any) -> dict[str, Any]:
    """Field names are those of the .proto files. Of an Any of an unknown type, only the type is shown."""
    copy = type(message)()
    copy.CopyFrom(message)
    _redact(copy)
    form: dict[str, Any] = json_format.MessageToDict(copy, preserving_proto_field_name=True)
    return form


def _redact(message: Any) -> None:
    if message.DESCRIPTOR.full_name == AnyMessage.DESCRIPTOR.full_name:
        _redact_packed(message)
        return
    for field, value in message.ListFields():
        if field.GetOptions().Extensions[_SENSITIVE]:
            _blank(message, field)
        elif field.message_type is None:
            continue
        elif field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is not None:
                for key in value:
                    _redact(value[key])
        elif field.is_repeated:
            for item in value:
                _redact(item)
        else:
            _redact(value)


def _redact_packed(packed: Any) -> None:
    name = packed.type_url.rpartition("/")[2]
    try:
        inner = message_class(name)()
        inner.ParseFromString(packed.value)
    except (KeyError, DecodeError):
        # It has no JSON form, and it can hold a secret.
        packed.Pack(ParseDict({"not shown": packed.type_url}, Struct()))
        return
    _redact(inner)
    packed.value = inner.SerializeToString(deterministic=True)


def _blank(message: Any, field: Any) -> None:
    """Keeps the shape of a sensitive message: the fields that are set are visible, but not their values."""
    if field.message_type is not None:
        inner = getattr(message, field.name)
        for item in inner if field.is_repeated else (inner,):
            for inner_field, _ in item.ListFields():
                _blank(item, inner_field)
        return
    if field.type == field.TYPE_STRING:
        blanked: Any = _REDACTED
    elif field.type == field.TYPE_BYTES:
        blanked = _REDACTED.encode()
    else:
        message.ClearField(field.name)
        return
    if field.is_repeated:
        values = getattr(message, field.name)
        values[:] = [blanked] * len(values)
    else:
        setattr(message, field.name, blanked)
