"""The clusters of a proxy's outbound side: one for each port of each service, and for each subset of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.base_pb2 import TransportSocket
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from google.protobuf.struct_pb2 import Struct

from controlplane.model.mesh_config import MeshConfig
from controlplane.model.service import Resolution, Service, ServiceEndpoint, ServicePort
from controlplane.networking.destination_rules import EffectivePolicy, effective_policy
from controlplane.networking.endpoints import dns_assignment
from controlplane.networking.identities import server_identities
from controlplane.networking.memo import memoized
from controlplane.networking.messages import ADS
from controlplane.networking.names import BLACK_HOLE_CLUSTER, PASSTHROUGH_CLUSTER, OutboundName
from controlplane.networking.scope import SidecarScope
from controlplane.networking.tls import RAW_BUFFER, mesh_client_tls, origin_tls
from controlplane.networking.traffic_policy import (
    apply_connection_pool,
    apply_outlier_detection,
    circuit_breakers,
    lb_policy,
    passes_through,
)
from controlplane.resources.destination_rule import ClientTLSSettings, DestinationRule, TLSMode
from protos.node import ISTIO_METADATA

Endpoints = tuple[ServiceEndpoint, ...]
_NO_ENDPOINTS: Final[Endpoints] = ()


@memoized(64)
def outbound_clusters(
    scope: SidecarScope, endpoints_by_host: Mapping[str, Endpoints]
) -> Mapping[str, Cluster]:
    """In the order of their services, the ones that belong to no service last."""
    clusters: dict[str, Cluster] = {}
    for service in scope.services.values():
        endpoints = endpoints_by_host.get(service.hostname, _NO_ENDPOINTS)
        of_service = _service_clusters(
            scope.mesh_config,
            service,
            scope.destination_rules.find(service),
            server_identities(service, endpoints, scope.mesh_config.trust_domain),
            # Only DNS clusters hold their endpoints; all others follow theirs over EDS.
            endpoints if _resolves_by_dns(service) else None,
        )
        clusters.update(of_service)
    clusters.update(_passthrough_clusters(scope.mesh_config))
    return clusters


@memoized(16384)
def _service_clusters(
    mesh_config: MeshConfig,
    service: Service,
    rule: DestinationRule | None,
    identities: frozenset[str],
    dns_endpoints: Endpoints | None,
) -> Mapping[str, Cluster]:
    clusters: dict[str, Cluster] = {}
    for port in service.ports:
        for subset in (None, *(rule.subsets if rule else ())):
            name = OutboundName(port.number, subset.name if subset else "", service.hostname)
            policy = effective_policy(rule, subset, port.number)
            cluster = _cluster(mesh_config, name, service, port, policy)
            if policy.tls is not None:
                _apply_tls_settings(cluster, policy.tls, name, port, identities)
            elif _can_have_sidecars(cluster, mesh_config, service):
                _apply_auto_mtls(cluster, name, port, identities)
            if cluster.type == Cluster.STRICT_DNS:
                assignment = dns_assignment(cluster.name, service, port, subset, dns_endpoints or ())
                _apply_names(cluster, service, assignment)
            clusters[cluster.name] = cluster
    return clusters


def _cluster(
    mesh_config: MeshConfig,
    name: OutboundName,
    service: Service,
    port: ServicePort,
    policy: EffectivePolicy,
) -> Cluster:
    cluster = Cluster(name=str(name))
    _apply_discovery(cluster, service, policy)
    apply_connection_pool(cluster, policy.connection_pool, port.protocol, mesh_config.connect_timeout)
    apply_outlier_detection(cluster, policy.outlier_detection)
    cluster.metadata.filter_metadata[ISTIO_METADATA].CopyFrom(service_metadata(service))
    return cluster


def _resolves_by_dns(service: Service) -> bool:
    return service.resolution in (Resolution.DNS, Resolution.DNS_ROUND_ROBIN)


def _apply_discovery(cluster: Cluster, service: Service, policy: EffectivePolicy) -> None:
    if service.resolution is Resolution.NONE or passes_through(policy.load_balancer):
        cluster.type = Cluster.ORIGINAL_DST
        cluster.lb_policy = Cluster.CLUSTER_PROVIDED
        return
    cluster.lb_policy = Cluster.LbPolicy.Value(lb_policy(policy.load_balancer))
    if service.resolution is Resolution.STATIC:
        cluster.type = Cluster.EDS
        source = Cluster.EdsClusterConfig(eds_config=ADS, service_name=cluster.name)
        cluster.eds_cluster_config.CopyFrom(source)
        return
    cluster.type = Cluster.STRICT_DNS
    cluster.dns_lookup_family = Cluster.V4_PREFERRED


def _apply_names(cluster: Cluster, service: Service, assignment: ClusterLoadAssignment) -> None:
    cluster.load_assignment.CopyFrom(assignment)
    names = sum(len(locality.lb_endpoints) for locality in assignment.endpoints)
    # A logical cluster uses one of a name's addresses for each new connection; Envoy takes one name in it.
    if service.resolution is Resolution.DNS_ROUND_ROBIN and names == 1:
        cluster.type = Cluster.LOGICAL_DNS


def _apply_tls_settings(
    cluster: Cluster,
    settings: ClientTLSSettings,
    name: OutboundName,
    port: ServicePort,
    identities: frozenset[str],
) -> None:
    """What the DestinationRule says, for every endpoint."""
    if settings.mode is TLSMode.ISTIO_MUTUAL:
        names = settings.subject_alt_names or identities
        socket = mesh_client_tls(settings.sni or name.sni, names, http2=port.protocol.is_http2)
    elif settings.mode is not TLSMode.DISABLE:
        socket = origin_tls(settings, name.hostname, http2=port.protocol.is_http2)
    else:
        return
    cluster.transport_socket.CopyFrom(TransportSocket(**socket))


def _apply_auto_mtls(
    cluster: Cluster, name: OutboundName, port: ServicePort, identities: frozenset[str]
) -> None:
    """Istio's auto mTLS: mesh TLS for endpoints whose metadata says ``tlsMode: istio``, plaintext for the
    rest."""
    mesh_tls = mesh_client_tls(name.sni, identities, http2=port.protocol.is_http2)
    with_sidecar = Struct()
    with_sidecar.update({"tlsMode": "istio"})
    matches = cluster.transport_socket_matches
    matches.add(name="tlsMode-istio", match=with_sidecar, transport_socket=mesh_tls)
    matches.add(name="tlsMode-disabled", match=Struct(), transport_socket=RAW_BUFFER)


def _can_have_sidecars(cluster: Cluster, mesh_config: MeshConfig, service: Service) -> bool:
    # An original destination has no endpoint metadata that could tell.
    known_endpoints = cluster.type != Cluster.ORIGINAL_DST
    return mesh_config.enable_auto_mtls and known_endpoints and not service.mesh_external


def service_metadata(service: Service) -> Struct:
    """What request metrics call the destination: ``services: [{host, name, namespace}]``."""
    names = {"host": service.hostname, "name": service.name, "namespace": service.namespace}
    metadata = Struct()
    metadata.update({"services": [names]})
    return metadata


@memoized(8)
def _passthrough_clusters(mesh_config: MeshConfig) -> Mapping[str, Cluster]:
    black_hole = Cluster(
        name=BLACK_HOLE_CLUSTER, type=Cluster.STATIC, connect_timeout=mesh_config.connect_timeout
    )
    passthrough = Cluster(
        name=PASSTHROUGH_CLUSTER,
        type=Cluster.ORIGINAL_DST,
        lb_policy=Cluster.CLUSTER_PROVIDED,
        connect_timeout=mesh_config.connect_timeout,
        circuit_breakers=circuit_breakers(None),
    )
    return {cluster.name: cluster for cluster in (black_hole, passthrough)}
