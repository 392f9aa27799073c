"""Where an Envoy finds the workload's certificate: files that its agent replaces (`protos.identity_files`).

A proxy without `Proxy.identity_dir` finds the secrets by name: a sidecar uses its own certificate, and an
Envoy the static secrets of its bootstrap file, which it reads once.

https://www.envoyproxy.io/docs/envoy/latest/configuration/security/secret
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.base_pb2 import TransportSocket
from envoy.config.core.v3.config_source_pb2 import ConfigSource
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.transport_sockets.proxy_protocol.v3.upstream_proxy_protocol_pb2 import (
    ProxyProtocolUpstreamTransport,
)
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext, UpstreamTlsContext

from controlplane.networking.build_cache import BuildCache, cached
from controlplane.networking.messages import packed
from protos.identity_files import secret_file
from protos.node import TRUST_BUNDLE_SECRET, WORKLOAD_CERTIFICATE_SECRET
from protos.type_urls import CLUSTER

_SECRETS: Final = frozenset({WORKLOAD_CERTIFICATE_SECRET, TRUST_BUNDLE_SECRET})


def clusters_with_sources(
    cache: BuildCache, clusters: Mapping[str, Cluster], directory: str
) -> dict[str, Cluster]:
    return {name: _cluster(cache, cluster, directory) for name, cluster in clusters.items()}


def listeners_with_sources(listeners: Mapping[str, Listener], directory: str) -> dict[str, Listener]:
    return {name: _listener(listener, directory) for name, listener in listeners.items()}


@cached(types=[CLUSTER])
def _cluster(cache: BuildCache, cluster: Cluster, directory: str) -> Cluster:
    del cache
    result = Cluster()
    result.CopyFrom(cluster)
    sockets = [match.transport_socket for match in result.transport_socket_matches]
    if result.HasField("transport_socket"):
        sockets.append(result.transport_socket)
    return result if _add_sources(sockets, directory) else cluster


def _listener(listener: Listener, directory: str) -> Listener:
    result = Listener()
    result.CopyFrom(listener)
    chains = [*result.filter_chains]
    if result.HasField("default_filter_chain"):
        chains.append(result.default_filter_chain)
    sockets = [chain.transport_socket for chain in chains if chain.HasField("transport_socket")]
    return result if _add_sources(sockets, directory) else listener


def _add_sources(sockets: Iterable[TransportSocket], directory: str) -> bool:
    """Returns whether any socket has changed."""
    changed = False
    for socket in sockets:
        around = ProxyProtocolUpstreamTransport()
        if socket.typed_config.Unpack(around) and _add_sources([around.transport_socket], directory):
            socket.typed_config.CopyFrom(packed(around))
            changed = True
        for context in (UpstreamTlsContext(), DownstreamTlsContext()):
            if socket.typed_config.Unpack(context) and _add_to_context(context, directory):
                socket.typed_config.CopyFrom(packed(context))
                changed = True
    return changed


def _add_to_context(context: UpstreamTlsContext | DownstreamTlsContext, directory: str) -> bool:
    common = context.common_tls_context
    secrets = [*common.tls_certificate_sds_secret_configs]
    if common.HasField("combined_validation_context"):
        secrets.append(common.combined_validation_context.validation_context_sds_secret_config)
    secrets = [secret for secret in secrets if secret.name in _SECRETS]
    for secret in secrets:
        secret.sds_config.CopyFrom(_source(secret.name, directory))
    return bool(secrets)


def _source(name: str, directory: str) -> ConfigSource:
    return ConfigSource(
        path_config_source={
            "path": f"{directory}/{secret_file(name)}",
            "watched_directory": {"path": directory},
        },
        resource_api_version="V3",
    )
