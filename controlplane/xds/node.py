"""Converts an ``envoy.config.core.v3.Node`` to a `Proxy`, and validates it."""

from __future__ import annotations

from typing import Final

from envoy.config.core.v3.base_pb2 import Node
from google.protobuf.struct_pb2 import Struct

from controlplane.errors import ProxyError
from controlplane.model.proxy import InterceptionMode, Proxy, ProxyType
from protos import node as keys

_MAX_NODE_BYTES: Final = 64 * 1024
_MAX_VERSION_LENGTH: Final = 64
_MAX_PATH_LENGTH: Final = 256
_GRPC_USER_AGENT: Final = "gRPC"


def proxy_of(node: Node) -> Proxy:
    """Raises `ProxyError` for an invalid node."""
    if node.ByteSize() > _MAX_NODE_BYTES:
        raise ProxyError(f"node: {node.ByteSize()} bytes exceed the limit of {_MAX_NODE_BYTES}")
    try:
        identity = keys.NodeId.parse(node.id)
    except ValueError as error:
        raise ProxyError(f"node.id: {error}") from error
    metadata = node.metadata
    namespace = _text(metadata, keys.NAMESPACE) or identity.namespace
    if namespace != identity.namespace:
        raise ProxyError(
            f"node: metadata.{keys.NAMESPACE} is {namespace!r}, but the id {node.id!r} "
            f"has the namespace {identity.namespace!r}"
        )
    return Proxy(
        id=node.id,
        type=_type(node, metadata),
        namespace=namespace,
        workload=identity.workload,
        ip=identity.ip,
        labels=_labels(metadata),
        service_account=_text(metadata, keys.SERVICE_ACCOUNT),
        node=_text(metadata, keys.NODE_NAME),
        http_proxy_port=_port(metadata, keys.HTTP_PROXY_PORT),
        interception_mode=_interception_mode(metadata),
        captures_dns=_flag(metadata, keys.DNS_CAPTURE),
        identity_dir=_identity_dir(metadata),
    )


def version_of(node: Node) -> str:
    """Returns the proxy's name and version for display: ``envoy 1.40.0``."""
    version = node.user_agent_version
    if node.WhichOneof("user_agent_version_type") == "user_agent_build_version":
        number = node.user_agent_build_version.version
        version = f"{number.major_number}.{number.minor_number}.{number.patch}"
    return f"{node.user_agent_name} {version}".strip()[:_MAX_VERSION_LENGTH] or "unknown"


def _type(node: Node, metadata: Struct) -> ProxyType:
    if _text(metadata, keys.GENERATOR) == "grpc" or node.user_agent_name.startswith(_GRPC_USER_AGENT):
        return ProxyType.GRPC
    return ProxyType.SIDECAR


def _text(metadata: Struct, key: str) -> str:
    if key not in metadata.fields:
        return ""
    value = metadata.fields[key]
    if value.WhichOneof("kind") != "string_value":
        raise ProxyError(f"node.metadata.{key}: expected a string, found {value.WhichOneof('kind')}")
    return str(value.string_value)


def _labels(metadata: Struct) -> dict[str, str]:
    if keys.LABELS not in metadata.fields:
        return {}
    value = metadata.fields[keys.LABELS]
    if value.WhichOneof("kind") != "struct_value":
        raise ProxyError(f"node.metadata.{keys.LABELS}: expected a map, found {value.WhichOneof('kind')}")
    return {label: _text(value.struct_value, label) for label in value.struct_value.fields}


def _port(metadata: Struct, key: str) -> int:
    """Reads a port number. Numbers in a Struct are doubles; Istio writes numbers as strings."""
    if key not in metadata.fields:
        return 0
    value = metadata.fields[key]
    text = value.string_value or f"{value.number_value:g}"
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
        raise ProxyError(f"node.metadata.{key}: expected a port number, found {text[:20]!r}")
    return int(text)


def _flag(metadata: Struct, key: str) -> bool:
    """Reads a boolean, which Istio writes as a string."""
    if key not in metadata.fields:
        return False
    value = metadata.fields[key]
    if value.WhichOneof("kind") == "bool_value":
        return bool(value.bool_value)
    text = _text(metadata, key).lower()
    if text not in ("true", "false", ""):
        raise ProxyError(f"node.metadata.{key}: expected true or false, found {text!r:.80}")
    return text == "true"


def _identity_dir(metadata: Struct) -> str:
    directory = _text(metadata, keys.IDENTITY_DIR)
    if directory and not (directory.startswith("/") and len(directory) <= _MAX_PATH_LENGTH):
        raise ProxyError(f"node.metadata.{keys.IDENTITY_DIR}: expected a path, found {directory!r:.80}")
    return directory.rstrip("/")


def _interception_mode(metadata: Struct) -> InterceptionMode:
    name = _text(metadata, keys.INTERCEPTION_MODE) or InterceptionMode.REDIRECT.value
    try:
        return InterceptionMode(name)
    except ValueError:
        expected = ", ".join(mode.value for mode in InterceptionMode)
        raise ProxyError(
            f"node.metadata.{keys.INTERCEPTION_MODE}: expected one of {expected}, found {name!r:.80}"
        ) from None
