"""Generates ``xds.binpb``, the xDS messages that a sidecar knows: ``python -m protos.generate_xds``.

Sidecars load this file, which takes 0.5 MB of memory, instead of the generated code, which takes 5 MB and
0.1 s.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, Final

FILE: Final = Path(__file__).with_name("xds.binpb")

# With the files that they depend on. An Any of another type is unknown to a sidecar.
_FILES: Final = (
    "envoy.config.bootstrap.v3.bootstrap",
    "envoy.config.cluster.v3.cluster",
    "envoy.config.core.v3.base",
    "envoy.config.endpoint.v3.endpoint",
    "envoy.config.listener.v3.listener",
    "envoy.config.route.v3.route",
    "envoy.extensions.access_loggers.file.v3.file",
    "envoy.extensions.access_loggers.stream.v3.stream",
    "envoy.extensions.filters.http.cors.v3.cors",
    "envoy.extensions.filters.http.fault.v3.fault",
    "envoy.extensions.filters.http.grpc_stats.v3.config",
    "envoy.extensions.filters.http.grpc_web.v3.grpc_web",
    "envoy.extensions.filters.http.header_mutation.v3.header_mutation",
    "envoy.extensions.filters.http.health_check.v3.health_check",
    "envoy.extensions.filters.http.router.v3.router",
    "envoy.extensions.filters.listener.http_inspector.v3.http_inspector",
    "envoy.extensions.filters.listener.original_dst.v3.original_dst",
    "envoy.extensions.filters.listener.original_src.v3.original_src",
    "envoy.extensions.filters.listener.proxy_protocol.v3.proxy_protocol",
    "envoy.extensions.filters.listener.tls_inspector.v3.tls_inspector",
    "envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager",
    "envoy.extensions.filters.network.mongo_proxy.v3.mongo_proxy",
    "envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy",
    "envoy.extensions.network.dns_resolver.cares.v3.cares_dns_resolver",
    "envoy.extensions.request_id.uuid.v3.uuid",
    "envoy.extensions.retry.host.previous_hosts.v3.previous_hosts",
    "envoy.extensions.transport_sockets.proxy_protocol.v3.upstream_proxy_protocol",
    "envoy.extensions.transport_sockets.raw_buffer.v3.raw_buffer",
    "envoy.extensions.transport_sockets.tls.v3.tls",
    "envoy.extensions.upstreams.http.v3.http_protocol_options",
    "envoy.service.discovery.v3.discovery",
    "google.rpc.status",
    "protos.ca",
    "protos.istio_alpn",
    "protos.istio_metadata_exchange",
    "protos.istio_peer_metadata",
    "protos.istio_stats",
    "protos.nds",
    "udpa.annotations.sensitive",
    "udpa.type.v1.typed_struct",
    "validate.validate",
    "xds.type.v3.typed_struct",
)


def serialized_files() -> bytes:
    """Each file after those that it imports, as a length of four bytes and a ``FileDescriptorProto``. The
    files of protobuf itself are not among them: they come with its runtime."""
    files: dict[str, bytes] = {}
    for name in _FILES:
        files |= _with_dependencies(import_module(f"{name}_pb2").DESCRIPTOR)
    return b"".join(len(file).to_bytes(4, "big") + file for file in files.values())


def _with_dependencies(file: Any) -> dict[str, bytes]:
    if file.name.startswith("google/protobuf/"):
        return {}
    files: dict[str, bytes] = {}
    for dependency in file.dependencies:
        files |= _with_dependencies(dependency)
    return {**files, file.name: file.serialized_pb}


if __name__ == "__main__":
    FILE.write_bytes(serialized_files())
