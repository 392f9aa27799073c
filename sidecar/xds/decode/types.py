"""Every message that may stand in a ``google.protobuf.Any``: to import its module is to register it, so
that it can be found by its name, here and when JSON is read or written."""

from __future__ import annotations

from typing import Any

from envoy.extensions.access_loggers.file.v3 import file_pb2
from envoy.extensions.access_loggers.stream.v3 import stream_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.listener.http_inspector.v3 import http_inspector_pb2
from envoy.extensions.filters.listener.original_dst.v3 import original_dst_pb2
from envoy.extensions.filters.listener.tls_inspector.v3 import tls_inspector_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.extensions.network.dns_resolver.cares.v3 import cares_dns_resolver_pb2
from envoy.extensions.request_id.uuid.v3 import uuid_pb2
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2
from envoy.extensions.transport_sockets.raw_buffer.v3 import raw_buffer_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from google.protobuf.message_factory import GetMessageClass

_MODULES = (
    file_pb2,
    stream_pb2,
    router_pb2,
    http_inspector_pb2,
    original_dst_pb2,
    tls_inspector_pb2,
    http_connection_manager_pb2,
    tcp_proxy_pb2,
    cares_dns_resolver_pb2,
    uuid_pb2,
    previous_hosts_pb2,
    raw_buffer_pb2,
    tls_pb2,
    http_protocol_options_pb2,
)
_DESCRIPTORS = {
    descriptor.full_name: descriptor
    for module in _MODULES
    for descriptor in module.DESCRIPTOR.message_types_by_name.values()
}


def message_class(full_name: str) -> Any:
    """The generated class of a registered message. Raises ``KeyError`` for any other."""
    return GetMessageClass(_DESCRIPTORS[full_name])
