from __future__ import annotations

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.base_pb2 import TransportSocket
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.transport_sockets.proxy_protocol.v3.upstream_proxy_protocol_pb2 import (
    ProxyProtocolUpstreamTransport,
)
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext, UpstreamTlsContext
from google.protobuf.json_format import MessageToDict

from controlplane.networking.build_cache import BuildCache
from controlplane.networking.proxy_protocol import apply_proxy_protocol
from controlplane.networking.secret_sources import clusters_with_sources, listeners_with_sources
from controlplane.networking.tls import RAW_BUFFER, mesh_client_tls, mesh_server_tls
from controlplane.resources.destination_rule import ProxyProtocol

DIRECTORY = "/var/run/identity"


def source(secret: str) -> dict[str, object]:
    return {
        "name": secret,
        "sds_config": {
            "path_config_source": {
                "path": f"{DIRECTORY}/{secret}.json",
                "watched_directory": {"path": DIRECTORY},
            },
            "resource_api_version": "V3",
        },
    }


def common_context(
    socket: TransportSocket, context: UpstreamTlsContext | DownstreamTlsContext
) -> dict[str, object]:
    assert socket.typed_config.Unpack(context)
    document: dict[str, object] = MessageToDict(context.common_tls_context, preserving_proto_field_name=True)
    return document


def mesh_cluster() -> Cluster:
    cluster = Cluster(name="reviews")
    mesh_tls = mesh_client_tls("sni", ["spiffe://cluster.local/ns/a/sa/b"], http2=False)
    cluster.transport_socket_matches.add(name="mesh", transport_socket=mesh_tls)
    cluster.transport_socket_matches.add(name="plain", transport_socket=RAW_BUFFER)
    return cluster


def test_a_tls_socket_behind_a_proxy_header_names_them_too() -> None:
    cluster = mesh_cluster()
    apply_proxy_protocol(cluster, ProxyProtocol())
    (changed,) = clusters_with_sources(BuildCache(), {"reviews": cluster}, DIRECTORY).values()
    around = ProxyProtocolUpstreamTransport()
    assert changed.transport_socket_matches[0].transport_socket.typed_config.Unpack(around)
    document = common_context(around.transport_socket, UpstreamTlsContext())
    assert document["tls_certificate_sds_secret_configs"] == [source("default")]


def test_clusters_name_the_files_of_the_secrets() -> None:
    cluster = mesh_cluster()
    before = cluster.SerializeToString(deterministic=True)
    (changed,) = clusters_with_sources(BuildCache(), {"reviews": cluster}, DIRECTORY).values()
    document = common_context(changed.transport_socket_matches[0].transport_socket, UpstreamTlsContext())
    assert document["tls_certificate_sds_secret_configs"] == [source("default")]
    combined = document["combined_validation_context"]
    assert isinstance(combined, dict)
    assert combined["validation_context_sds_secret_config"] == source("ROOTCA")
    assert combined["default_validation_context"], "the names of the peer stay"
    assert cluster.SerializeToString(deterministic=True) == before, "other proxies share the message"


def test_proxies_with_the_same_folder_share_the_result() -> None:
    cache, clusters = BuildCache(), {"reviews": mesh_cluster(), "plain": Cluster(name="plain")}
    first = clusters_with_sources(cache, clusters, DIRECTORY)
    second = clusters_with_sources(cache, clusters, DIRECTORY)
    assert first["reviews"] is second["reviews"]
    assert first["plain"] is clusters["plain"], "nothing to change"
    assert clusters_with_sources(cache, clusters, "/other")["reviews"] is not first["reviews"]


def test_inbound_listeners_name_the_files_of_the_secrets() -> None:
    listener = Listener(name="inbound")
    listener.filter_chains.add(name="mtls", transport_socket=mesh_server_tls("cluster.local", http=True))
    listener.filter_chains.add(name="plain")
    (changed,) = listeners_with_sources({"inbound": listener}, DIRECTORY).values()
    document = common_context(changed.filter_chains[0].transport_socket, DownstreamTlsContext())
    assert document["tls_certificate_sds_secret_configs"] == [source("default")]
    assert not changed.filter_chains[1].HasField("transport_socket")
