"""Parts that many xDS resources contain."""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import UInt32Value

# xDS over the existing stream of the proxy.
ADS: Final = {"ads": {}, "resource_api_version": "V3"}


def packed(message: Message) -> any_pb2.Any:
    """The configuration of a typed extension. Maps are sorted, so that equal messages have equal bytes."""
    container = any_pb2.Any()
    container.Pack(message, deterministic=True)
    return container


def extension(name: str, message: Message) -> dict[str, Any]:
    """``{name, typed_config}``: a filter, a transport socket, a retry predicate."""
    return {"name": name, "typed_config": packed(message)}


def uint32(value: int) -> UInt32Value:
    return UInt32Value(value=value)
