"""The entry points of the builders: the resources of each type of proxy.

All are pure and synchronous, and their results are in a stable order. A resource that did not change since
the last snapshot, or is the same for another proxy, is the same message object: callers must not change it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import TypeVar

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration

from controlplane.model.proxy import Proxy, ProxyType
from controlplane.model.snapshot import MeshSnapshot
from controlplane.networking.build_cache import BuildCache
from controlplane.networking.clusters import outbound_clusters
from controlplane.networking.endpoints import outbound_endpoints
from controlplane.networking.grpc import (
    grpc_clusters,
    grpc_listeners,
    grpc_route_config,
    no_grpc_endpoints,
)
from controlplane.networking.headless import headless_endpoints
from controlplane.networking.inbound import inbound_clusters
from controlplane.networking.inbound_listeners import inbound_listeners
from controlplane.networking.name_table import name_table
from controlplane.networking.outbound_listeners import explicit_proxy_port, outbound_listeners
from controlplane.networking.own_workload import own_workload_metadata
from controlplane.networking.peer_authentication import PeerAuthentications, peer_authentications
from controlplane.networking.scope import scope_of
from controlplane.networking.secret_sources import clusters_with_sources, listeners_with_sources
from controlplane.networking.virtual_hosts import outbound_route_config
from protos.nds_pb2 import NameTable
from protos.type_urls import NAME_TABLE_NAME

MessageT = TypeVar("MessageT")


def build_listeners(
    cache: BuildCache, snapshot: MeshSnapshot, proxy: Proxy, names: Collection[str] | None = None
) -> dict[str, Listener]:
    """``names`` None: all that the proxy needs. A gRPC client always asks by name."""
    scope = scope_of(cache, snapshot, proxy)
    if proxy.type is ProxyType.GRPC:
        return grpc_listeners(cache, scope, names)
    own = own_workload_metadata(snapshot, proxy)
    headless = headless_endpoints(cache, scope, endpoints=snapshot.endpoints)
    listeners: dict[str, Listener] = {
        **outbound_listeners(cache, scope, headless, proxy, own),
        **inbound_listeners(snapshot, proxy, _policies(cache, snapshot), own),
    }
    if proxy.identity_dir:
        listeners = listeners_with_sources(listeners, proxy.identity_dir)
    return _named(listeners, names)


def build_clusters(
    cache: BuildCache, snapshot: MeshSnapshot, proxy: Proxy, names: Collection[str] | None = None
) -> dict[str, Cluster]:
    """``names`` None: all that the proxy needs. A gRPC client always asks by name."""
    scope = scope_of(cache, snapshot, proxy)
    if proxy.type is ProxyType.GRPC:
        return grpc_clusters(cache, scope, names)
    outbound = outbound_clusters(
        cache,
        scope,
        _policies(cache, snapshot),
        endpoints_by_host=snapshot.endpoints,
        explicit=explicit_proxy_port(scope, proxy) != 0,
    )
    clusters = {**outbound, **inbound_clusters(snapshot, proxy)}
    if proxy.identity_dir:
        clusters = clusters_with_sources(cache, clusters, proxy.identity_dir)
    return _named(clusters, names)


def build_routes(
    cache: BuildCache, snapshot: MeshSnapshot, proxy: Proxy, names: Collection[str]
) -> dict[str, RouteConfiguration]:
    """Returns the route configurations of these names, without the unknown ones."""
    scope = scope_of(cache, snapshot, proxy)
    if proxy.type is ProxyType.GRPC:
        return _built(lambda name: grpc_route_config(cache, scope, name), names)
    headless = headless_endpoints(cache, scope, endpoints=snapshot.endpoints)
    return _built(lambda name: outbound_route_config(cache, scope, name, headless=headless), names)


def build_endpoints(
    cache: BuildCache, snapshot: MeshSnapshot, proxy: Proxy, names: Collection[str]
) -> dict[str, ClusterLoadAssignment]:
    """Returns the load assignments of the EDS clusters of these names, without the unknown ones."""
    assignments = _built(lambda name: outbound_endpoints(cache, snapshot, proxy, name), names)
    if proxy.type is not ProxyType.GRPC:
        return assignments
    return {**_built(partial(no_grpc_endpoints, cache), names), **assignments}


def build_names(cache: BuildCache, snapshot: MeshSnapshot, proxy: Proxy) -> dict[str, NameTable]:
    """The one name table of a sidecar."""
    if proxy.type is not ProxyType.SIDECAR:
        return {}
    scope = scope_of(cache, snapshot, proxy)
    return {NAME_TABLE_NAME: name_table(cache, scope, endpoints=snapshot.endpoints)}


def _policies(cache: BuildCache, snapshot: MeshSnapshot) -> PeerAuthentications:
    return peer_authentications(cache, snapshot.peer_authentications, snapshot.mesh_config.root_namespace)


def _named(resources: Mapping[str, MessageT], names: Collection[str] | None) -> dict[str, MessageT]:
    if names is None:
        return dict(resources)
    return {name: resources[name] for name in sorted(names) if name in resources}


def _built(build: Callable[[str], MessageT | None], names: Collection[str]) -> dict[str, MessageT]:
    built = ((name, build(name)) for name in sorted(names))
    return {name: message for name, message in built if message is not None}
