"""Resources for gRPC's xDS client, which replaces a sidecar (gRFC A27 and its successors).

A channel to ``xds:///reviews.default.svc.cluster.local:9080`` requests a listener of that name. Clients
ignore or reject unknown fields, so each resource has only the fields that they need.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import chain
from typing import Final

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_components_pb2 import Route, RouteAction, VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)

from controlplane.model.service import Resolution, Service
from controlplane.networking.addresses import split_authority
from controlplane.networking.build_cache import BuildCache, cached
from controlplane.networking.destination_rules import effective_policy, subset_of
from controlplane.networking.http_connection_manager import ROUTER
from controlplane.networking.messages import ADS, packed
from controlplane.networking.names import OutboundName
from controlplane.networking.route_filters import FAULT_FILTER, keep_faults
from controlplane.networking.scope import SidecarScope
from controlplane.networking.traffic_policy import max_requests
from controlplane.networking.virtual_hosts import http_routes
from protos.type_urls import CLUSTER, LISTENER, ROUTE

# The conditions that gRPC's client can retry on (gRFC A44).
_RETRY_ON: Final = frozenset(
    {"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"}
)


def grpc_listeners(
    cache: BuildCache, scope: SidecarScope, names: Collection[str] | None
) -> dict[str, Listener]:
    """``names`` are targets, ``<hostname>:<port>``; None means every port that a gRPC client could call."""
    asked = _every_target(scope) if names is None else names
    built = ((name, _listener(cache, scope, name)) for name in sorted(asked))
    return {name: listener for name, listener in built if listener is not None}


def grpc_clusters(
    cache: BuildCache, scope: SidecarScope, names: Collection[str] | None
) -> dict[str, Cluster]:
    asked = _every_cluster(scope) if names is None else names
    built = ((name, _cluster(cache, scope, name)) for name in sorted(asked))
    return {name: cluster for name, cluster in built if cluster is not None}


def _every_target(scope: SidecarScope) -> Iterable[str]:
    for service in scope.all_services():
        yield from (f"{service.hostname}:{port.number}" for port in service.ports)


def _every_cluster(scope: SidecarScope) -> Iterable[str]:
    for service in chain.from_iterable(scope.destinations.values()):
        rule = scope.destination_rules.find(service)
        for port in service.ports if service.resolution is Resolution.STATIC else ():
            for subset in ("", *(subset.name for subset in (rule.subsets if rule else ()))):
                yield str(OutboundName(port.number, subset, service.hostname))


def _reachable(declarations: Iterable[Service], port: int) -> Service | None:
    """Returns the first declaration of the port with an EDS cluster: the client supports no other
    clusters."""
    found = (each for each in declarations if each.port(port))
    return next((each for each in found if each.resolution is Resolution.STATIC), None)


@cached(types=[LISTENER])
def _listener(cache: BuildCache, scope: SidecarScope, name: str) -> Listener | None:
    del cache
    hostname, port = split_authority(name)
    if port is None or _reachable(scope.services.get(hostname, ()), port) is None:
        return None
    routes = str(OutboundName(port, "", hostname))
    manager = HttpConnectionManager(
        stat_prefix=name,
        rds={"config_source": ADS, "route_config_name": routes},
        http_filters=[FAULT_FILTER, ROUTER],
    )
    return Listener(name=name, api_listener={"api_listener": packed(manager)})


@cached(types=[ROUTE])
def grpc_route_config(cache: BuildCache, scope: SidecarScope, name: str) -> RouteConfiguration | None:
    """The routes of a target: ``outbound|<port>||<hostname>``."""
    del cache
    parsed = OutboundName.parse(name)
    declarations = scope.services.get(parsed.hostname, ()) if parsed else ()
    service = _reachable(declarations, parsed.port) if parsed else None
    if parsed is None or service is None or parsed.subset:
        return None
    # No default retries: the client itself retries requests that it has not sent.
    routes = http_routes(scope, service, parsed.port, retry_attempts=0, dialled=service.hostname)
    host = VirtualHost(
        name=f"{parsed.hostname}:{parsed.port}",
        domains=[f"{parsed.hostname}:{parsed.port}", parsed.hostname],
        routes=[_minimal(route) for route in routes],
    )
    return RouteConfiguration(name=name, virtual_hosts=[host])


def _minimal(route: Route) -> Route:
    """Keeps only the fields that the client reads. The client fails the calls of a route that does not
    forward."""
    if not route.HasField("route"):
        return Route(name=route.name, match=route.match, non_forwarding_action={})
    action = RouteAction()
    if route.route.HasField("weighted_clusters"):
        for cluster in route.route.weighted_clusters.clusters:
            action.weighted_clusters.clusters.add(name=cluster.name, weight=cluster.weight)
    else:
        action.cluster = route.route.cluster
    if route.route.timeout.ToTimedelta():
        action.max_stream_duration.max_stream_duration.CopyFrom(route.route.timeout)
    retry_on = [each for each in route.route.retry_policy.retry_on.split(",") if each in _RETRY_ON]
    if retry_on:
        action.retry_policy.retry_on = ",".join(retry_on)
        action.retry_policy.num_retries.CopyFrom(route.route.retry_policy.num_retries)
    minimal = Route(name=route.name, match=route.match, route=action)
    keep_faults(route, minimal)
    return minimal


@cached(types=[CLUSTER])
def _cluster(cache: BuildCache, scope: SidecarScope, name: str) -> Cluster | None:
    """A destination that does not exist also gets a cluster, without endpoints, so that only its own calls
    fail: the client does not use new routes before it has all of their clusters."""
    del cache
    parsed = OutboundName.parse(name)
    if parsed is None:
        return None
    service = _reachable(scope.destinations.get(parsed.hostname, ()), parsed.port)
    rule = scope.destination_rules.find(service) if service else None
    pool = effective_policy(rule, subset_of(rule, parsed.subset), parsed.port).connection_pool
    return Cluster(
        name=name,
        type=Cluster.EDS,
        eds_cluster_config={"eds_config": ADS, "service_name": name},
        lb_policy=Cluster.ROUND_ROBIN,
        # Always set, because the client's own default is 1024.
        circuit_breakers={"thresholds": [{"max_requests": max_requests(pool)}]},
    )


@cached()
def no_grpc_endpoints(cache: BuildCache, name: str) -> ClusterLoadAssignment | None:
    """The load assignment of a cluster whose destination does not exist."""
    del cache
    return ClusterLoadAssignment(cluster_name=name) if OutboundName.parse(name) else None
