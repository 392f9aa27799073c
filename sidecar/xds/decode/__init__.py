"""protobuf in, `sidecar.config` out: every check is made here, and only here is protobuf touched."""

from sidecar.xds.decode.bootstrap import decode_bootstrap
from sidecar.xds.decode.resource import Resource, decode_resource, resource_json, resource_name

__all__ = ["Resource", "decode_bootstrap", "decode_resource", "resource_json", "resource_name"]
