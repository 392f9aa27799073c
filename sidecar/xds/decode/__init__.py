"""Decodes protobuf messages into `sidecar.config`. All checks of configuration are made here."""

from sidecar.xds.decode.bootstrap import decode_bootstrap
from sidecar.xds.decode.resource import (
    Resource,
    bootstrap_json,
    decode_resource,
    resource_json,
    resource_name,
)

__all__ = [
    "Resource",
    "bootstrap_json",
    "decode_bootstrap",
    "decode_resource",
    "resource_json",
    "resource_name",
]
