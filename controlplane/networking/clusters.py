"""The clusters of a proxy's outbound side: one for each port of each service, and for each subset of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.base_pb2 import TransportSocket
from google.protobuf.struct_pb2 import Struct

from controlplane.model.mesh_config import MeshConfig
from controlplane.model.service import Resolution, Service, ServiceEndpoint, ServicePort
from controlplane.networking.build_cache import BuildCache, cached
from controlplane.networking.destination_rules import EffectivePolicy, effective_policy
from controlplane.networking.endpoints import (
    declared_endpoints,
    dns_assignment,
    endpoint_assignments,
    endpoints_by_dns,
    ports_in_mesh_tls,
)
from controlplane.networking.identities import server_identities
from controlplane.networking.messages import ADS
from controlplane.networking.names import BLACK_HOLE_CLUSTER, PASSTHROUGH_CLUSTER, OutboundName
from controlplane.networking.peer_authentication import PeerAuthentications
from controlplane.networking.proxy_protocol import apply_proxy_protocol
from controlplane.networking.scope import SidecarScope
from controlplane.networking.tls import RAW_BUFFER, mesh_client_tls, origin_tls
from controlplane.networking.traffic_policy import (
    HttpVersion,
    apply_connection_pool,
    apply_outlier_detection,
    circuit_breakers,
    http_version,
    lb_policy,
    passes_through,
)
from controlplane.resources.destination_rule import ClientTLSSettings, DestinationRule, Subset, TLSMode
from protos.node import ISTIO_METADATA
from protos.type_urls import CLUSTER

Endpoints = tuple[ServiceEndpoint, ...]
_NO_ENDPOINTS: Final[Endpoints] = ()


@cached(latest=("endpoints_by_host",), types=[CLUSTER])
def outbound_clusters(
    cache: BuildCache,
    scope: SidecarScope,
    policies: PeerAuthentications,
    *,
    endpoints_by_host: Mapping[str, Endpoints],
    explicit: bool,
) -> Mapping[str, Cluster]:
    """In the order of their services; clusters that belong to no service come last. ``explicit`` means that
    clients may request single endpoints of headless services through the explicit proxy."""
    clusters: dict[str, Cluster] = {}
    of_endpoints: dict[str, Cluster] = {}
    for service in chain.from_iterable(scope.destinations.values()):
        endpoints = declared_endpoints(
            cache, service, endpoints=endpoints_by_host.get(service.hostname, _NO_ENDPOINTS)
        )
        rule = scope.destination_rules.find(service)
        identities = server_identities(cache, service, scope.mesh_config.trust_domain, endpoints=endpoints)
        # Whether all endpoints are alike matters only if the proxy does not choose the endpoint.
        by_address = scope.redirected and service.headless
        alike = by_address or _may_pass_through(cache, service, rule)
        of_service = _service_clusters(
            cache,
            scope.mesh_config,
            service,
            rule,
            ports_in_mesh_tls(cache, service, policies, endpoints=endpoints) if alike else frozenset(),
            identities,
            endpoints_by_dns(cache, service, policies, endpoints=endpoints),
            by_address=by_address,
        )
        clusters.update(of_service)
        if explicit and service.headless and service.hostname in scope.services:
            of_endpoints |= _endpoint_clusters(
                cache, scope.mesh_config, service, rule, identities, policies, endpoints=endpoints
            )
    # A declared host takes precedence over the host of an endpoint.
    clusters = {**of_endpoints, **clusters}
    clusters.update(_passthrough_clusters(cache, scope.mesh_config))
    return clusters


@dataclass(frozen=True, slots=True, kw_only=True)
class _Destination:
    """The destination of one cluster. ``identities`` are the SPIFFE ids that its hosts may have;
    ``in_mesh_tls``: every endpoint accepts mesh TLS. ``by_address``: the client has chosen an endpoint."""

    service: Service
    port: ServicePort
    subset: Subset | None
    policy: EffectivePolicy
    identities: frozenset[str]
    in_mesh_tls: bool
    by_address: bool

    @property
    def name(self) -> OutboundName:
        return OutboundName(self.port.number, self.subset.name if self.subset else "", self.service.hostname)


@cached(types=[CLUSTER])
def _service_clusters(
    cache: BuildCache,
    mesh_config: MeshConfig,
    service: Service,
    rule: DestinationRule | None,
    ports_in_mesh_tls: frozenset[str],
    identities: frozenset[str],
    dns_endpoints: Endpoints,
    *,
    by_address: bool,
) -> Mapping[str, Cluster]:
    del cache
    clusters: dict[str, Cluster] = {}
    for port in service.ports:
        for subset in (None, *(rule.subsets if rule else ())):
            destination = _Destination(
                service=service,
                port=port,
                subset=subset,
                policy=effective_policy(rule, subset, port.number),
                identities=identities,
                in_mesh_tls=port.name in ports_in_mesh_tls,
                by_address=by_address and subset is None,
            )
            cluster = _cluster(mesh_config, destination)
            if cluster.type == Cluster.STRICT_DNS:
                _apply_dns_endpoints(cluster, destination, dns_endpoints)
            clusters[cluster.name] = cluster
            if destination.by_address:
                balanced = _cluster(mesh_config, replace(destination, by_address=False))
                balanced.name = destination.name.balanced
                clusters[balanced.name] = balanced
    return clusters


@cached(latest=("endpoints",), types=[CLUSTER])
def _endpoint_clusters(
    cache: BuildCache,
    mesh_config: MeshConfig,
    service: Service,
    rule: DestinationRule | None,
    identities: frozenset[str],
    policies: PeerAuthentications,
    *,
    endpoints: Endpoints,
) -> Mapping[str, Cluster]:
    """One cluster for each endpoint of a headless service that has its own host, and each port. They
    need no balancing and no pass-through."""
    del cache
    clusters: dict[str, Cluster] = {}
    for port in service.ports:
        destination = _Destination(
            service=service,
            port=port,
            subset=None,
            policy=replace(effective_policy(rule, None, port.number), load_balancer=None),
            identities=identities,
            in_mesh_tls=False,
            by_address=False,
        )
        model = _cluster(mesh_config, destination)
        model.ClearField("eds_cluster_config")
        model.type, model.lb_policy = Cluster.STATIC, Cluster.ROUND_ROBIN
        for hostname, assignment in endpoint_assignments(service, port, endpoints, policies):
            cluster = Cluster()
            cluster.CopyFrom(model)
            cluster.name = assignment.cluster_name = str(OutboundName(port.number, "", hostname))
            cluster.load_assignment.CopyFrom(assignment)
            clusters[cluster.name] = cluster
    return clusters


def _cluster(mesh_config: MeshConfig, destination: _Destination) -> Cluster:
    policy, pool = destination.policy, destination.policy.connection_pool
    version = http_version(pool, destination.port.protocol, mesh_upgrades=mesh_config.h2_upgrade)
    cluster = Cluster(name=str(destination.name))
    _apply_discovery(cluster, destination)
    apply_connection_pool(cluster, pool, version, mesh_config.connect_timeout)
    apply_outlier_detection(cluster, policy.outlier_detection)
    if policy.tls is not None:
        _apply_tls_settings(cluster, policy.tls, destination, version)
    elif mesh_config.enable_auto_mtls and not destination.service.mesh_external:
        _apply_auto_mtls(cluster, destination, version)
    if policy.proxy_protocol is not None:
        apply_proxy_protocol(cluster, policy.proxy_protocol)
    cluster.metadata.filter_metadata[ISTIO_METADATA].CopyFrom(service_metadata(destination.service))
    return cluster


def _may_pass_through(cache: BuildCache, service: Service, rule: DestinationRule | None) -> bool:
    return service.resolution is Resolution.NONE or (rule is not None and _has_passthrough(cache, rule))


@cached()
def _has_passthrough(cache: BuildCache, rule: DestinationRule) -> bool:
    del cache
    levels = [rule.traffic_policy, *(subset.traffic_policy for subset in rule.subsets)]
    policies = [policy for level in levels if level for policy in (level, *level.port_level_settings)]
    return any(passes_through(policy.load_balancer) for policy in policies)


def _apply_discovery(cluster: Cluster, destination: _Destination) -> None:
    service, policy = destination.service, destination.policy
    chosen = service.resolution is Resolution.NONE or destination.by_address
    if chosen or passes_through(policy.load_balancer):
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


def _apply_dns_endpoints(cluster: Cluster, destination: _Destination, endpoints: Endpoints) -> None:
    service = destination.service
    assignment = dns_assignment(cluster.name, service, destination.port, destination.subset, endpoints)
    cluster.load_assignment.CopyFrom(assignment)
    names = sum(len(locality.lb_endpoints) for locality in assignment.endpoints)
    # A logical cluster uses one of a name's addresses for each new connection; Envoy accepts only one name.
    if service.resolution is Resolution.DNS_ROUND_ROBIN and names == 1:
        cluster.type = Cluster.LOGICAL_DNS


def _apply_tls_settings(
    cluster: Cluster, settings: ClientTLSSettings, destination: _Destination, version: HttpVersion
) -> None:
    """The TLS settings of the DestinationRule, for every endpoint."""
    http2 = version is HttpVersion.HTTP2
    if settings.mode is TLSMode.DISABLE:
        return
    if settings.mode is TLSMode.ISTIO_MUTUAL:
        names = settings.subject_alt_names or destination.identities
        socket = mesh_client_tls(settings.sni or destination.name.sni, names, http2=http2)
    else:
        socket = origin_tls(settings, destination.service, http2=http2)
    cluster.transport_socket.CopyFrom(TransportSocket(**socket))


def _apply_auto_mtls(cluster: Cluster, destination: _Destination, version: HttpVersion) -> None:
    """Mesh TLS for endpoints whose metadata has ``tlsMode: istio``, plaintext for the others. An original
    destination has no metadata. As in Istio, mesh TLS is used there if every endpoint accepts it."""
    if cluster.type == Cluster.ORIGINAL_DST and not destination.in_mesh_tls:
        return
    http2 = version is HttpVersion.HTTP2
    mesh_tls = mesh_client_tls(destination.name.sni, destination.identities, http2=http2)
    if cluster.type == Cluster.ORIGINAL_DST:
        cluster.transport_socket.CopyFrom(TransportSocket(**mesh_tls))
        return
    with_sidecar = Struct()
    with_sidecar.update({"tlsMode": "istio"})
    matches = cluster.transport_socket_matches
    matches.add(name="tlsMode-istio", match=with_sidecar, transport_socket=mesh_tls)
    matches.add(name="tlsMode-disabled", match=Struct(), transport_socket=RAW_BUFFER)


def service_metadata(service: Service) -> Struct:
    """The destination in request metrics: ``services: [{host, name, namespace}]``."""
    names = {"host": service.hostname, "name": service.name, "namespace": service.namespace}
    metadata = Struct()
    metadata.update({"services": [names]})
    return metadata


@cached(types=[CLUSTER])
def _passthrough_clusters(cache: BuildCache, mesh_config: MeshConfig) -> Mapping[str, Cluster]:
    del cache
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
