from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class MetadataExchange(_message.Message):
    __slots__ = ("protocol", "enable_discovery", "additional_labels")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    ENABLE_DISCOVERY_FIELD_NUMBER: _ClassVar[int]
    ADDITIONAL_LABELS_FIELD_NUMBER: _ClassVar[int]
    protocol: str
    enable_discovery: bool
    additional_labels: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, protocol: _Optional[str] = ..., enable_discovery: _Optional[bool] = ..., additional_labels: _Optional[_Iterable[str]] = ...) -> None: ...
