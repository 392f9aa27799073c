"""The PROXY header that a DestinationRule asks for: a transport socket around each socket of a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.base_pb2 import TransportSocket
from envoy.extensions.transport_sockets.proxy_protocol.v3.upstream_proxy_protocol_pb2 import (
    ProxyProtocolUpstreamTransport,
)

from controlplane.networking.messages import extension
from controlplane.networking.tls import RAW_BUFFER
from controlplane.resources.destination_rule import ProxyProtocol

_NAME: Final = "envoy.transport_sockets.upstream_proxy_protocol"


def apply_proxy_protocol(cluster: Cluster, settings: ProxyProtocol) -> None:
    """Call it when the cluster has its other sockets. TLS follows the header."""
    if not cluster.HasField("transport_socket") and not cluster.transport_socket_matches:
        cluster.transport_socket.CopyFrom(TransportSocket(**RAW_BUFFER))
    for socket in _sockets(cluster):
        around = ProxyProtocolUpstreamTransport(
            config={"version": settings.version.value}, transport_socket=socket
        )
        socket.CopyFrom(TransportSocket(**extension(_NAME, around)))


def _sockets(cluster: Cluster) -> Iterator[TransportSocket]:
    if cluster.HasField("transport_socket"):
        yield cluster.transport_socket
    for match in cluster.transport_socket_matches:
        yield match.transport_socket
