"""The messages of gRPC's interoperability tests, from ``grpc/testing/messages.proto``, made without generated
code."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "grpc.testing"
_TYPES = {
    "int32": descriptor_pb2.FieldDescriptorProto.TYPE_INT32,
    "bool": descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
    "bytes": descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
}
# Fields by number, name and type; ``*`` repeats.
_MESSAGES = {
    "Empty": (),
    "BoolValue": ((1, "value", "bool"),),
    "Payload": ((1, "type", "int32"), (2, "body", "bytes")),
    "EchoStatus": ((1, "code", "int32"), (2, "message", "string")),
    "SimpleRequest": (
        (1, "response_type", "int32"),
        (2, "response_size", "int32"),
        (3, "payload", "Payload"),
        (6, "response_compressed", "BoolValue"),
        (7, "response_status", "EchoStatus"),
        (8, "expect_compressed", "BoolValue"),
    ),
    "SimpleResponse": ((1, "payload", "Payload"),),
    "StreamingInputCallRequest": ((1, "payload", "Payload"), (2, "expect_compressed", "BoolValue")),
    "StreamingInputCallResponse": ((1, "aggregated_payload_size", "int32"),),
    "ResponseParameters": ((1, "size", "int32"), (2, "interval_us", "int32"), (3, "compressed", "BoolValue")),
    "StreamingOutputCallRequest": (
        (1, "response_type", "int32"),
        (2, "response_parameters", "*ResponseParameters"),
        (3, "payload", "Payload"),
        (7, "response_status", "EchoStatus"),
    ),
    "StreamingOutputCallResponse": ((1, "payload", "Payload"),),
}


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="tests/interop/grpc/messages.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, field, kind in fields:
            label = descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
            if kind.startswith("*"):
                label = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
            made = message.field.add(number=number, name=field, label=label)
            if kind in _TYPES:
                made.type = _TYPES[kind]
            else:
                made.type = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
                made.type_name = f".{_PACKAGE}.{kind.removeprefix('*')}"
    return file


_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(_file())


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


Empty = _message("Empty")
Payload = _message("Payload")
SimpleRequest = _message("SimpleRequest")
SimpleResponse = _message("SimpleResponse")
StreamingInputCallRequest = _message("StreamingInputCallRequest")
StreamingInputCallResponse = _message("StreamingInputCallResponse")
ResponseParameters = _message("ResponseParameters")
StreamingOutputCallRequest = _message("StreamingOutputCallRequest")
StreamingOutputCallResponse = _message("StreamingOutputCallResponse")
