import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Reporter(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNSPECIFIED: _ClassVar[Reporter]
    SERVER_GATEWAY: _ClassVar[Reporter]
UNSPECIFIED: Reporter
SERVER_GATEWAY: Reporter

class PluginConfig(_message.Message):
    __slots__ = ("debug", "max_peer_cache_size", "stat_prefix", "field_separator", "value_separator", "disable_host_header_fallback", "tcp_reporting_duration", "metrics", "definitions", "reporter", "rotation_interval", "graceful_deletion_interval")
    DEBUG_FIELD_NUMBER: _ClassVar[int]
    MAX_PEER_CACHE_SIZE_FIELD_NUMBER: _ClassVar[int]
    STAT_PREFIX_FIELD_NUMBER: _ClassVar[int]
    FIELD_SEPARATOR_FIELD_NUMBER: _ClassVar[int]
    VALUE_SEPARATOR_FIELD_NUMBER: _ClassVar[int]
    DISABLE_HOST_HEADER_FALLBACK_FIELD_NUMBER: _ClassVar[int]
    TCP_REPORTING_DURATION_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    DEFINITIONS_FIELD_NUMBER: _ClassVar[int]
    REPORTER_FIELD_NUMBER: _ClassVar[int]
    ROTATION_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    GRACEFUL_DELETION_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    debug: bool
    max_peer_cache_size: int
    stat_prefix: str
    field_separator: str
    value_separator: str
    disable_host_header_fallback: bool
    tcp_reporting_duration: _duration_pb2.Duration
    metrics: _containers.RepeatedCompositeFieldContainer[_struct_pb2.Struct]
    definitions: _containers.RepeatedCompositeFieldContainer[_struct_pb2.Struct]
    reporter: Reporter
    rotation_interval: _duration_pb2.Duration
    graceful_deletion_interval: _duration_pb2.Duration
    def __init__(self, debug: _Optional[bool] = ..., max_peer_cache_size: _Optional[int] = ..., stat_prefix: _Optional[str] = ..., field_separator: _Optional[str] = ..., value_separator: _Optional[str] = ..., disable_host_header_fallback: _Optional[bool] = ..., tcp_reporting_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., metrics: _Optional[_Iterable[_Union[_struct_pb2.Struct, _Mapping]]] = ..., definitions: _Optional[_Iterable[_Union[_struct_pb2.Struct, _Mapping]]] = ..., reporter: _Optional[_Union[Reporter, str]] = ..., rotation_interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., graceful_deletion_interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...
