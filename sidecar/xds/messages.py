"""The protobuf messages of xDS, without generated code: ``protos/xds.binpb`` has their descriptors."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

# These files of protobuf itself are imported by those of xDS.
from google.protobuf import (  # noqa: F401
    any_pb2,
    descriptor_pb2,
    duration_pb2,
    empty_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor_pool import Default
from google.protobuf.message_factory import GetMessageClass

import protos


def _load(path: Path) -> None:
    """The format is that of `protos.generate_xds`."""
    content, start = path.read_bytes(), 0
    while start < len(content):
        end = start + 4 + int.from_bytes(content[start : start + 4], "big")
        Default().AddSerializedFile(content[start + 4 : end])
        start = end


_load(Path(protos.__path__[0]) / "xds.binpb")


@cache
def message_class(full_name: str) -> Any:
    """The class of a message. Raises ``KeyError`` for an unknown one."""
    return GetMessageClass(Default().FindMessageTypeByName(full_name))


def extension(full_name: str) -> Any:
    """The extension of an option, such as ``validate.rules``."""
    return Default().FindExtensionByName(full_name)
