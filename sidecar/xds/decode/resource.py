"""Decodes a discovered resource: from bytes to its name and a frozen dataclass, or a `ConfigError`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from typing import Any

from google.protobuf.message import DecodeError

from protos import type_urls
from sidecar.config.cluster import ClusterConfig
from sidecar.config.endpoint import LoadAssignment
from sidecar.config.listener import Listener
from sidecar.config.name_table import NameTable
from sidecar.config.route import RouteConfiguration
from sidecar.errors import ConfigError
from sidecar.xds.decode.cluster import decode_cluster
from sidecar.xds.decode.endpoint import decode_load_assignment
from sidecar.xds.decode.json_form import to_json
from sidecar.xds.decode.listener import decode_listener
from sidecar.xds.decode.name_table import decode_name_table
from sidecar.xds.decode.route import decode_route_configuration
from sidecar.xds.decode.supported import SUPPORTED
from sidecar.xds.decode.view import View, check
from sidecar.xds.messages import message_class

Resource = Listener | RouteConfiguration | ClusterConfig | LoadAssignment | NameTable

_DECODERS: Mapping[str, Callable[[View, Set[str]], Resource]] = {
    type_urls.LISTENER: decode_listener,
    type_urls.ROUTE: lambda view, _: decode_route_configuration(view),
    type_urls.CLUSTER: decode_cluster,
    type_urls.ENDPOINT: lambda view, _: decode_load_assignment(view),
    type_urls.NAME_TABLE: lambda view, _: decode_name_table(view),
}


def resource_name(type_url: str, body: bytes) -> str:
    """The name in the resource itself. Raises `ConfigError` for bytes that do not parse."""
    return _name(type_url, _parse(type_url, body))


def decode_resource(type_url: str, body: bytes, secrets: Set[str] = frozenset()) -> Resource:
    """Raises `ConfigError` with the path of the field that is invalid or not supported."""
    message = _parse(type_url, body)
    check(message, SUPPORTED)
    if not _name(type_url, message):
        raise ConfigError("name", "must not be empty")
    return _DECODERS[type_url](View(message, SUPPORTED), secrets)


def resource_json(type_url: str, body: bytes) -> Any:
    """The protobuf JSON form with its ``@type``, private keys redacted; for a dump."""
    return {"@type": type_url, **to_json(_parse(type_url, body))}


def bootstrap_json(message: bytes) -> dict[str, Any]:
    """As `resource_json`, of a serialized ``Bootstrap``."""
    return to_json(message_class("envoy.config.bootstrap.v3.Bootstrap").FromString(message))


def _parse(type_url: str, body: bytes) -> Any:
    message = message_class(type_url.rpartition("/")[2])()
    try:
        message.ParseFromString(body)
    except DecodeError:
        raise ConfigError("", f"is not a valid {type_url.rpartition('/')[2]}") from None
    return message


def _name(type_url: str, message: Any) -> str:
    if type_url == type_urls.NAME_TABLE:
        return type_urls.NAME_TABLE_NAME
    return str(message.cluster_name if type_url == type_urls.ENDPOINT else message.name)
